/* Files of every kind that a page cache holds, made by init before the programs start:
 * on tmpfs /tmp/lab-files, on ramfs /srv/lab (holes of ramfs are pages once they were
 * read), and an overlay of the two in /mnt/overlay. */
#ifndef LAB_FILES_H
#define LAB_FILES_H
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAB_TMPFS "/tmp/lab-files"
#define LAB_MANY "/tmp/lab-many"
#define LAB_RAMFS "/srv/lab"

/* Bytes that neither repeat nor compress (xorshift64). */
static void lab_fill(int fd, off_t at, size_t n, uint64_t seed)
{
	static uint64_t buf[512];
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + 1;
	while (n) {
		size_t k = n < sizeof buf ? n : sizeof buf;
		for (size_t i = 0; i < 512; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			buf[i] = x;
		}
		ssize_t w = pwrite(fd, buf, k, at);
		if (w <= 0) {
			perror("lab file");
			return;
		}
		at += w;
		n -= (size_t)w;
	}
}

static int lab_create(const char *dir, const char *name)
{
	char path[300];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	int fd = open(path, O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		perror(path);
	return fd;
}

/* A file of n bytes. */
static void lab_file(const char *dir, const char *name, size_t n, uint64_t seed)
{
	int fd = lab_create(dir, name);
	if (fd < 0)
		return;
	lab_fill(fd, 0, n, seed);
	close(fd);
}

/* A file of `size` bytes: pieces of n bytes, `gap` bytes from the start of one to the next. */
static void lab_sparse(const char *dir, const char *name, off_t size, off_t gap, size_t n)
{
	int fd = lab_create(dir, name);
	if (fd < 0)
		return;
	if (ftruncate(fd, size))
		perror(name);
	for (off_t at = 0; gap && at + (off_t)n <= size; at += gap)
		lab_fill(fd, at, n, (uint64_t)at + 3);
	close(fd);
}

static void lab_overlay(void)
{
	static const char *const dirs[] = {"/tmp/overlay", "/tmp/overlay/lower",
					   "/tmp/overlay/upper", "/tmp/overlay/work",
					   "/mnt", "/mnt/overlay"};
	for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++)
		mkdir(dirs[i], 0755);
	lab_file("/tmp/overlay/lower", "below", 9000, 71);
	lab_file("/tmp/overlay/lower", "changed", 9000, 72);
	lab_file("/tmp/overlay/lower", "hidden", 100, 73);
	if (mount("overlay", "/mnt/overlay", "overlay", 0,
		  "lowerdir=/tmp/overlay/lower,upperdir=/tmp/overlay/upper,workdir=/tmp/"
		  "overlay/work"))
		return; /* a kernel without it */
	lab_file("/mnt/overlay", "above", 5000, 74);
	lab_file("/mnt/overlay", "changed", 12345, 75);
	unlink("/mnt/overlay/hidden");
}

static void lab_files(void)
{
	char name[32];
	int fd;
	mkdir(LAB_TMPFS, 0755);
	mkdir("/srv", 0755);
	mount("ramfs", "/srv", "ramfs", 0, "mode=755");
	mkdir(LAB_RAMFS, 0755);

	lab_file(LAB_TMPFS, "empty", 0, 0);
	lab_file(LAB_TMPFS, "byte", 1, 1);
	lab_file(LAB_TMPFS, "page", 4096, 2);
	lab_file(LAB_TMPFS, "page-and-one", 4097, 3);
	lab_file(LAB_TMPFS, "large", (3 << 20) + 17, 4);
	lab_file(LAB_TMPFS, "name with space", 700, 5);
	lab_file(LAB_TMPFS, "na\xc3\xafve \xe2\x82\xac", 701, 6);
	lab_file(LAB_TMPFS, "line\nbreak", 702, 7);
	lab_file(LAB_TMPFS, "a-name-longer-than-what-fits-inside-a-dentry-itself", 703, 8);
	lab_sparse(LAB_TMPFS, "holes", 20 << 20, 3000000, 5000);
	lab_sparse(LAB_TMPFS, "hole-at-end", (9 << 20) + 5, 16 << 20, 6000);
	lab_sparse(LAB_TMPFS, "only-a-hole", 1 << 20, 0, 0);
	/* shorter than it was: what is left of the last page is not the file's */
	lab_file(LAB_TMPFS, "truncated", 70000, 9);
	if (truncate(LAB_TMPFS "/truncated", 10001))
		perror("truncated");
	/* pages that are there and were never written */
	if ((fd = lab_create(LAB_TMPFS, "allocated")) >= 0) {
		if (posix_fallocate(fd, 0, 40000))
			fprintf(stderr, "lab: no fallocate\n");
		lab_fill(fd, 8192, 100, 10);
		close(fd);
	}
	lab_file(LAB_TMPFS, "old-name", 800, 11);
	rename(LAB_TMPFS "/old-name", LAB_TMPFS "/new-name");
	lab_file(LAB_TMPFS, "removed", 801, 12);
	unlink(LAB_TMPFS "/removed");
	if (link(LAB_TMPFS "/page", LAB_TMPFS "/hard-link"))
		perror("hard-link");
	if (symlink("page", LAB_TMPFS "/link") || symlink("/nowhere", LAB_TMPFS "/dangling"))
		perror("link");
	if (mkfifo(LAB_TMPFS "/fifo", 0600))
		perror("fifo");
	mkdir(LAB_TMPFS "/a", 0750);
	mkdir(LAB_TMPFS "/a/b", 0755);
	mkdir(LAB_TMPFS "/a/b/c", 0755);
	lab_file(LAB_TMPFS "/a/b/c", "deep", 900, 13);
	mkdir(LAB_MANY, 0755);
	for (int i = 0; i < 150; i++) {
		snprintf(name, sizeof name, "f%03d", i);
		lab_file(LAB_MANY, name, 0, 0);
	}
	if (chown(LAB_TMPFS "/byte", 1000, 100) || chmod(LAB_TMPFS "/byte", 04750))
		perror("byte");

	lab_file(LAB_RAMFS, "plain", 50000, 20);
	lab_sparse(LAB_RAMFS, "sparse", (2 << 20) + 100, 700000, 4000);
	lab_overlay();
}
#endif
