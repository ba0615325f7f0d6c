/* Guest-side collector. Sends what /proc and /sys say, unparsed, through the
 * virtio-serial port given as argv[1], says LAB-READY on the console, then waits
 * for a line from the host. On "GO" it runs ptunwind over the listed processes.
 * Stream: "@F <len> <path>\n<bytes>" (a path may come in several pieces, to be
 * joined), "@L <len> <path>\n<link target>", "@P <pid> <va> <pages>\n<8-byte
 * pagemap entries>", "@M <text>\n". Words after the port: with drop-caches the dentries
 * and inodes that the collection left behind are dropped before the last pass; with
 * sample=NAME:N of the processes called NAME only those whose number N divides are told
 * in full, of the others the number of descriptors ("fd-count") is, not the descriptors.
 * What has no file of its own comes in files without a slash in front: "dmesg",
 * "last-stat", "addresses", "module-btf", "file-hashes", "listing <directory>",
 * "resident"; "/proc/PID/hostname" and "/proc/PID/fd-count" are in no /proc either. */
#define _GNU_SOURCE
#include "sha256.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/klog.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int port;
static char obuf[128 * 1024], ibuf[64 * 1024];
static size_t on;

static void flush(void)
{
	size_t w = 0;
	while (w < on) {
		ssize_t r = write(port, obuf + w, on - w);
		if (r < 0) {
			if (errno == EAGAIN || errno == EINTR)
				continue;
			_exit(9);
		}
		w += (size_t)r;
	}
	on = 0;
}

static void put(const void *p, size_t n)
{
	while (n) {
		size_t k = sizeof obuf - on;
		if (!k) {
			flush();
			continue;
		}
		if (k > n)
			k = n;
		memcpy(obuf + on, p, k);
		on += k;
		p = (const char *)p + k;
		n -= k;
	}
}

static void head(char t, size_t n, const char *path)
{
	char h[600];
	int k = snprintf(h, sizeof h, "@%c %zu %s\n", t, n, path);
	put(h, (size_t)k);
}

static void mark(const char *s)
{
	put("@M ", 3);
	put(s, strlen(s));
	put("\n", 1);
}

static int file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), any = 0;
	ssize_t r;
	if (fd < 0)
		return -1;
	while ((r = read(fd, ibuf, sizeof ibuf)) > 0) {
		head('F', (size_t)r, path);
		put(ibuf, (size_t)r);
		any = 1;
	}
	if (!any && !r)
		head('F', 0, path);
	close(fd);
	return 0;
}

static void link_(const char *path)
{
	ssize_t r = readlink(path, ibuf, 4096);
	if (r >= 0) {
		head('L', (size_t)r, path);
		put(ibuf, (size_t)r);
	}
}

#include "resident.h"

static void each(const char *dir, void (*f)(const char *))
{
	DIR *d = opendir(dir);
	struct dirent *e;
	char p[1024];
	if (!d)
		return;
	while ((e = readdir(d)))
		if (e->d_name[0] != '.') {
			snprintf(p, sizeof p, "%s/%s", dir, e->d_name);
			f(p);
		}
	closedir(d);
}

static void file_v(const char *p)
{
	file(p);
}

static void sub(const char *p, const char *const *names)
{
	char b[1024];
	for (; *names; names++) {
		snprintf(b, sizeof b, "%s/%s", p, *names);
		file(b);
	}
}

static void task(const char *p)
{
	static const char *const n[] = {"comm",	   "stat",  "status", "stack",
					"syscall", "wchan", "cgroup", 0};
	sub(p, n);
}

static void pagemap(const char *proc)
{
	char b[600], line[700];
	uint64_t pm[512];
	int fd;
	FILE *f;
	int pid = atoi(proc + 6);
	unsigned long page = (unsigned long)sysconf(_SC_PAGESIZE);
	snprintf(b, sizeof b, "%s/pagemap", proc);
	fd = open(b, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	snprintf(b, sizeof b, "%s/maps", proc);
	f = fopen(b, "re");
	if (!f) {
		close(fd);
		return;
	}
	while (fgets(line, sizeof line, f)) {
		unsigned long s, e;
		if (sscanf(line, "%lx-%lx", &s, &e) != 2 || s >> 63)
			continue;
		for (unsigned long a = s; a < e; a += 512 * page) {
			size_t n = (e - a) / page;
			if (n > 512)
				n = 512;
			ssize_t r = pread(fd, pm, n * 8, (off_t)(a / page * 8));
			if (r <= 0)
				break;
			n = (size_t)r / 8;
			int any = 0;
			for (size_t i = 0; i < n; i++)
				if (pm[i] >> 62)
					any = 1;
			if (!any)
				continue;
			char h[100];
			int k = snprintf(h, sizeof h, "@P %d %lx %zu\n", pid, a, n);
			put(h, (size_t)k);
			put(pm, n * 8);
		}
	}
	fclose(f);
	close(fd);
}

/* Hashed are at most so many files, none larger than the one size, together no more than
 * the other; listed are at most so many entries (a distribution's root has many). */
#define HASHED_FILES 250
#define HASHED_SIZE (24 << 20)
#define HASHED_BYTES (96 << 20)
#define LISTED 4000

static int hashed, listed;
static long long hashed_bytes;

/* One record of "file-hashes", ended by a zero byte. */
static void hash(const char *path)
{
	struct stat st;
	struct sha256 sha;
	char hex[65], line[1400];
	ssize_t r;
	if (hashed >= HASHED_FILES || lstat(path, &st) || !S_ISREG(st.st_mode) ||
	    st.st_size > HASHED_SIZE || hashed_bytes + st.st_size > HASHED_BYTES)
		return;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	sha256_start(&sha);
	while ((r = read(fd, ibuf, sizeof ibuf)) > 0)
		sha256_add(&sha, (const uint8_t *)ibuf, (size_t)r);
	close(fd);
	sha256_end(&sha, hex);
	hashed++;
	hashed_bytes += st.st_size;
	int k = snprintf(line, sizeof line, "%s %lld %o %u %u %u %llu %llx %lld %lld.%09ld %s", hex,
			 (long long)st.st_size, st.st_mode, st.st_uid, st.st_gid,
			 (unsigned)st.st_nlink, (unsigned long long)st.st_ino,
			 (unsigned long long)st.st_dev, (long long)st.st_blocks,
			 (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, path);
	head('F', (size_t)k + 1, "file-hashes");
	put(line, (size_t)k + 1);
}

/* Directory entries of one directory ("inode type mode size name" and a zero byte each),
 * and the hashes of its regular files; with `deep` of those below it too. */
static void listing(const char *dir, int deep)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	struct stat st;
	char p[1024], name[1100], line[1400];
	if (!d)
		return;
	if (listed >= LISTED) {
		closedir(d);
		return;
	}
	snprintf(name, sizeof name, "listing %s", dir);
	head('F', 0, name);
	while ((e = readdir(d))) {
		snprintf(p, sizeof p, "%s/%s", strcmp(dir, "/") ? dir : "", e->d_name);
		if (lstat(p, &st))
			memset(&st, 0, sizeof st);
		int k = snprintf(line, sizeof line, "%llu %d %o %lld %s",
				 (unsigned long long)e->d_ino, e->d_type, st.st_mode,
				 (long long)st.st_size, e->d_name);
		listed++;
		head('F', (size_t)k + 1, name);
		put(line, (size_t)k + 1);
		if (S_ISREG(st.st_mode) && deep)
			hash(p);
		if (S_ISLNK(st.st_mode))
			link_(p);
		if (S_ISDIR(st.st_mode) && deep && strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			listing(p, deep);
	}
	closedir(d);
}

static void btf_name(const char *p)
{
	const char *name = strrchr(p, '/') + 1;
	head('F', strlen(name) + 1, "module-btf");
	put(name, strlen(name));
	put("\n", 1);
}

static void interface(const char *p)
{
	static const char *const n[] = {"address",   "mtu",  "ifindex", "iflink",
					"operstate", "type", "flags",	"tx_queue_len", 0};
	sub(p, n);
}

/* "name family address/mask" of every address of every interface */
static void addresses(void)
{
	struct ifaddrs *list, *i;
	if (getifaddrs(&list))
		return;
	for (i = list; i; i = i->ifa_next) {
		char a[64], m[64], line[300];
		if (!i->ifa_addr)
			continue;
		int v4 = i->ifa_addr->sa_family == AF_INET;
		if (!v4 && i->ifa_addr->sa_family != AF_INET6)
			continue;
		size_t at = v4 ? offsetof(struct sockaddr_in, sin_addr)
			       : offsetof(struct sockaddr_in6, sin6_addr);
		if (!inet_ntop(i->ifa_addr->sa_family, (char *)i->ifa_addr + at, a, sizeof a) ||
		    !i->ifa_netmask ||
		    !inet_ntop(i->ifa_addr->sa_family, (char *)i->ifa_netmask + at, m, sizeof m))
			continue;
		int k = snprintf(line, sizeof line, "%s %s %s/%s\n", i->ifa_name,
				 v4 ? "inet" : "inet6", a, m);
		head('F', (size_t)k, "addresses");
		put(line, (size_t)k);
	}
	freeifaddrs(list);
}

/* Is this the first process seen in its namespace of that kind? */
static int first_of(const char *p, const char *kind)
{
	static char seen[64][64];
	static int n;
	char b[1024], ns[64];
	snprintf(b, sizeof b, "%s/ns/%s", p, kind);
	ssize_t r = readlink(b, ns, sizeof ns - 1);
	if (r <= 0)
		return 0;
	ns[r] = 0;
	for (int i = 0; i < n; i++)
		if (!strcmp(seen[i], ns))
			return 0;
	if (n < 64)
		strcpy(seen[n++], ns);
	return 1;
}

static char sampled[64];
static int every;

/* Is it one of many, of which only some are told in full? */
static int in_brief(const char *p)
{
	char b[1024], comm[64] = "";
	if (!every || atoi(p + 6) % every == 0)
		return 0;
	snprintf(b, sizeof b, "%s/comm", p);
	int fd = open(b, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t r = read(fd, comm, sizeof comm - 1);
	close(fd);
	comm[r > 0 ? r - 1 : 0] = 0;
	return !strcmp(comm, sampled);
}

static void brief_task(const char *p)
{
	static const char *const n[] = {"stat", "status", 0};
	sub(p, n);
}

static int counted;

static void count(const char *p)
{
	(void)p;
	counted++;
}

static void brief(const char *p)
{
	static const char *const n[] = {"stat", "status", "cmdline", 0};
	char b[1024], count_text[16];
	sub(p, n);
	snprintf(b, sizeof b, "%s/exe", p);
	link_(b);
	snprintf(b, sizeof b, "%s/task", p);
	each(b, brief_task);
	counted = 0;
	snprintf(b, sizeof b, "%s/fd", p);
	each(b, count);
	snprintf(b, sizeof b, "%s/fd-count", p);
	int k = snprintf(count_text, sizeof count_text, "%d", counted);
	head('F', (size_t)k, b);
	put(count_text, (size_t)k);
}

/* The host name in a process' UTS namespace, as "/proc/PID/hostname". */
static void hostname_of(const char *p)
{
	char b[1024], name[256] = "";
	int own = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);
	snprintf(b, sizeof b, "%s/ns/uts", p);
	int its = open(b, O_RDONLY | O_CLOEXEC);
	if (own >= 0 && its >= 0 && !setns(its, CLONE_NEWUTS)) {
		int failed = gethostname(name, sizeof name);
		if (setns(own, CLONE_NEWUTS))
			_exit(8);
		snprintf(b, sizeof b, "%s/hostname", p);
		if (!failed) {
			head('F', strlen(name), b);
			put(name, strlen(name));
		}
	}
	close(own);
	close(its);
}

static void proc(const char *p)
{
	static const char *const n[] = {"comm",	   "stat",	  "status",	   "statm",
					"cmdline", "environ",	  "auxv",	   "maps",
					"cgroup",  "oom_score",	  "oom_score_adj", "loginuid",
					"limits",  "smaps_rollup", 0};
	static const char *const net[] = {"net/tcp",  "net/tcp6", "net/udp", "net/udp6", "net/unix",
					  "net/raw",  "net/packet", "net/netlink", "net/dev",
					  "net/if_inet6", "net/route", "net/fib_trie", 0};
	static const char *const mnt[] = {"mounts", "mountinfo", 0};
	char b[1024];
	if (p[6] < '0' || p[6] > '9')
		return;
	if (in_brief(p)) {
		brief(p);
		return;
	}
	sub(p, n);
	static const char *const l[] = {"exe", "cwd", "root", 0};
	for (const char *const *q = l; *q; q++) {
		snprintf(b, sizeof b, "%s/%s", p, *q);
		link_(b);
	}
	snprintf(b, sizeof b, "%s/ns", p);
	each(b, link_);
	snprintf(b, sizeof b, "%s/fd", p);
	each(b, link_);
	snprintf(b, sizeof b, "%s/fdinfo", p);
	each(b, file_v);
	snprintf(b, sizeof b, "%s/task", p);
	each(b, task);
	if (first_of(p, "net"))
		sub(p, net);
	if (first_of(p, "mnt"))
		sub(p, mnt);
	if (first_of(p, "uts"))
		hostname_of(p);
	if (atoi(p + 6) != getpid())
		pagemap(p);
}

static char *last;
static size_t lastn;

static void tid2(const char *p)
{
	char b[1024];
	snprintf(b, sizeof b, "%s/stat", p);
	int fd = open(b, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t r = read(fd, last + lastn, 512);
	if (r > 0)
		lastn += (size_t)r;
	close(fd);
}

static void pid2(const char *p)
{
	char b[1024];
	if (p[6] < '0' || p[6] > '9')
		return;
	snprintf(b, sizeof b, "%s/task", p);
	if (lastn < 200 * 1024)
		each(b, tid2);
}

static void modsec(const char *p)
{
	char b[1024];
	DIR *d;
	struct dirent *e;
	snprintf(b, sizeof b, "%s/sections", p);
	if (!(d = opendir(b)))
		return;
	while ((e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		snprintf(b, sizeof b, "%s/sections/%s", p, e->d_name);
		file(b);
	}
	closedir(d);
	static const char *const n[] = {
		"coresize", "initstate", "refcnt", "taint", "notes/.note.gnu.build-id", 0};
	sub(p, n);
}

static void stamp(const char *what)
{
	struct timespec r, b;
	char s[200];
	clock_gettime(CLOCK_REALTIME, &r);
	clock_gettime(CLOCK_BOOTTIME, &b);
	snprintf(s, sizeof s, "%s realtime=%lld.%09ld boottime=%lld.%09ld self=%d", what,
		 (long long)r.tv_sec, r.tv_nsec, (long long)b.tv_sec, b.tv_nsec, getpid());
	mark(s);
}

/* Writes VALUE to drop_caches, several times: a first round only takes the "referenced"
 * mark off what was just used. 4 makes the kernel silent about it from then on. */
static void drop_caches(const char *value, int rounds)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
	for (int i = 0; i < rounds; i++) {
		if (pwrite(fd, value, 1, 0) != 1)
			perror("drop_caches");
		if (rounds > 1)
			usleep(150000);
	}
	close(fd);
}

int main(int argc, char **argv)
{
	static const char *const glob[] = {
		/* clang-format off */
		"/proc/version", "/proc/cmdline", "/proc/stat", "/proc/meminfo",
		"/proc/iomem", "/proc/modules", "/proc/mounts", "/proc/self/mountinfo",
		"/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp", "/proc/net/udp6",
		"/proc/net/unix", "/proc/net/raw", "/proc/net/packet",
		"/proc/net/netlink", "/proc/net/dev", "/proc/net/if_inet6",
		"/proc/net/route", "/proc/cpuinfo", "/proc/interrupts",
		"/proc/filesystems", "/proc/devices", "/proc/sys/kernel/hostname",
		"/proc/sys/kernel/osrelease", "/proc/sys/kernel/version",
		"/proc/sys/kernel/random/boot_id", "/proc/sys/kernel/pid_max",
		"/proc/sys/kernel/tainted", "/proc/sys/kernel/randomize_va_space",
		"/sys/kernel/vmcoreinfo", "/sys/kernel/notes", "/proc/vmallocinfo",
		"/proc/slabinfo", "/proc/buddyinfo", "/proc/uptime",
		"/proc/swaps", "/proc/partitions", "/proc/vmstat", "/proc/zoneinfo",
		"/proc/loadavg", "/proc/net/fib_trie", "/proc/sys/kernel/domainname",
		"/proc/net/netstat", "/proc/net/protocols", "/proc/cgroups",
		0,
		/* clang-format on */
	};
	static const char *const trees[] = {"/tmp/lab-files", "/srv/lab", "/mnt/overlay", "/etc",
					    "/bin", "/lib", 0};
	static const char *const dirs[] = {"/",	"/run", "/run/lab", "/tmp", "/tmp/lab-many",
					   "/dev", 0};
	char line[4096];
	int n, drop = 0;
	ssize_t r;
	port = open(argc > 1 ? argv[1] : "/dev/vport0p1", O_RDWR | O_CLOEXEC);
	if (port < 0) {
		perror("port");
		return 1;
	}
	for (int i = 2; i < argc; i++)
		if (!strcmp(argv[i], "drop-caches"))
			drop = 1;
		else if (sscanf(argv[i], "sample=%63[^:]:%d", sampled, &every) != 2)
			fprintf(stderr, "collect: what is %s?\n", argv[i]);
	last = malloc(256 * 1024);
	memset(last, 0, 256 * 1024);
	if (drop)
		drop_caches("4", 1);
	stamp("begin");
	for (const char *const *p = dirs; *p; p++)
		listing(*p, 0);
	for (const char *const *p = trees; *p; p++)
		listing(*p, 1);
	file("/proc/kallsyms");
	for (const char *const *p = glob; *p; p++)
		file(*p);
	each("/sys/module", modsec);
	each("/sys/class/net", interface);
	addresses();
	each("/sys/kernel/btf", btf_name);
	each("/run/lab", file_v);
	n = klogctl(3, ibuf, sizeof ibuf);
	if (n > 0) {
		head('F', (size_t)n, "dmesg");
		put(ibuf, (size_t)n);
	}
	flush();
	stamp("procs");
	each("/proc", proc);
	each("/proc", resident);
	flush();
	if (drop)
		drop_caches("2", 5);
	/* once more, quickly: pid/tid/state/ppid of everything just before the stop */
	stamp("last");
	each("/proc", pid2);
	head('F', lastn, "last-stat");
	put(last, lastn);
	stamp("end");
	flush();
	memset(last, 0, 256 * 1024);
	memset(ibuf, 0, sizeof ibuf);
	memset(obuf, 0, sizeof obuf);
	if (write(1, "\nLAB-READY\n", 11) != 11)
		return 2;
	while ((r = read(port, line, sizeof line - 1)) >= 0) {
		if (!r) { /* host not connected */
			usleep(200000);
			continue;
		}
		line[r] = 0;
		if (strncmp(line, "GO", 2))
			continue;
		for (char *t = strtok(line + 2, " \n"); t; t = strtok(0, " \n")) {
			int p[2];
			ssize_t k;
			if (pipe2(p, O_CLOEXEC))
				break;
			pid_t c = fork();
			if (!c) {
				dup2(p[1], 1);
				dup2(p[1], 2);
				execl("/bin/ptunwind", "ptunwind", t, (char *)0);
				_exit(1);
			}
			close(p[1]);
			char nm[64];
			snprintf(nm, sizeof nm, "unwind/%s", t);
			while ((k = read(p[0], ibuf, sizeof ibuf)) > 0) {
				head('F', (size_t)k, nm);
				put(ibuf, (size_t)k);
			}
			close(p[0]);
			waitpid(c, 0, 0);
			flush();
		}
		mark("done");
		flush();
	}
	for (;;)
		pause();
}
