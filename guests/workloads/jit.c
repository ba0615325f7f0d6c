/* C -> generated code (frame-pointer prologue, no unwind tables, anonymous RWX)
 * -> generated code -> C, which sleeps. */
#include "lab.h"
#ifndef WL
#define WL "jit"
#endif
static void *jit_a, *jit_b;
#if defined(__x86_64__)
#define CALL_OFF 20 /* offset, in generated code, of the instruction after its call */
#else
#define CALL_OFF 16
#endif
NI void jit_callback(long x)
{
	lab_push("<jit_a>", jit_a,
		 0); /* its return address is the one after jit_enter's call: not known from C */
	lab_push("<jit_b>", jit_b, (char *)jit_a + CALL_OFF);
	ENTER(jit_callback);
	lab_report(WL, "main", "nanosleep",
		   "two generated frames above jit_callback have no unwind tables; their code "
		   "starts at jit_a and jit_b");
	NAP_FOREVER();
	lab_sink += (unsigned long)x;
}

NI void jit_enter(void (*f)(long), long x)
{
	ENTER(jit_enter);
	f(x);
	lab_sink += (unsigned long)x;
}

static unsigned char *emit(unsigned char *p, void *target)
{
#if defined(__x86_64__)
	static const unsigned char pro[] = {0x55, 0x48, 0x89, 0xe5, 0x48,
					    0x83, 0xec, 0x20, 0x48, 0xb8};
	static const unsigned char epi[] = {0xff, 0xd0, 0xc9, 0xc3};
	memcpy(p, pro, sizeof pro);
	p += sizeof pro;
	memcpy(p, &target, 8);
	p += 8;
	memcpy(p, epi, sizeof epi);
	p += sizeof epi;
#elif defined(__aarch64__)
	static const unsigned ins[] = {
		0xa9be7bfd, /* stp x29, x30, [sp, #-32]! */
		0x910003fd, /* mov x29, sp */
		0x58000090, /* ldr x16, .+16 */
		0xd63f0200, /* blr x16 */
		0xa8c27bfd, /* ldp x29, x30, [sp], #32 */
		0xd65f03c0, /* ret */
	};
	memcpy(p, ins, sizeof ins);
	p += sizeof ins;
	memcpy(p, &target, 8);
	p += 8;
#else
#error arch
#endif
	return (unsigned char *)(((uintptr_t)p + 31) & ~(uintptr_t)31);
}

NI void jit_run(int x, void *f)
{
	ENTER(jit_run);
	jit_enter((void (*)(long))(uintptr_t)f, x);
	lab_sink += (unsigned)x;
}

int main(int argc, char **argv)
{
	unsigned char *m = (unsigned char *)mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
						 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		      *p;
	ENTER(main);
	if (m == MAP_FAILED)
		return 1;
	p = m + 64;
	jit_b = p;
	p = emit(p, (void *)(uintptr_t)jit_callback);
	jit_a = p;
	emit(p, jit_b);
	__builtin___clear_cache((char *)m, (char *)m + 4096);
	jit_run(argc, jit_a);
	(void)argv;
	return (int)lab_sink;
}
