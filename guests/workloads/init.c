/* PID 1 of a lab guest. /etc/modules: module files, in load order. /etc/lab: one
 * program a line, "<cpu or -> <argv...>"; first line "reports <n>" says how many
 * thread reports to wait for in /run/lab. Then the collector is started; lines
 * "drop-caches" and "sample <name> <n>" in /etc/lab are passed on to it, a line "files"
 * makes the files of files.h. Every program gets a control group of its own, where the
 * kernel has them. */
#define _GNU_SOURCE
#include "files.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CGROUPS "/sys/fs/cgroup"

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

/* The calling process into a control group of its own: lab.slice/NUMBER-NAME.scope. */
static void join_cgroup(int number, const char *program)
{
	char path[300];
	const char *name = strrchr(program, '/');
	snprintf(path, sizeof path, CGROUPS "/lab.slice/%d-%s.scope", number,
		 name ? name + 1 : program);
	if (mkdir(path, 0755))
		return;
	strncat(path, "/cgroup.procs", sizeof path - strlen(path) - 1);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		perror(path);
	close(fd);
}

static void address(int s, const char *interface, const char *ip)
{
	struct ifreq r;
	struct sockaddr_in a = {.sin_family = AF_INET};
	memset(&r, 0, sizeof r);
	strncpy(r.ifr_name, interface, sizeof r.ifr_name - 1);
	inet_pton(AF_INET, ip, &a.sin_addr);
	memcpy(&r.ifr_addr, &a, sizeof a);
	if (ioctl(s, SIOCSIFADDR, &r))
		return; /* no such interface here */
	inet_pton(AF_INET, "255.255.255.0", &a.sin_addr);
	memcpy(&r.ifr_netmask, &a, sizeof a);
	if (ioctl(s, SIOCSIFNETMASK, &r))
		perror(interface);
}

static void up(int s, const char *interface)
{
	struct ifreq r;
	memset(&r, 0, sizeof r);
	strncpy(r.ifr_name, interface, sizeof r.ifr_name - 1);
	r.ifr_flags = IFF_UP | IFF_RUNNING;
	ioctl(s, SIOCSIFFLAGS, &r);
}

/* What the kernel's command line says to a module: its words NAME.PARAMETER=VALUE, which modprobe would
 * pass on. (microvm tells so where its virtio devices are.) */
static const char *module_words(const char *path)
{
	static char words[4096], line[4096];
	char name[64];
	const char *base = strrchr(path, '/');
	snprintf(name, sizeof name, "%s", base ? base + 1 : path);
	name[strcspn(name, ".")] = '.';
	name[strcspn(name, ".") + 1] = 0;
	words[0] = 0;
	FILE *f = fopen("/proc/cmdline", "re");
	if (!f)
		return words;
	if (fgets(line, sizeof line, f))
		for (char *t = strtok(line, " \n"); t; t = strtok(0, " \n"))
			if (!strncmp(t, name, strlen(name))) {
				strncat(words, t + strlen(name), sizeof words - strlen(words) - 1);
				strncat(words, " ", sizeof words - strlen(words) - 1);
			}
	fclose(f);
	return words;
}

static void spawn(char *line)
{
	static int number;
	char *av[32];
	int n = 0;
	for (char *t = strtok(line, " \n"); t && n < 31; t = strtok(0, " \n"))
		av[n++] = t;
	av[n] = 0;
	if (n < 2)
		return;
	number++;
	pid_t p = fork();
	if (!p) {
		join_cgroup(number, av[1]);
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
	int want = 0, every;
	char name[41];
	char *drop = 0, sample[64] = "";
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
	if (!mount("cgroup2", CGROUPS, "cgroup2", 0, 0))
		mkdir(CGROUPS "/lab.slice", 0755);
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
			if (m < 0 || syscall(SYS_finit_module, m, module_words(line), 0))
				perror(line);
			if (m >= 0)
				close(m);
			unlink(line);
		}
		fclose(f);
	}
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	up(s, "lo");
	address(s, "dummy0", "10.77.0.1");
	address(s, "dummy0:1", "10.77.0.2");
	up(s, "dummy0");
	close(s);
	if ((f = fopen("/etc/lab", "re"))) {
		while (fgets(line, sizeof line, f)) {
			if (!strncmp(line, "reports ", 8))
				want = atoi(line + 8);
			else if (!strncmp(line, "drop-caches", 11))
				drop = (char *)"drop-caches";
			else if (!strncmp(line, "files", 5))
				lab_files();
			else if (sscanf(line, "sample %40s %d", name, &every) == 2)
				snprintf(sample, sizeof sample, "sample=%s:%d", name, every);
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
		char *av[5] = {(char *)"collect", (char *)"/dev/vport0p1"};
		int n = 2;
		if (drop)
			av[n++] = drop;
		if (*sample)
			av[n++] = sample;
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
