/* Many processes with many files: crowd [PROCESSES [FILES]] forks PROCESSES children
 * (5000) that each open FILES files (20) out of a tree of 384 in /tmp/crowd, at offsets and
 * with flags of their own, and pause. The parent reports when all of them have. */
#include "lab.h"
#include <sys/resource.h>
#include <sys/stat.h>

#define FOLDERS 16
#define IN_EACH 24

static void name_of(char *path, size_t size, int file)
{
	snprintf(path, size, "/tmp/crowd/folder-%02d/file-%03d.data", file % FOLDERS, file);
}

static void make_tree(void)
{
	char path[64];
	mkdir("/tmp/crowd", 0755);
	for (int i = 0; i < FOLDERS; i++) {
		snprintf(path, sizeof path, "/tmp/crowd/folder-%02d", i);
		mkdir(path, 0755);
	}
	for (int i = 0; i < FOLDERS * IN_EACH; i++) {
		name_of(path, sizeof path, i);
		int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
		if (fd < 0 || write(fd, path, strlen(path)) < 0)
			_exit(2);
		close(fd);
	}
}

static NI void child(int number, int files)
{
	static const int flags[] = {O_RDONLY, O_WRONLY | O_APPEND, O_RDWR, O_RDONLY | O_CLOEXEC};
	char path[64];
	for (int i = 0; i < files; i++) {
		name_of(path, sizeof path, (number * 7 + i * 13) % (FOLDERS * IN_EACH));
		int fd = open(path, flags[(number + i) % 4]);
		if (fd < 0 || lseek(fd, number * 100 + i, SEEK_SET) < 0)
			_exit(3);
	}
}

static NI void crowd_block(void)
{
	ENTER(crowd_block);
	lab_report("crowd", "parent", "pause", "");
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	int processes = argc > 1 ? atoi(argv[1]) : 5000;
	int files = argc > 2 ? atoi(argv[2]) : 20;
	int ready[2];
	ENTER(main);
	struct rlimit most = {65536, 65536};
	if (setrlimit(RLIMIT_NOFILE, &most) || pipe(ready))
		return 1;
	make_tree();
	for (int i = 0; i < processes; i++) {
		pid_t pid = fork();
		if (pid < 0) {
			perror("crowd: fork");
			return 1;
		}
		if (!pid) {
			close(ready[0]);
			child(i, files);
			if (write(ready[1], "", 1) != 1)
				_exit(4);
			close(ready[1]);
			for (;;)
				pause();
		}
	}
	close(ready[1]);
	char some[4096];
	ssize_t got;
	int there = 0;
	while (there < processes && (got = read(ready[0], some, sizeof some)) > 0)
		there += (int)got;
	if (there != processes) {
		fprintf(stderr, "crowd: %d of %d are there\n", there, processes);
		return 1;
	}
	close(ready[0]);
	crowd_block();
	return 0;
}
