/* Blocked inside a signal handler. argv[1]:
 *   raise - the handler interrupts raise() (a system call);
 *   segv  - a fault in user code, handler on an alternate stack: the frame under
 *           the signal frame stopped AT an instruction, not after a call;
 *   alarm - SIGVTALRM interrupts a busy leaf loop somewhere: the timer counts the time that
 *           the program itself runs, so that it ends in the loop on a slow host, too. */
#include "lab.h"
#include <sys/time.h>
#ifndef WL
#define WL "sig"
#endif
static const char *mode = "raise";

static NI void h1(int s)
{
	ENTER(h1);
	lab_report(WL, mode, "nanosleep", "in a signal handler");
	NAP_FOREVER();
	lab_sink += (unsigned)s;
}

static NI void h2(int s)
{
	volatile char a[200];
	ENTER(h2);
	a[s & 63] = 1;
	h1(s);
	lab_sink += a[s & 63];
}

static NI void handler(int s, siginfo_t *i, void *u)
{
	ENTER(handler);
	h2(s);
	lab_sink += (unsigned long)i->si_code + (u != 0);
}

static NI void s1_raise(int x)
{
	ENTER(s1_raise);
	raise(SIGUSR1);
	lab_sink += (unsigned)x;
}

static NI void s1_fault(int x)
{
	volatile int *p = (volatile int *)(uintptr_t)(0x10 + (lab_sink & 0));
	ENTER(s1_fault);
	*p = x;
	lab_sink += (unsigned)x;
}

static NI void s1_leaf(volatile unsigned long *p)
{
	for (;;) {
		*p += 1;
	}
}

static NI void s1_loop(int x)
{
	struct itimerval t = {{0, 0}, {0, 30000}};
	ENTER(s1_loop);
	/* a leaf cannot push itself without a frame */
	lab_push("s1_leaf", (const void *)(uintptr_t)s1_leaf, 0);
	setitimer(ITIMER_VIRTUAL, &t, 0);
	s1_leaf(&lab_sink);
	lab_sink += (unsigned)x;
}

static NI void s2(int x)
{
	ENTER(s2);
	if (!strcmp(mode, "segv"))
		s1_fault(x);
	else if (!strcmp(mode, "alarm"))
		s1_loop(x);
	else
		s1_raise(x);
	lab_sink += (unsigned)x;
}

static NI void s3(int x)
{
	ENTER(s3);
	s2(x + 1);
	lab_sink += (unsigned)x;
}

static NI void s4(int x)
{
	ENTER(s4);
	s3(x + 1);
	lab_sink += (unsigned)x;
}

int main(int argc, char **argv)
{
	static char alt[64 * 1024] __attribute__((aligned(16)));
	stack_t ss;
	struct sigaction sa;
	if (argc > 1)
		mode = argv[1];
	ENTER(main);
	memset(&ss, 0, sizeof ss);
	ss.ss_sp = alt;
	ss.ss_size = sizeof alt;
	memset(&sa, 0, sizeof sa);
	sa.sa_sigaction = handler;
	sa.sa_flags = SA_SIGINFO;
	if (!strcmp(mode, "segv")) {
		sigaltstack(&ss, 0);
		sa.sa_flags |= SA_ONSTACK;
	}
	sigaction(SIGUSR1, &sa, 0);
	sigaction(SIGSEGV, &sa, 0);
	sigaction(SIGVTALRM, &sa, 0);
	s4(argc);
	return (int)lab_sink;
}
