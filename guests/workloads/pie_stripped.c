/* Stripped position-independent executable: no .symtab, static functions only. */
#include "lab.h"
#ifndef WL
#define WL "pie-stripped"
#endif
#define L(me, callee)                                                                              \
	static NI void me(long x)                                                                  \
	{                                                                                          \
		ENTER(me);                                                                         \
		callee(x + 1);                                                                     \
		lab_sink += (unsigned long)x;                                                      \
	}

static NI void p1(long x)
{
	ENTER(p1);
	lab_report(WL, "main", "nanosleep", "stripped");
	NAP_FOREVER();
	lab_sink += (unsigned long)x;
}

L(p2, p1) L(p3, p2) L(p4, p3) L(p5, p4) L(p6, p5) int main(int argc, char **argv)
{
	ENTER(main);
	(void)argv;
	p6(argc);
	return (int)lab_sink;
}
