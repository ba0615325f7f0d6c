/* PID 1 of a lab guest. /etc/modules: module files, in load order. /etc/lab: one
 * program a line, "<cpu or -> <argv...>"; first line "reports <n>" says how many
 * thread reports to wait for in /run/lab. Then the collector is started; a line
 * "drop-caches" in /etc/lab is passed on to it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int reports(void)
{
	DIR *d = opendir("/run/lab");
	struct dirent *e;
	int n = 0;
	if (!d)
		return 0;
	while ((e = readdir(d))) {
		size_t l = strlen(e->d_name);
		if (l > 5 && !strcmp(e->d_name + l - 5, ".json"))
			n++;
	}
	closedir(d);
	return n;
}

static void spawn(char *line)
{
	char *av[32];
	int n = 0;
	for (char *t = strtok(line, " \n"); t && n < 31; t = strtok(0, " \n"))
		av[n++] = t;
	av[n] = 0;
	if (n < 2)
		return;
	pid_t p = fork();
	if (!p) {
		if (av[0][0] != '-') {
			cpu_set_t s;
			CPU_ZERO(&s);
			CPU_SET(atoi(av[0]), &s);
			sched_setaffinity(0, sizeof s, &s);
		}
		setsid();
		execv(av[1], av + 1);
		perror(av[1]);
		_exit(127);
	}
}

int main(void)
{
	char line[1024];
	FILE *f;
	int want = 0;
	char *drop = 0;
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mkdir("/run", 0755);
	mkdir("/tmp", 01777);
	mount("proc", "/proc", "proc", 0, 0);
	mount("sysfs", "/sys", "sysfs", 0, 0);
	mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
	mkdir("/dev/pts", 0755);
	mount("devpts", "/dev/pts", "devpts", 0, 0);
	mount("tmpfs", "/run", "tmpfs", 0, "mode=755");
	mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777");
	int fd = open("/dev/console", O_RDWR);
	if (fd >= 0) {
		dup2(fd, 0);
		dup2(fd, 1);
		dup2(fd, 2);
		if (fd > 2)
			close(fd);
	}
	mkdir("/run/lab", 0777);
	chmod("/run/lab", 0777);
	setenv("PATH", "/bin", 1);
	setenv("LAB", "1", 1);
	if ((f = fopen("/etc/hostname", "re"))) {
		if (fgets(line, sizeof line, f)) {
			line[strcspn(line, "\n")] = 0;
			if (sethostname(line, strlen(line)))
				perror("hostname");
		}
		fclose(f);
	}
	if ((f = fopen("/etc/modules", "re"))) {
		while (fgets(line, sizeof line, f)) {
			line[strcspn(line, "\n")] = 0;
			int m = open(line, O_RDONLY | O_CLOEXEC);
			if (m < 0 || syscall(SYS_finit_module, m, "", 0))
				perror(line);
			if (m >= 0)
				close(m);
			unlink(line);
		}
		fclose(f);
	}
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r;
	memset(&r, 0, sizeof r);
	strcpy(r.ifr_name, "lo");
	r.ifr_flags = IFF_UP | IFF_RUNNING;
	ioctl(s, SIOCSIFFLAGS, &r);
	close(s);
	if ((f = fopen("/etc/lab", "re"))) {
		while (fgets(line, sizeof line, f)) {
			if (!strncmp(line, "reports ", 8))
				want = atoi(line + 8);
			else if (!strncmp(line, "drop-caches", 11))
				drop = (char *)"drop-caches";
			else
				spawn(line);
		}
		fclose(f);
	}
	for (int i = 0; i < 900 && reports() < want; i++)
		usleep(100000);
	printf("lab: %d of %d reports\n", reports(), want);
	fflush(stdout);
	sleep(2);
	pid_t p = fork();
	if (!p) {
		char *av[] = {(char *)"collect", (char *)"/dev/vport0p1", drop, 0};
		execv("/bin/collect", av);
		perror("collect");
		_exit(127);
	}
	for (;;) {
		int st;
		pid_t w = waitpid(-1, &st, 0);
		if (w < 0)
			sleep(1000);
		else if (w == p) {
			printf("lab: collector ended %x\n", st);
			fflush(stdout);
		}
	}
}
