/* Shared by every lab workload: each thread records, before it blocks, its own
 * call chain in two ways that do not depend on each other:
 *   chain - pushed by ENTER() in every function: name, function address and
 *           __builtin_return_address(0) (the exact word the caller's call left);
 *   bt    - what libgcc's unwinder (_Unwind_Backtrace) sees: ip and CFA.
 * The report is one JSON object, written to /run/lab/<pid>.<tid>.json. */
#ifndef LAB_H
#define LAB_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <unwind.h>
#ifdef __cplusplus
#define LAB_INLINE static inline
extern "C" {
#else
#define LAB_INLINE static __attribute__((unused))
#endif

#define NI __attribute__((noinline, noclone))
#define LAB_MAX 160

struct lab_ent {
	const char *fn;
	const void *addr, *ra;
};

struct lab_state {
	int n;
	struct lab_ent e[LAB_MAX];
};
static __thread struct lab_state lab_st;
/* `sink` keeps the compiler from making tail calls and from sharing frames. */
static volatile unsigned long lab_sink;

LAB_INLINE void lab_push(const char *fn, const void *addr, void *ra)
{
	if (lab_st.n < LAB_MAX) {
		struct lab_ent *e = &lab_st.e[lab_st.n++];
		e->fn = fn;
		e->addr = addr;
		e->ra = ra;
	}
}

#define ENTER(f)                                                                                   \
	lab_push(#f, (const void *)(uintptr_t)(f),                                                 \
		 __builtin_extract_return_addr(__builtin_return_address(0)))
/* A frame that is not an ordinary call (signal handler entered by the kernel, or
 * code without a name): ra is what lies at the frame's return slot. */
#define ENTER_AS(name, f)                                                                          \
	lab_push(name, (const void *)(uintptr_t)(f),                                               \
		 __builtin_extract_return_addr(__builtin_return_address(0)))

struct lab_bt {
	int n;
	uintptr_t ip[LAB_MAX], cfa[LAB_MAX];
	int before[LAB_MAX];
};

LAB_INLINE _Unwind_Reason_Code lab_cb(struct _Unwind_Context *c, void *v)
{
	struct lab_bt *b = (struct lab_bt *)v;
	int before = 0;
	if (b->n >= LAB_MAX)
		return _URC_END_OF_STACK;
	b->ip[b->n] = (uintptr_t)_Unwind_GetIPInfo(c, &before);
	b->cfa[b->n] = (uintptr_t)_Unwind_GetCFA(c);
	b->before[b->n] = before;
	b->n++;
	return _URC_NO_REASON;
}

/* note: free text, e.g. how it blocks; wait: the libc/syscall it will block in. */
static NI __attribute__((unused)) void lab_report(const char *workload, const char *label,
						  const char *wait, const char *note)
{
	static char buf_main[48 * 1024];
	char *buf = buf_main, path[64], comm[32] = "";
	int own = 0;
	size_t cap = sizeof buf_main, o = 0;
	struct lab_bt *b;
	void *m = mmap(0, 128 * 1024, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m != MAP_FAILED) {
		buf = (char *)m + 64 * 1024;
		cap = 64 * 1024;
		own = 1;
		b = (struct lab_bt *)m;
	} else {
		static struct lab_bt sb;
		b = &sb;
	}
	b->n = 0;
	_Unwind_Backtrace(lab_cb, b);
	pthread_getname_np(pthread_self(), comm, sizeof comm);
	int tid = (int)syscall(SYS_gettid), pid = (int)getpid();
	struct timespec ts;
	clock_gettime(CLOCK_BOOTTIME, &ts);
#define P(...)                                                                                     \
	do {                                                                                       \
		if (o < cap)                                                                       \
			o += (size_t)snprintf(buf + o, cap - o, __VA_ARGS__);                      \
	} while (0)
	P("{\"workload\":\"%s\",\"label\":\"%s\",\"pid\":%d,\"tid\":%d,\"comm\":\"%s\",\"wait\":\"%"
	  "s\",\"note\":\"%s\",\"boottime_ns\":%llu,",
	  workload, label, pid, tid, comm, wait, note,
	  (unsigned long long)ts.tv_sec * 1000000000ull + (unsigned long long)ts.tv_nsec);
	P("\"self_sp\":\"0x%lx\",", (unsigned long)(uintptr_t)__builtin_frame_address(0));
	P("\"chain\":[");
	for (int i = lab_st.n - 1; i >= 0; i--)
		P("{\"fn\":\"%s\",\"addr\":\"0x%lx\",\"ra\":\"0x%lx\"}%s", lab_st.e[i].fn,
		  (unsigned long)(uintptr_t)lab_st.e[i].addr,
		  (unsigned long)(uintptr_t)lab_st.e[i].ra, i ? "," : "");
	P("],\"bt\":[");
	for (int i = 0; i < b->n; i++)
		P("%s{\"ip\":\"0x%lx\",\"cfa\":\"0x%lx\",\"signal\":%d}", i ? "," : "",
		  (unsigned long)b->ip[i], (unsigned long)b->cfa[i], b->before[i]);
	P("]}\n");
#undef P
	snprintf(path, sizeof path, "/run/lab/%d.%d.tmp", pid, tid);
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0666);
	if (fd >= 0) {
		size_t w = 0;
		while (w < o) {
			ssize_t r = write(fd, buf + w, o - w);
			if (r <= 0)
				break;
			w += (size_t)r;
		}
		close(fd);
		char fin[64];
		snprintf(fin, sizeof fin, "/run/lab/%d.%d.json", pid, tid);
		rename(path, fin);
	}
	if (own)
		munmap(m, 128 * 1024);
}

/* Arguments may look like <lib>:<name>; a workload's block() never returns. */
/* Ends only in theory: were it endless, the compiler would conclude that callers
 * neither return nor throw. (threads.c has endless loops on purpose: the call is
 * then the last instruction, and its return address lies past the function.) */
static volatile int lab_never __attribute__((unused));
#define NAP_FOREVER()                                                                              \
	do {                                                                                       \
		struct timespec t_ = {100000, 0};                                                  \
		nanosleep(&t_, 0);                                                                 \
	} while (!lab_never)
#ifdef __cplusplus
}
#endif
#endif
