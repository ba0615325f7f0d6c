/* Eight threads, each at a chain of its own, blocked in a call of its own. */
#include "lab.h"
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <netinet/in.h>
#ifndef WL
#define WL "threads"
#endif
#ifndef TP
#define TP t /* function-name prefix; other builds use another */
#endif
#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define N(x) CAT(TP, x)
#define STR_(x) #x
#define STR(x) STR_(x)
#define ENT(f)                                                                                     \
	lab_push(STR(f), (const void *)(uintptr_t)(f),                                             \
		 __builtin_extract_return_addr(__builtin_return_address(0)))
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER, mu2 = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cv = PTHREAD_COND_INITIALIZER;
static sem_t sem;

static NI void N(1_wait)(long x)
{
	ENT(N(1_wait));
	lab_report(WL, "t1", "futex:pthread_cond_wait", "");
	pthread_mutex_lock(&mu);
	for (;;)
		pthread_cond_wait(&cv, &mu);
	lab_sink += x;
}

static NI void N(1_mid)(long x)
{
	ENT(N(1_mid));
	N(1_wait)(x + 1);
	lab_sink += x;
}

static NI void *N(1_start)(void *a)
{
	ENT(N(1_start));
	N(1_mid)((long)a);
	lab_sink++;
	return 0;
}

static NI void N(2_lock)(long x)
{
	ENT(N(2_lock));
	lab_report(WL, "t2", "futex:pthread_mutex_lock", "");
	pthread_mutex_lock(&mu2);
	lab_sink += x;
	for (;;)
		pause();
}

static NI void N(2_b)(long x)
{
	volatile char b[4000];
	ENT(N(2_b));
	b[x & 7] = 1;
	N(2_lock)(x + 1);
	lab_sink += b[x & 7];
}

static NI void N(2_a)(long x)
{
	ENT(N(2_a));
	N(2_b)(x + 1);
	lab_sink += x;
}

static NI void *N(2_start)(void *a)
{
	ENT(N(2_start));
	N(2_a)((long)a);
	lab_sink++;
	return 0;
}

static NI void N(3_poll)(int fd)
{
	struct pollfd p = {fd, POLLIN, 0};
	ENT(N(3_poll));
	lab_report(WL, "t3", "poll", "");
	for (;;)
		poll(&p, 1, -1);
	lab_sink++;
}

static NI void *N(3_start)(void *a)
{
	ENT(N(3_start));
	N(3_poll)(eventfd(0, 0));
	lab_sink++;
	(void)a;
	return 0;
}

static NI void N(4_nap)(long x)
{
	ENT(N(4_nap));
	lab_report(WL, "t4", "nanosleep", "");
	NAP_FOREVER();
	lab_sink += x;
}

static NI void N(4_rec)(long x)
{
	ENT(N(4_rec));
	if (x > 0)
		N(4_rec)(x - 1);
	else
		N(4_nap)(x);
	lab_sink += x;
}

static NI void *N(4_start)(void *a)
{
	ENT(N(4_start));
	N(4_rec)(9);
	lab_sink++;
	(void)a;
	return 0;
}

static NI void N(5_epoll)(int ep)
{
	struct epoll_event ev[4];
	ENT(N(5_epoll));
	lab_report(WL, "t5", "epoll_wait", "");
	for (;;)
		epoll_wait(ep, ev, 4, -1);
	lab_sink++;
}

static NI void *N(5_start)(void *a)
{
	int ep = epoll_create1(0);
	struct epoll_event e;
	ENT(N(5_start));
	memset(&e, 0, sizeof e);
	e.events = EPOLLIN;
	epoll_ctl(ep, EPOLL_CTL_ADD, eventfd(0, 0), &e);
	N(5_epoll)(ep);
	lab_sink++;
	(void)a;
	return 0;
}

static NI void N(6_read)(int fd)
{
	char c;
	ENT(N(6_read));
	lab_report(WL, "t6", "read:pipe", "");
	for (;;)
		if (read(fd, &c, 1) < 0)
			lab_sink++;
}

static NI void *N(6_start)(void *a)
{
	int p[2] = {-1, -1};
	ENT(N(6_start));
	if (pipe(p))
		return 0;
	N(6_read)(p[0]);
	lab_sink++;
	(void)a;
	return 0;
}

static NI void N(7_accept)(int fd)
{
	ENT(N(7_accept));
	lab_report(WL, "t7", "accept", "listens on 127.0.0.1");
	for (;;)
		if (accept(fd, 0, 0) < 0)
			lab_sink++;
}

static NI void *N(7_start)(void *a)
{
	struct sockaddr_in s;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	ENT(N(7_start));
	memset(&s, 0, sizeof s);
	s.sin_family = AF_INET;
	s.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	s.sin_port = htons((uint16_t)(long)a);
	if (bind(fd, (struct sockaddr *)&s, sizeof s) || listen(fd, 8))
		lab_sink++;
	N(7_accept)(fd);
	lab_sink++;
	return 0;
}

/* qsort's callback: libc frames in the middle of the chain */
static NI int N(8_cmp)(const void *a, const void *b)
{
	ENT(N(8_cmp));
	lab_report(WL, "t8", "futex:sem_wait", "inside qsort's callback");
	for (;;)
		sem_wait(&sem);
	return *(const int *)a - *(const int *)b;
}

static NI void N(8_sort)(int *v)
{
	ENT(N(8_sort));
	qsort(v, 64, sizeof *v, N(8_cmp));
	lab_sink += (unsigned)v[0];
}

static NI void *N(8_start)(void *a)
{
	int v[64];
	ENT(N(8_start));
	for (int i = 0; i < 64; i++)
		v[i] = 64 - i;
	N(8_sort)(v);
	lab_sink++;
	(void)a;
	return 0;
}

static NI void N(0_join)(pthread_t t)
{
	void *r;
	ENT(N(0_join));
	lab_report(WL, "main", "futex:pthread_join", "");
	pthread_join(t, &r);
	lab_sink++;
}

int main(int argc, char **argv)
{
	static void *(*const st[8])(void *) = {N(1_start), N(2_start), N(3_start), N(4_start),
					       N(5_start), N(6_start), N(7_start), N(8_start)};
	long port = argc > 1 ? atol(argv[1]) : 7007;
	pthread_t t[8];
	sem_init(&sem, 0, 0);
	pthread_mutex_lock(&mu2);
	ENTER(main);
	for (int i = 0; i < 8; i++) {
		char nm[16];
		if (pthread_create(&t[i], 0, st[i], (void *)(i == 6 ? port : i)))
			return 1;
		snprintf(nm, sizeof nm, "thr-%d-%s", i + 1, "w");
		pthread_setname_np(t[i], nm);
	}
	N(0_join)(t[0]);
	return (int)lab_sink;
}
