/* DEPTH nested frames f<DEPTH> .. f1, then blocks. Frames differ in shape:
 * small, large array, alloca (frame pointer forced), many live registers.
 * -DSPIN: the innermost function runs a leaf loop in user space instead. */
#include "lab.h"
#include <alloca.h>
#ifndef DEPTH
#define DEPTH 40
#endif
#ifndef WL
#define WL "deep"
#endif
static const char *mode = "nanosleep";
typedef unsigned long ul;
static NI void f0(ul);
#ifdef SPIN
NI void spin_leaf(volatile ul *p) /* leaf: no frame of its own */
{
	for (;;) {
		*p += 1;
	}
}

NI void f0_spin(ul x)
{
	ENTER(f0_spin);
	lab_report(WL, "main", "user-loop", "spins in spin_leaf, a leaf function");
	lab_sink = x;
	spin_leaf(&lab_sink);
	lab_sink += x;
}
#endif
static NI void f0(ul x)
{
#ifdef SPIN
	ENTER(f0);
	f0_spin(x + 1);
	lab_sink += x;
#else
	ENTER(f0);
	lab_report(WL, "main", mode, "");
	if (!strcmp(mode, "pause"))
		for (;;)
			pause();
	else if (!strcmp(mode, "read")) {
		int p[2];
		char c;
		if (!pipe(p))
			for (;;)
				if (read(p[0], &c, 1) < 0)
					lab_sink++;
	} else
		NAP_FOREVER();
	lab_sink += x;
#endif
}

#define BODY0(me, callee)                                                                          \
	NI void me(ul x)                                                                           \
	{                                                                                          \
		ENTER(me);                                                                         \
		callee(x + 1);                                                                     \
		lab_sink += x;                                                                     \
	}
#define BODY1(me, callee)                                                                          \
	NI void me(ul x)                                                                           \
	{                                                                                          \
		volatile char a[333];                                                              \
		ENTER(me);                                                                         \
		a[x % 333] = 1;                                                                    \
		callee(x + 2);                                                                     \
		lab_sink += a[x % 333];                                                            \
	}
#define BODY2(me, callee)                                                                          \
	NI void me(ul x)                                                                           \
	{                                                                                          \
		char *a = (char *)alloca(48 + (x & 63));                                           \
		ENTER(me);                                                                         \
		a[0] = (char)x;                                                                    \
		__asm__ volatile("" ::"r"(a) : "memory");                                          \
		callee(x + 3);                                                                     \
		lab_sink += (ul)a[0];                                                              \
	}
#define BODY3(me, callee)                                                                          \
	NI void me(ul x)                                                                           \
	{                                                                                          \
		ul a = lab_sink + x, b = a * 3, c = b ^ x, d = c + 7, e = d * a;                   \
		ENTER(me);                                                                         \
		__asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e));                \
		callee(x + 4);                                                                     \
		lab_sink += a + b * 2 + c * 3 + d * 5 + e * 7;                                     \
	}
#include "deep_chain.h" /* generated: forward declarations, DEEP_TOP */

int main(int argc, char **argv)
{
	if (argc > 1)
		mode = argv[1];
	ENTER(main);
	DEEP_TOP((ul)argc);
	return (int)lab_sink;
}
