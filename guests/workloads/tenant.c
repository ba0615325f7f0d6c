/* What runs in a container, or in a service with namespaces of its own:
 *   tenant LABEL PORT [ADDRESS PORT]
 * TCP, UDP, UNIX, netlink and packet sockets, a connection to itself and (tried for half a
 * minute) one to ADDRESS, and files of the kinds that have no ordinary path. When all are
 * there it makes /run/tenants/LABEL and pauses. Linked statically: its root may be bare. */
#include "lab.h"
#include <arpa/inet.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>

static const char *label;

static void must(int right, const char *what)
{
	if (right)
		return;
	fprintf(stderr, "tenant %s: %s: %s\n", label, what, strerror(errno));
	_exit(1);
}

static int connected(const char *address, int port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	must(inet_pton(AF_INET, address, &to.sin_addr) == 1, address);
	for (int i = 0; i < 300; i++) {
		int s = socket(AF_INET, SOCK_STREAM, 0);
		if (!connect(s, (struct sockaddr *)&to, sizeof to))
			return s;
		close(s);
		usleep(100000);
	}
	return -1;
}

static void network(int port)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	struct sockaddr_in6 any6 = {.sin6_family = AF_INET6,
				    .sin6_port = htons((uint16_t)(port + 1))};
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int one = 1, pair[2];
	int l = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	must(!bind(l, (struct sockaddr *)&any, sizeof any) && !listen(l, 16), "tcp");
	must(connected("127.0.0.1", port) >= 0 && accept(l, 0, 0) >= 0, "a tcp connection");
	int u = socket(AF_INET, SOCK_DGRAM, 0);
	must(!bind(u, (struct sockaddr *)&any, sizeof any), "udp");
	int l6 = socket(AF_INET6, SOCK_STREAM, 0);
	setsockopt(l6, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
	must(!bind(l6, (struct sockaddr *)&any6, sizeof any6) && !listen(l6, 16), "tcp6");
	int u6 = socket(AF_INET6, SOCK_DGRAM, 0);
	must(!bind(u6, (struct sockaddr *)&any6, sizeof any6), "udp6");
	any6.sin6_addr = in6addr_loopback;
	int c6 = socket(AF_INET6, SOCK_STREAM, 0);
	must(!connect(c6, (struct sockaddr *)&any6, sizeof any6), "a tcp6 connection");
	int x = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(name.sun_path, sizeof name.sun_path, "/tmp/%s.sock", label);
	unlink(name.sun_path);
	must(!bind(x, (struct sockaddr *)&name, sizeof name) && !listen(x, 4), "unix");
	int y = socket(AF_UNIX, SOCK_STREAM, 0);
	must(!connect(y, (struct sockaddr *)&name, sizeof name), "a unix connection");
	int z = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	int n = snprintf(name.sun_path, sizeof name.sun_path, "%clab-%s", 0, label);
	must(!bind(z, (struct sockaddr *)&name, (socklen_t)(sizeof(sa_family_t) + (size_t)n)) &&
		     !listen(z, 1),
	     "an abstract unix socket");
	must(!socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), "a pair of sockets");
	socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	socket(AF_PACKET, SOCK_RAW, htons(0x88b5));
}

static void files(void)
{
	char path[100];
	sigset_t set;
	int p[2];
	snprintf(path, sizeof path, "/tmp/%s.deleted", label);
	int fd = open(path, O_CREAT | O_RDWR, 0600);
	must(fd >= 0 && write(fd, path, strlen(path)) > 0 && !unlink(path), path);
	snprintf(path, sizeof path, "/tmp/%s.kept", label);
	fd = open(path, O_CREAT | O_RDWR | O_APPEND, 0644);
	must(fd >= 0 && write(fd, path, strlen(path)) > 0, path);
	snprintf(path, sizeof path, "lab-%s", label);
	must(syscall(SYS_memfd_create, path, 0) >= 0, "a memfd");
	snprintf(path, sizeof path, "/tmp/%s.gone", label);
	must(!mkdir(path, 0700) && open(path, O_RDONLY | O_DIRECTORY) >= 0 && !rmdir(path), path);
	must(!pipe(p), "a pipe");
	snprintf(path, sizeof path, "/tmp/%s.fifo", label);
	must(!mkfifo(path, 0600) && open(path, O_RDWR) >= 0, path);
	int e = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = {.events = EPOLLIN};
	must(e >= 0 && !epoll_ctl(e, EPOLL_CTL_ADD, p[0], &event), "epoll");
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	must(eventfd(7, 0) >= 0 && timerfd_create(CLOCK_MONOTONIC, 0) >= 0 &&
		     signalfd(-1, &set, 0) >= 0,
	     "eventfd, timerfd, signalfd");
	must(inotify_add_watch(inotify_init(), "/tmp", IN_CREATE) >= 0, "inotify");
	/* those may be missing, from the kernel or from a bare root */
	syscall(SYS_pidfd_open, getpid(), 0);
	open("/proc/self/ns/net", O_RDONLY);
	open("/proc/self/ns/user", O_RDONLY);
	open("/proc/self/status", O_RDONLY);
	open("/etc/hostname", O_PATH);
	open("/dev/zero", O_RDONLY);
	open("/", O_RDONLY | O_DIRECTORY);
	/* mappings that are neither files nor anonymous */
	mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
}

int main(int argc, char **argv)
{
	char path[100];
	if (argc < 3)
		return 2;
	label = argv[1];
	files();
	network(atoi(argv[2]));
	if (argc > 4)
		must(connected(argv[3], atoi(argv[4])) >= 0, "a connection to another machine");
	mkdir("/run/tenants", 0777);
	snprintf(path, sizeof path, "/run/tenants/%s", label);
	int fd = open(path, O_CREAT | O_WRONLY, 0644);
	must(fd >= 0, path);
	close(fd);
	for (;;)
		pause();
}
