/* An unwinder of another make, run in the guest after the capture: libunwind over
 * ptrace, every thread of the process argv[1]. One line per frame:
 *   T <tid> / F <n> <ip> <sp> <is_signal> <symbol>+<off> */
#include <dirent.h>
#include <libunwind-ptrace.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char p[64];
	DIR *d;
	struct dirent *e;
	if (argc < 2)
		return 2;
	snprintf(p, sizeof p, "/proc/%s/task", argv[1]);
	if (!(d = opendir(p)))
		return 1;
	while ((e = readdir(d))) {
		int tid = atoi(e->d_name), st = 0, n = 0, r;
		if (tid <= 0)
			continue;
		printf("T %d\n", tid);
		if (ptrace(PTRACE_SEIZE, tid, 0, 0) || ptrace(PTRACE_INTERRUPT, tid, 0, 0)) {
			printf("E ptrace\n");
			continue;
		}
		for (r = 0; r < 300 && waitpid(tid, &st, __WALL | WNOHANG) != tid; r++)
			usleep(10000);
		if (r == 300) {
			printf("E not stopped\n");
			continue;
		} /* uninterruptible */
		unw_addr_space_t as = unw_create_addr_space(&_UPT_accessors, 0);
		void *ui = _UPT_create(tid);
		unw_cursor_t c;
		if (as && ui && !unw_init_remote(&c, as, ui))
			do {
				unw_word_t ip = 0, sp = 0, off = 0;
				char sym[512] = "?";
				unw_get_reg(&c, UNW_REG_IP, &ip);
				unw_get_reg(&c, UNW_REG_SP, &sp);
				if (unw_get_proc_name(&c, sym, sizeof sym, &off)) {
					sym[0] = '?';
					sym[1] = 0;
					off = 0;
				}
				printf("F %d 0x%lx 0x%lx %d %s+0x%lx\n", n, (unsigned long)ip,
				       (unsigned long)sp, unw_is_signal_frame(&c) > 0, sym,
				       (unsigned long)off);
				r = unw_step(&c);
			} while (r > 0 && ++n < 300);
		if (ui)
			_UPT_destroy(ui);
		ptrace(PTRACE_DETACH, tid, 0, 0);
	}
	return 0;
}
