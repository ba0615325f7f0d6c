/* What the shadow stack test steps through: frames of many shapes, calls through the PLT (bound on their first use, so through
 * the dynamic linker), callbacks out of libc, the vDSO, a signal on the stack and one on another stack.
 * It traps where stepping is to begin and where it is to end. */
#define _GNU_SOURCE
#include <alloca.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NOINLINE __attribute__((noinline, noclone))
static volatile long sink;
void *volatile return_to_main;

NOINLINE long leaf(long x) { return x * 3 + sink; }
NOINLINE long tail(long x) { return leaf(x + 1); }
NOINLINE long many(long a, long b, long c, long d, long e, long f, long g, long h)
{
	long x = leaf(a) + leaf(b), y = leaf(c) - leaf(d), z = leaf(e) ^ leaf(f), w = leaf(g) | leaf(h);
	return tail(x + y) + tail(z + w) + x * y + z * w;
}
NOINLINE long variable(long n)
{
	char *a = alloca((size_t)(16 + (n & 63)));
	memset(a, (int)n, 16);
	return leaf(a[3]) + tail(n);
}
NOINLINE long recursive(long n) { return n <= 0 ? leaf(n) : recursive(n - 1) + variable(n) + sink; }
NOINLINE __attribute__((optimize("no-omit-frame-pointer"))) long framed(long n) { volatile long a[9]; a[n & 7] = n; return leaf(a[n & 7]) + tail(n); }
NOINLINE __attribute__((force_align_arg_pointer)) long realigned(long n) { return framed(n) + leaf(n); }
NOINLINE long early(long n) { if (n & 1) return sink; return leaf(n) + variable(n); }
NOINLINE double floating(double x) { char b[64]; snprintf(b, sizeof b, "%.3f %s %d", x, "text", 7); return strtod(b, 0); }
static int compare(const void *a, const void *b) { return (int)(leaf(*(const int *)a) - leaf(*(const int *)b)); }
NOINLINE long sorted(void) { int v[12]; for (int i = 0; i < 12; i++) v[i] = (i * 7) % 12; qsort(v, 12, sizeof *v, compare); return v[0]; }
NOINLINE void handler(int s) { sink += recursive(2) + s; }
NOINLINE long signalled(void)
{
	static char stack[65536];
	stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
	struct sigaction action = { .sa_handler = handler };
	sigaction(SIGUSR1, &action, 0);
	raise(SIGUSR1);
	sigaltstack(&alternate, 0);
	action.sa_flags = SA_ONSTACK;
	sigaction(SIGUSR2, &action, 0);
	raise(SIGUSR2);
	return sink;
}
NOINLINE void run(void)
{
	struct timespec now;
	return_to_main = __builtin_return_address(0);
	__asm__ volatile("int3");
	sink += many(1, 2, 3, 4, 5, 6, 7, 8) + recursive(6) + realigned(5) + early(3) + early(4);
	sink += (long)floating(2.5) + sorted();
	clock_gettime(CLOCK_MONOTONIC, &now);
	void *m = malloc(1000);
	memset(m, 1, 1000);
	sink += (long)strlen("how long") + signalled();
	free(m);
	__asm__ volatile("int3");
}
int main(void) { run(); return (int)(sink & 1); }
