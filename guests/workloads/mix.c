/* For profiles: functions whose shares of the time are known. Each part is a chain of calls of its own that ends in
 * a loop of dependent multiplications; how often each loop went round is the truth, and stands in mix_truth, which
 * the report's note gives the address of, after every part.
 *   mix            mix_half 50 %, mix_left 20 % and mix_right 10 % (both by way of mix_shared), mix_deep 15 % (twelve
 *                  calls deep), mix_rest 5 %; not one system call
 *   mix other      other_most 70 %, other_least 30 %; not one system call
 *   ... calls      mix_kernel too, which reads from /dev/zero, and the time that each part took (the thread's CPU
 *                  time), which is the truth then */
#include "lab.h"

typedef unsigned long ul;
#define OWN NI __attribute__((no_icf)) /* not folded into another that is alike */
#define ROUND 20000ul /* multiplications for one hundredth */
#define PARTS 6

static struct {
	char magic[16];
	ul parts, calls;
	struct {
		char name[16];
		volatile ul rounds, nanoseconds;
	} part[PARTS];
} mix_truth = {.magic = "mix truth"};

static int calls, zero;
static char buffer[1 << 18];

#if defined(__aarch64__)
#define MULTIPLY(x) __asm__ volatile("mul %0, %0, %0" : "+r"(x))
#else
#define MULTIPLY(x) __asm__ volatile("imul %0, %0" : "+r"(x))
#endif
/* All of them are the same machine code, so that equal rounds take equal time. */
#define LEAF(name)                                                                                 \
	static OWN __attribute__((aligned(64))) void name(ul rounds)                               \
	{                                                                                          \
		ul x = rounds | 1;                                                                 \
		for (ul i = 0; i < rounds; i++)                                                    \
			MULTIPLY(x);                                                               \
		lab_sink += x;                                                                     \
	}

LEAF(mix_half_leaf)
LEAF(mix_shared)
LEAF(mix_deep_leaf)
LEAF(mix_rest)
LEAF(other_most_leaf)
LEAF(other_least)

static OWN void mix_half_inner(ul hundredths)
{
	mix_half_leaf(hundredths * ROUND);
	lab_sink++;
}

static OWN void mix_half(ul hundredths)
{
	mix_half_inner(hundredths);
	lab_sink++;
}

static OWN void mix_left(ul hundredths)
{
	volatile char frame[300];
	frame[hundredths & 127] = 1;
	mix_shared(hundredths * ROUND);
	lab_sink += (ul)frame[hundredths & 127];
}

static OWN void mix_right(ul hundredths)
{
	mix_shared(hundredths * ROUND);
	lab_sink++;
}

static OWN void mix_down(ul hundredths, int left)
{
	if (left)
		mix_down(hundredths, left - 1);
	else
		mix_deep_leaf(hundredths * ROUND);
	lab_sink += (ul)left;
}

static OWN void mix_deep(ul hundredths)
{
	mix_down(hundredths, 9);
	lab_sink++;
}

static OWN void mix_rest_part(ul hundredths)
{
	mix_rest(hundredths * ROUND);
	lab_sink++;
}

static OWN void mix_kernel(ul times)
{
	for (ul i = 0; i < times; i++)
		if (read(zero, buffer, sizeof buffer) < 0)
			lab_sink++;
}

static OWN void other_most(ul hundredths)
{
	other_most_leaf(hundredths * ROUND);
	lab_sink++;
}

static OWN void other_least_part(ul hundredths)
{
	other_least(hundredths * ROUND);
	lab_sink++;
}

static ul now(void)
{
	struct timespec t;
	if (!calls || clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t))
		return 0;
	return (ul)t.tv_sec * 1000000000ul + (ul)t.tv_nsec;
}

static OWN void part(ul index, const char *name, void (*run)(ul), ul size)
{
	ul begin = now();
	if (!*mix_truth.part[index].name)
		strncpy(mix_truth.part[index].name, name, sizeof mix_truth.part[index].name - 1);
	run(size);
	mix_truth.part[index].rounds += size;
	mix_truth.part[index].nanoseconds += now() - begin;
}

static OWN void mix_run(int other)
{
	char note[64];
	ENTER(mix_run);
	mix_truth.parts = (other ? 2 : 5) + (ul)calls;
	mix_truth.calls = (ul)calls;
	snprintf(note, sizeof note, "mix_truth 0x%lx", (ul)(uintptr_t)&mix_truth);
	lab_report("mix", other ? "other" : "main", "user-loop", note);
	do {
		if (other) {
			part(0, "other_most", other_most, 70);
			part(1, "other_least", other_least_part, 30);
		} else {
			part(0, "mix_half", mix_half, 50);
			part(1, "mix_left", mix_left, 20);
			part(2, "mix_right", mix_right, 10);
			part(3, "mix_deep", mix_deep, 15);
			part(4, "mix_rest", mix_rest_part, 5);
		}
		if (calls)
			part(mix_truth.parts - 1, "mix_kernel", mix_kernel, 20);
	} while (!lab_never);
}

int main(int count, char **words)
{
	ENTER(main);
	int other = count > 1 && !strcmp(words[1], "other");
	calls = count > 1 && !strcmp(words[count - 1], "calls");
	if (other)
		pthread_setname_np(pthread_self(), "mix-other");
	if (calls && (zero = open("/dev/zero", O_RDONLY | O_CLOEXEC)) < 0)
		return 1;
	mix_run(other);
	lab_sink++;
	return 0;
}
