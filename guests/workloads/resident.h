/* Which pages of the files that programs run from are in the page cache: mincore() says it
 * without touching them. Part of collect.c, whose head() and put() it uses.
 *
 * The file "resident" of the stream has a line for each such file: device and inode as
 * /proc/PID/maps has them, the pages of the whole file, then "first+count" for each run of
 * pages that are there. */
#ifndef LAB_RESIDENT_H
#define LAB_RESIDENT_H
#include <sys/mman.h>

#define RESIDENT_FILES 300

/* The line of one file, open as fd. */
static void resident_file(int fd, const char *dev, unsigned long inode)
{
	static char line[32 * 1024];
	struct stat st;
	long page = sysconf(_SC_PAGESIZE);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size <= 0)
		return;
	size_t pages = ((size_t)st.st_size + (size_t)page - 1) / (size_t)page;
	unsigned char *there = malloc(pages);
	void *m = mmap(0, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (there && m != MAP_FAILED && !mincore(m, (size_t)st.st_size, there)) {
		size_t k = (size_t)snprintf(line, sizeof line, "%s %lu %zu", dev, inode, pages);
		for (size_t i = 0; i < pages && k < sizeof line - 64; i++) {
			size_t first = i;
			while (i < pages && there[i] & 1)
				i++;
			if (i > first)
				k += (size_t)snprintf(line + k, 60, " %zu+%zu", first, i - first);
		}
		line[k++] = '\n';
		head('F', k, "resident");
		put(line, k);
	}
	if (m != MAP_FAILED)
		munmap(m, (size_t)st.st_size);
	free(there);
}

/* Those that the process in /proc/PID runs code of, if they were not told yet. */
static void resident(const char *p)
{
	static char seen[RESIDENT_FILES][48];
	static int n;
	char b[1024], line[4400], perms[8], dev[24], key[48];
	unsigned long start, end, offset, inode;
	if (p[6] < '0' || p[6] > '9')
		return;
	snprintf(b, sizeof b, "%s/maps", p);
	FILE *f = fopen(b, "re");
	while (f && fgets(line, sizeof line, f)) {
		if (sscanf(line, "%lx-%lx %7s %lx %23s %lu", &start, &end, perms, &offset, dev,
			   &inode) != 6 ||
		    !inode || perms[2] != 'x')
			continue;
		int known = n >= RESIDENT_FILES;
		snprintf(key, sizeof key, "%s %lu", dev, inode);
		for (int i = 0; i < n && !known; i++)
			known = !strcmp(seen[i], key);
		if (known)
			continue;
		strcpy(seen[n++], key);
		snprintf(b, sizeof b, "%s/map_files/%lx-%lx", p, start, end);
		int fd = open(b, O_RDONLY | O_CLOEXEC);
		if (fd >= 0)
			resident_file(fd, dev, inode);
		if (fd >= 0)
			close(fd);
	}
	if (f)
		fclose(f);
}
#endif
