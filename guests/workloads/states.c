/* Process-list corner cases. One parent (states) with children:
 *   zombie; stopped; uid 1000; odd comm; long command line; deleted executable;
 *   memfd executable; own PID+UTS+IPC+network+mount namespaces; session leader;
 *   vfork-blocked parent. Each child but the zombie reports itself. */
#include "lab.h"
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <netinet/in.h>
#ifndef WL
#define WL "states"
#endif
static NI void st_block(const char *label)
{
	ENTER(st_block);
	lab_report(WL, label, "nanosleep", "");
	NAP_FOREVER();
	lab_sink++;
}

/* Sockets of the inner network namespace. */
static void st_listen(void)
{
	struct sockaddr_in s;
	int l = socket(AF_INET, SOCK_STREAM, 0), d = socket(AF_INET, SOCK_DGRAM, 0);
	memset(&s, 0, sizeof s);
	s.sin_family = AF_INET;
	s.sin_port = htons(9009);
	if (bind(l, (struct sockaddr *)&s, sizeof s) || listen(l, 4))
		lab_sink++;
	s.sin_port = htons(9010);
	if (bind(d, (struct sockaddr *)&s, sizeof s))
		lab_sink++;
}

static NI int st_vchild(void)
{
	for (;;) {
		struct timespec t = {100000, 0};
		nanosleep(&t, 0);
	}
	return 0;
}

static void copy_exec(const char *dst, int memfd, const char *label)
{
	char b[65536], self[64];
	ssize_t r;
	int in = open("/proc/self/exe", O_RDONLY);
	int out = memfd ? (int)syscall(SYS_memfd_create, "memfd-name", 0)
			: open(dst, O_CREAT | O_WRONLY | O_TRUNC, 0755);
	while ((r = read(in, b, sizeof b)) > 0)
		if (write(out, b, (size_t)r) != r)
			_exit(3);
	close(in);
	snprintf(self, sizeof self, "/proc/self/fd/%d", out);
	if (!memfd) {
		close(out);
		execl(dst, dst, label, (char *)0);
	} else
		execl(self, "memfd-program", label, (char *)0);
	_exit(4);
}

int main(int argc, char **argv)
{
	ENTER(main);
	if (argc > 1) { /* re-executed copy */
		if (!strcmp(argv[1], "deleted-exe"))
			unlink(argv[0]);
		st_block(argv[1]);
	}
	pid_t p;
	if (!fork())
		_exit(7); /* zombie: never waited for */
	if (!(p = fork())) {
		lab_report(WL, "stopped", "stopped", "SIGSTOP");
		raise(SIGSTOP);
		for (;;)
			pause();
	}
	if (!fork()) {
		if (setgid(1000) || setuid(1000))
			_exit(2);
		st_block("uid1000");
	}
	if (!fork()) {
		prctl(PR_SET_NAME, "a) (b \xc3\xa9\n\"x\\", 0, 0, 0);
		/* lab_report quotes nothing: report under a plain name, then rename */
		prctl(PR_SET_NAME, "odd", 0, 0, 0);
		ENTER(main);
		lab_report(WL, "odd-comm", "nanosleep",
			   "comm is then set to bytes 61 29 20 28 62 20 c3 a9 0a 22 78 5c");
		prctl(PR_SET_NAME, "a) (b \xc3\xa9\n\"x\\", 0, 0, 0);
		NAP_FOREVER();
	}
	if (!fork()) {
		char *av[70];
		av[0] = argv[0];
		av[1] = (char *)"long-cmdline";
		for (int i = 2; i < 69; i++) {
			av[i] = (char *)malloc(100);
			memset(av[i], 'a' + i % 26, 99);
			av[i][99] = 0;
		}
		av[69] = 0;
		execv("/proc/self/exe", av);
		_exit(5);
	}
	if (!fork())
		copy_exec("/tmp/deleted-program", 0, "deleted-exe");
	if (!fork())
		copy_exec(0, 1, "memfd-exe");
	if (!fork()) {
		if (unshare(CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET |
			    CLONE_NEWNS)) {
			lab_report(WL, "ns-failed", "-", "");
		}
		if (!fork()) {
			if (sethostname("inner-host", 10))
				lab_sink++;
			st_listen();
			setsid();
			ENTER(main);
			/* inside, getpid() is 1; lab_report names the file by that pid, so say so
			 */
			lab_report(WL, "container-init", "nanosleep",
				   "pid and tid are those of the inner namespace");
			NAP_FOREVER();
		}
		st_block("container-parent");
	}
	if (!fork()) {
		ENTER(main);
		lab_report(WL, "vfork-parent", "vfork", "uninterruptible wait for its vfork child");
		if (!vfork()) {
			st_vchild();
			_exit(0);
		}
		st_block("never");
	}
	/* sockets: TCP connection to itself, UDP, UNIX (path, abstract, pair) */
	{
		struct sockaddr_in s;
		struct sockaddr_un u;
		int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0), a, d,
		    x, pr[2];
		memset(&s, 0, sizeof s);
		s.sin_family = AF_INET;
		s.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		s.sin_port = htons(8008);
		if (bind(l, (struct sockaddr *)&s, sizeof s) || listen(l, 4) ||
		    connect(c, (struct sockaddr *)&s, sizeof s))
			lab_sink++;
		a = accept(l, 0, 0);
		d = socket(AF_INET, SOCK_DGRAM, 0);
		s.sin_port = htons(5353);
		if (bind(d, (struct sockaddr *)&s, sizeof s))
			lab_sink++;
		x = socket(AF_UNIX, SOCK_STREAM, 0);
		memset(&u, 0, sizeof u);
		u.sun_family = AF_UNIX;
		strcpy(u.sun_path, "/run/lab.sock");
		if (bind(x, (struct sockaddr *)&u, sizeof u) || listen(x, 1))
			lab_sink++;
		x = socket(AF_UNIX, SOCK_DGRAM, 0);
		memset(&u, 0, sizeof u);
		u.sun_family = AF_UNIX;
		memcpy(u.sun_path, "\0lab-abstract", 13);
		if (bind(x, (struct sockaddr *)&u, (socklen_t)(sizeof(sa_family_t) + 13)))
			lab_sink++;
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pr))
			lab_sink++;
		lab_sink += (unsigned long)a;
	}
	st_block("main");
	return 0;
}
