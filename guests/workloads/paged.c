/* Memory that is swapped out, and memory in huge pages: paged [MiB [HUGE]].
 *
 * MiB MiB (16) are filled and given to swap; HUGE MiB (8) are filled in transparent huge
 * pages. Each word holds its own address, exclusive or a number. The report's note says
 * where they lie: "swapped=0xADDR+LEN huge=0xADDR+LEN key=0x…". */
#include "lab.h"

#define KEY 0x5ee5ee5ee5ee5ee5ul
#define HUGE_PAGE (2ul << 20)
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

static void fill(char *at, size_t len)
{
	for (size_t i = 0; i < len; i += 8)
		*(unsigned long *)(void *)(at + i) = (unsigned long)(uintptr_t)(at + i) ^ KEY;
}

/* A number of /proc/self/status or smaps_rollup, in KiB. */
static long told(const char *file, const char *name)
{
	char line[256];
	long value = 0;
	FILE *f = fopen(file, "re");
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, name, strlen(name)))
			value = strtol(line + strlen(name), 0, 10);
	if (f)
		fclose(f);
	return value;
}

static NI void paged_block(const char *note)
{
	ENTER(paged_block);
	lab_report("paged", "main", "pause", note);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	size_t len = (size_t)(argc > 1 ? atoi(argv[1]) : 16) << 20;
	size_t huge_len = (size_t)(argc > 2 ? atoi(argv[2]) : 8) << 20;
	int rw = PROT_READ | PROT_WRITE, private = MAP_PRIVATE | MAP_ANONYMOUS;
	char note[300];
	ENTER(main);
	char *swapped = mmap(0, len, rw, private, -1, 0);
	char *huge = mmap(0, huge_len + HUGE_PAGE, rw, private, -1, 0);
	if (swapped == MAP_FAILED || huge == MAP_FAILED)
		return 1;
	huge += -(uintptr_t)huge & (HUGE_PAGE - 1);
	if (madvise(huge, huge_len, MADV_HUGEPAGE))
		perror("paged: MADV_HUGEPAGE");
	fill(huge, huge_len);
	fill(swapped, len);
	for (int i = 0; i < 50 && told("/proc/self/status", "VmSwap:") * 1024 < (long)len / 2; i++) {
		if (madvise(swapped, len, MADV_PAGEOUT))
			perror("paged: MADV_PAGEOUT");
		usleep(100000);
	}
	snprintf(note, sizeof note,
		 "swapped=%p+0x%zx huge=%p+0x%zx key=0x%lx vmswap=%ldk anonhuge=%ldk",
		 (void *)swapped, len, (void *)huge, huge_len, KEY,
		 told("/proc/self/status", "VmSwap:"),
		 told("/proc/self/smaps_rollup", "AnonHugePages:"));
	paged_block(note);
	return 0;
}
