/* barekvm: the smallest program that uses KVM, as a guest to test with. It needs no operating system in the guest and no QEMU.
 *
 *   gcc -O2 -pthread -o barekvm barekvm.c
 *   barekvm loop|hlt|sleep|paused [options]
 *   barekvm core FILE parked|exits|blocked|run [options]
 *
 * Modes with code of their own, RAM at 0 (8 MiB) and at 4 GiB (8 MiB):
 *   loop     every vCPU counts in guest memory for ever and never leaves KVM_RUN by itself
 *   hlt      every vCPU halts: its thread sleeps inside KVM_RUN (interrupt controller in the kernel)
 *   sleep    the registers are set, KVM_RUN is never called
 *   paused   loop for a moment, then out of KVM_RUN and waiting, as a paused QEMU is
 * core: memory and registers of FILE (QEMU's dump-guest-memory), whose state stays as it is but with run:
 *   parked   KVM_RUN is never called
 *   exits    every 10 ms KVM_RUN, which immediate_exit ends before the guest is entered
 *   blocked  the threads are inside KVM_RUN, where they wait for an INIT that does not come
 *   run      the guest really runs, without a timer: a vCPU in a loop in user mode goes on in it, one that halts stays so
 * Options:
 *   --vcpus N      (not core) how many; 1
 *   --user         (loop, paused) counts in user mode, which some hosts run at full speed where they emulate kernel mode
 *   --counter GPA  (core) a word of 8 bytes in the guest that `counters` shows
 *   --memfd        RAM is a shared memfd
 *   --seccomp      the threads of the vCPUs are killed, and all with them, at any ioctl but KVM_RUN
 *   --seconds N    ends after so long; 600
 *   --control      obeys lines on stdin: counters, pause, resume, jail (all threads, at once),
 *                  plug (hlt: a vCPU more), unplug (loop: the last goes), quit;
 *                  ends with stdin
 * The first line on stdout is a JSON object: the layout (guest physical address, size, address here), threads, and the registers
 * that a reader must find. `counters` answers with one too. Exit status 0, or 1 and the reason. */
#define _GNU_SOURCE
#include "core.h"
#include <errno.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#define MB (1ul << 20)
#define GB (1ul << 30)
#define MSR_LSTAR 0xc0000082
#define MSR_KERNEL_GS_BASE 0xc0000102
#define CODE 0x100000ul
#define COUNTERS 0x5000ul
#define COUNTERS_APART 64ul /* a cache line each */

enum what { PARKED, EXITS, BLOCKED, RUN };

struct vcpu {
	int index, fd;
	pid_t tid;
	pthread_t thread;
	struct kvm_run *run;
	volatile long interrupted, exits;
	volatile bool out; /* of KVM_RUN, and waiting */
	volatile bool unplugged;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	uint64_t lstar, kernel_gs_base, cr4_wanted;
	bool has_lstar;
};

static struct {
	const char *mode, *core_path;
	enum what what;
	int vcpus, seconds;
	bool memfd, seccomp, control, user, pause_first;
	uint64_t counter;
} opt = {.vcpus = 1, .seconds = 600};

static struct vcpu vcpus[MOST_VCPUS];
static struct kvm_userspace_memory_region slots[MOST_PIECES];
static int slot_count, kvm, vm, memory_fd = -1;
static volatile bool want_pause;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static long must(long result, const char *what)
{
	if (result < 0) {
		fprintf(stderr, "barekvm: %s: %s\n", what, strerror(errno));
		exit(1);
	}
	return result;
}

/* Memory for slots, one after the other in the order given, with a hole of a page between them. */
static uint8_t *memory(size_t size)
{
	if (!opt.memfd) {
		uint8_t *at = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		must(at == MAP_FAILED ? -1 : 0, "mmap");
		return at;
	}
	if (memory_fd < 0)
		memory_fd = (int)must(memfd_create("guest_memory", MFD_CLOEXEC), "memfd_create");
	off_t old = lseek(memory_fd, 0, SEEK_END);
	must(ftruncate(memory_fd, old + (off_t)size), "ftruncate");
	uint8_t *at = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, old);
	must(at == MAP_FAILED ? -1 : 0, "mmap");
	return at;
}

static void add_slot(uint64_t gpa, uint64_t size, uint8_t *at)
{
	struct kvm_userspace_memory_region *slot = &slots[slot_count];
	*slot = (struct kvm_userspace_memory_region){(uint32_t)slot_count, 0, gpa, size, (uint64_t)at};
	must(ioctl(vm, KVM_SET_USER_MEMORY_REGION, slot), "KVM_SET_USER_MEMORY_REGION");
	slot_count++;
}

/* The bytes of the host at a guest physical address. */
static uint8_t *at_gpa(uint64_t gpa)
{
	for (int i = 0; i < slot_count; i++)
		if (gpa >= slots[i].guest_phys_addr && gpa - slots[i].guest_phys_addr < slots[i].memory_size)
			return (uint8_t *)slots[i].userspace_addr + (gpa - slots[i].guest_phys_addr);
	fprintf(stderr, "barekvm: no memory at %#lx\n", gpa);
	exit(1);
}

static void make_vcpu(int index)
{
	struct vcpu *v = &vcpus[index];
	static struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[256];
	} cpuid;
	v->index = index;
	v->fd = (int)must(ioctl(vm, KVM_CREATE_VCPU, index), "KVM_CREATE_VCPU");
	long size = must(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
	v->run = mmap(0, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	must(v->run == MAP_FAILED ? -1 : 0, "mmap of kvm_run");
	cpuid.head.nent = 256;
	must(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid), "KVM_GET_SUPPORTED_CPUID");
	must(ioctl(v->fd, KVM_SET_CPUID2, &cpuid), "KVM_SET_CPUID2");
	must(ioctl(v->fd, KVM_GET_SREGS, &v->sregs), "KVM_GET_SREGS");
}

static void set_msr(struct vcpu *v, uint32_t index, uint64_t value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msr = {{1, 0}, {index, 0, value}};
	if (ioctl(v->fd, KVM_SET_MSRS, &msr) != 1) {
		fprintf(stderr, "barekvm: KVM_SET_MSRS refuses %#x=%#lx\n", index, value);
		exit(1);
	}
}

/* Gives the registers to KVM. Bits of CR4 that this host's KVM refuses, and that translate no address, are left out. */
static void set_registers(struct vcpu *v)
{
	static const int spare[] = {24, 23, 22, 21, 20, 18, 16, 14, 13, 11, 10, 9, 8, 6, 3, 2, 1, 0};
	v->cr4_wanted = v->sregs.cr4;
	int refused = ioctl(v->fd, KVM_SET_SREGS, &v->sregs);
	for (size_t i = 0; refused && errno == EINVAL && i < sizeof spare / sizeof *spare; i++) {
		v->sregs.cr4 &= ~(1ul << spare[i]);
		refused = ioctl(v->fd, KVM_SET_SREGS, &v->sregs);
	}
	must(refused, "KVM_SET_SREGS");
	must(ioctl(v->fd, KVM_SET_REGS, &v->regs), "KVM_SET_REGS");
	if (v->has_lstar)
		set_msr(v, MSR_LSTAR, v->lstar);
	set_msr(v, MSR_KERNEL_GS_BASE, v->kernel_gs_base);
}

/* Guest physical and virtual addresses are the same: the first 8 MiB, and 8 MiB at 4 GiB, in pages of 2 MiB. */
static void own_guest(void)
{
	/* what lies higher in the guest lies lower here: nobody may take the one order for the other */
	uint8_t *all = memory(16 * MB + 4096), *high = all, *low = all + 8 * MB + 4096;
	add_slot(0, 8 * MB, low);
	add_slot(4 * GB, 8 * MB, high);
	uint64_t *pml4 = (void *)(low + 0x1000), *pdpt = (void *)(low + 0x2000);
	uint64_t *first = (void *)(low + 0x3000), *fifth = (void *)(low + 0x4000);
	uint64_t user = opt.user ? 4 : 0;
	pml4[0] = 0x2003 | user;
	pdpt[0] = 0x3003 | user;
	pdpt[4] = 0x4003 | user;
	for (unsigned long i = 0; i < 4; i++) {
		first[i] = i * 2 * MB | 0x83 | user;
		fifth[i] = (4 * GB + i * 2 * MB) | 0x83 | user;
	}
	strcpy((char *)low + 0x200, "low memory begins at 0");
	strcpy((char *)high + 0x100, "high memory begins at 4 GiB");
	static const uint8_t count[] = {0x48, 0xff, 0x07, 0xeb, 0xfb}; /* 1: incq (%rdi); jmp 1b */
	static const uint8_t halt[] = {0xf4, 0xeb, 0xfd};	       /* 1: hlt; jmp 1b */
	memcpy(low + CODE, strcmp(opt.mode, "hlt") ? count : halt, strcmp(opt.mode, "hlt") ? sizeof count : sizeof halt);
	for (int i = 0; i < opt.vcpus; i++) {
		struct vcpu *v = &vcpus[i];
		uint64_t n = (uint64_t)i;
		make_vcpu(i);
		struct kvm_segment code = {0, 0xffffffff, 8, 11, 1, 0, 0, 1, 1, 1, 0, 0, 0};
		struct kvm_segment data = {0, 0xffffffff, 16, 3, 1, 0, 1, 1, 0, 1, 0, 0, 0};
		if (opt.user) {
			code.selector = 0x33;
			data.selector = 0x2b;
			code.dpl = data.dpl = 3;
		}
		v->sregs.cs = code;
		v->sregs.ds = v->sregs.es = v->sregs.ss = v->sregs.fs = v->sregs.gs = data;
		v->sregs.fs.base = 0x7f0011223000 + n * 0x1000;
		v->sregs.gs.base = 0xffff888012345000 + n * 0x1000;
		v->sregs.cr0 = 0x80050033;
		v->sregs.cr2 = 0xc0ffee;
		v->sregs.cr3 = 0x1000;
		v->sregs.cr4 = 0x20;
		v->sregs.efer = 0xd01;
		v->regs = (struct kvm_regs){.rax = 0x1111, .rbx = 0x2222 + n, .rcx = 0x3333, .rdx = 0x4444, .rsi = 0x5555,
					    .rdi = COUNTERS + n * COUNTERS_APART, .rbp = 0x6666, .rsp = 0x9000 + n * 0x1000,
					    .r8 = 0x8888, .r9 = 0x9999, .r10 = 0xaaaa, .r11 = 0xbbbb, .r12 = 0xcccc,
					    .r13 = 0xdddd, .r14 = 0xeeee, .r15 = 0xf15f15, .rip = CODE, .rflags = 2};
		v->lstar = 0xffffffff81c00080;
		v->has_lstar = true;
		v->kernel_gs_base = 0xffff8880deadb000 + n * 0x1000;
		set_registers(v);
	}
}

/* A segment of the note: QEMU keeps the second word of the descriptor as `flags`. */
static struct kvm_segment segment(const struct core_segment *from)
{
	uint32_t flags = from->flags;
	struct kvm_segment to = {.base = from->base, .limit = from->limit, .selector = (uint16_t)from->selector,
				 .type = flags >> 8 & 15, .s = flags >> 12 & 1, .dpl = flags >> 13 & 3,
				 .present = flags >> 15 & 1, .avl = flags >> 20 & 1, .l = flags >> 21 & 1,
				 .db = flags >> 22 & 1, .g = flags >> 23 & 1};
	to.unusable = !to.present;
	return to;
}

static void core_guest(void)
{
	static struct core core;
	core_open(&core, opt.core_path);
	for (int i = 0; i < core.pieces; i++) {
		const struct core_piece *piece = &core.piece[i];
		uint8_t *at = memory(piece->size);
		memory(4096); /* apart from the next one */
		add_slot(piece->gpa, piece->size, at);
		core_load(&core, piece, at);
	}
	close(core.fd);
	opt.vcpus = core.vcpus;
	for (int i = 0; i < core.vcpus; i++) {
		const struct core_cpu *c = &core.vcpu[i];
		struct vcpu *v = &vcpus[i];
		make_vcpu(i);
		v->regs = (struct kvm_regs){.rax = c->rax, .rbx = c->rbx, .rcx = c->rcx, .rdx = c->rdx, .rsi = c->rsi, .rdi = c->rdi,
					    .rsp = c->rsp, .rbp = c->rbp, .r8 = c->r8, .r9 = c->r9, .r10 = c->r10, .r11 = c->r11,
					    .r12 = c->r12, .r13 = c->r13, .r14 = c->r14, .r15 = c->r15, .rip = c->rip,
					    .rflags = c->rflags};
		v->sregs.cs = segment(&c->cs);
		v->sregs.ds = segment(&c->ds);
		v->sregs.es = segment(&c->es);
		v->sregs.fs = segment(&c->fs);
		v->sregs.gs = segment(&c->gs);
		v->sregs.ss = segment(&c->ss);
		v->sregs.tr = segment(&c->tr);
		v->sregs.ldt = segment(&c->ldt);
		v->sregs.gdt.base = c->gdt.base;
		v->sregs.gdt.limit = (uint16_t)c->gdt.limit;
		v->sregs.idt.base = c->idt.base;
		v->sregs.idt.limit = (uint16_t)c->idt.limit;
		v->sregs.cr0 = c->cr[0];
		v->sregs.cr2 = c->cr[2];
		v->sregs.cr3 = c->cr[3];
		v->sregs.cr4 = c->cr[4];
		/* the note has no EFER: paging with PAE is long mode where a 64-bit kernel was dumped */
		v->sregs.efer = 0xd01;
		v->kernel_gs_base = c->kernel_gs_base;
		set_registers(v);
	}
}

static void on_signal(int number)
{
	(void)number;
}

static void jail(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 2),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, KVM_RUN, 6, 5),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 5, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_restart_syscall, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_nanosleep, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
	must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), "PR_SET_SECCOMP");
}

/* All threads at once, as a program does that jails itself late: none may make an ioctl but KVM_RUN. */
static void jail_all(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, KVM_RUN, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
	must((int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program), "SECCOMP_SET_MODE_FILTER");
}

/* Waits outside KVM_RUN for as long as that is wanted. */
static void wait_while_paused(struct vcpu *v)
{
	pthread_mutex_lock(&lock);
	while (want_pause || opt.what == PARKED) {
		v->out = true;
		pthread_cond_broadcast(&changed);
		pthread_cond_wait(&changed, &lock);
	}
	v->out = false;
	pthread_mutex_unlock(&lock);
}

static void nap(void)
{
	struct timespec time = {0, 10000000};
	nanosleep(&time, 0);
}

static bool interrupt_controller(void)
{
	return !strcmp(opt.mode, "hlt") || opt.what == BLOCKED;
}

static void *run_vcpu(void *argument)
{
	struct vcpu *v = argument;
	char name[16];
	snprintf(name, sizeof name, "vcpu %d", v->index);
	pthread_setname_np(pthread_self(), name);
	v->tid = (pid_t)syscall(SYS_gettid);
	if (interrupt_controller()) {
		/* all but the first are born waiting for an INIT */
		struct kvm_mp_state state = {opt.what == BLOCKED ? KVM_MP_STATE_UNINITIALIZED : KVM_MP_STATE_RUNNABLE};
		must(ioctl(v->fd, KVM_SET_MP_STATE, &state), "KVM_SET_MP_STATE");
	}
	if (opt.seccomp)
		jail();
	pthread_mutex_lock(&lock);
	v->out = true; /* the tid is known */
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	if (opt.what == EXITS)
		v->run->immediate_exit = 1;
	for (;;) {
		wait_while_paused(v);
		if (ioctl(v->fd, KVM_RUN, 0) < 0) {
			if (errno != EINTR && errno != EAGAIN) {
				fprintf(stderr, "barekvm: KVM_RUN: %s\n", strerror(errno));
				exit(1);
			}
			v->interrupted++;
			if (v->unplugged)
				return 0;
		} else {
			v->exits++;
			uint32_t reason = v->run->exit_reason;
			if (reason == KVM_EXIT_HLT) /* and nobody would wake it */
				nap();
			else if (reason != KVM_EXIT_INTR && reason != KVM_EXIT_IRQ_WINDOW_OPEN) {
				fprintf(stderr, "barekvm: vCPU %d left the guest with exit %u, %u\n", v->index, reason,
					v->run->internal.suberror);
				exit(1);
			}
		}
		if (opt.what == EXITS)
			nap();
	}
	return 0;
}

static void pause_all(void)
{
	want_pause = true;
	for (int i = 0; i < opt.vcpus; i++) {
		vcpus[i].run->immediate_exit = 1; /* so that a signal before KVM_RUN is not lost */
		pthread_kill(vcpus[i].thread, SIGUSR1);
	}
	pthread_mutex_lock(&lock);
	for (int i = 0; i < opt.vcpus; i++)
		while (!vcpus[i].out)
			pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

static void resume_all(void)
{
	pthread_mutex_lock(&lock);
	for (int i = 0; i < opt.vcpus; i++)
		vcpus[i].run->immediate_exit = opt.what == EXITS;
	want_pause = false;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

/* A vCPU more, which waits in KVM_RUN for an INIT that does not come. */
static void *run_plugged(void *argument)
{
	(void)argument;
	int fd = (int)must(ioctl(vm, KVM_CREATE_VCPU, opt.vcpus), "KVM_CREATE_VCPU");
	for (;;)
		ioctl(fd, KVM_RUN, 0);
	return 0;
}

static void plug(void)
{
	pthread_t thread;
	must(pthread_create(&thread, 0, run_plugged, 0), "pthread_create");
	nap();
}

/* The last vCPU goes as it does from QEMU: its descriptor stays, its thread ends, its page becomes memory for something else. */
static void unplug(void)
{
	struct vcpu *v = &vcpus[opt.vcpus - 1];
	size_t size = (size_t)must(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
	v->unplugged = true;
	v->run->immediate_exit = 1;
	pthread_kill(v->thread, SIGUSR1);
	pthread_join(v->thread, 0);
	if (mmap(v->run, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		must(-1, "mmap");
}

static uint64_t counter(int index)
{
	if (!opt.core_path)
		return *(volatile uint64_t *)at_gpa(COUNTERS + (uint64_t)index * COUNTERS_APART);
	return opt.counter ? *(volatile uint64_t *)at_gpa(opt.counter) : 0;
}

static void print_counters(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	printf("{\"seconds\":%.6f,\"paused\":%s,\"vcpus\":[", (double)now.tv_sec + (double)now.tv_nsec / 1e9,
	       want_pause ? "true" : "false");
	for (int i = 0; i < opt.vcpus; i++)
		printf("%s{\"counter\":%lu,\"interrupted\":%ld,\"exits\":%ld}", i ? "," : "", counter(i), vcpus[i].interrupted,
		       vcpus[i].exits);
	printf("]}\n");
	fflush(stdout);
}

static void print_vcpu(const struct vcpu *v)
{
	const struct kvm_regs *r = &v->regs;
	const struct kvm_sregs *s = &v->sregs;
	printf("{\"index\":%d,\"tid\":%d,\"fd\":%d,\"registers\":{", v->index, v->tid, v->fd);
#define REG(name) printf("\"%s\":\"0x%llx\",", #name, (unsigned long long)r->name);
	REG(rax) REG(rbx) REG(rcx) REG(rdx) REG(rsi) REG(rdi) REG(rbp) REG(rsp) REG(r8) REG(r9) REG(r10) REG(r11) REG(r12) REG(r13)
	REG(r14) REG(r15) REG(rip) REG(rflags)
#undef REG
	printf("\"cs\":\"0x%x\",\"ss\":\"0x%x\",\"fs_base\":\"0x%llx\",\"gs_base\":\"0x%llx\",\"kernel_gs_base\":\"0x%lx\",", s->cs.selector,
	       s->ss.selector, s->fs.base, s->gs.base, v->kernel_gs_base);
	if (v->has_lstar)
		printf("\"lstar\":\"0x%lx\",", v->lstar);
	printf("\"cr0\":\"0x%llx\",\"cr2\":\"0x%llx\",\"cr3\":\"0x%llx\",\"cr4\":\"0x%llx\",\"efer\":\"0x%llx\"},\"cr4_wanted\":\"0x%lx\"}",
	       s->cr0, s->cr2, s->cr3, s->cr4, s->efer, v->cr4_wanted);
}

static void print_facts(void)
{
	printf("{\"pid\":%d,\"mode\":\"%s\",\"memory\":\"%s\",\"slots\":[", getpid(), opt.mode, opt.memfd ? "memfd" : "anonymous");
	for (int i = 0; i < slot_count; i++)
		printf("%s{\"slot\":%u,\"gpa\":\"0x%llx\",\"size\":\"0x%llx\",\"hva\":\"0x%llx\"}", i ? "," : "", slots[i].slot,
		       slots[i].guest_phys_addr, slots[i].memory_size, slots[i].userspace_addr);
	printf("],\"layout\":\"");
	for (int i = 0; i < slot_count; i++)
		printf("%s0x%llx+0x%llx@0x%llx", i ? "," : "", slots[i].guest_phys_addr, slots[i].memory_size, slots[i].userspace_addr);
	printf("\",\"vcpus\":[");
	for (int i = 0; i < opt.vcpus; i++) {
		printf("%s", i ? "," : "");
		print_vcpu(&vcpus[i]);
	}
	printf("]}\n");
	fflush(stdout);
}

static void usage(void)
{
	fprintf(stderr, "usage: barekvm loop|hlt|sleep|paused [--vcpus N] [--user] [--memfd] [--seccomp] [--seconds N] [--control]\n"
			"       barekvm core FILE parked|exits|blocked|run [--counter GPA] [--memfd] [--seccomp] [--seconds N] [--control]\n");
	exit(2);
}

static void arguments(int count, char **words)
{
	int next = 2;
	if (count < 2)
		usage();
	opt.mode = words[1];
	if (!strcmp(opt.mode, "core")) {
		static const char *names[] = {"parked", "exits", "blocked", "run"};
		if (count < 4)
			usage();
		opt.core_path = words[2];
		for (opt.what = PARKED; opt.what <= RUN && strcmp(words[3], names[opt.what]);)
			opt.what++;
		if (opt.what > RUN)
			usage();
		next = 4;
	} else if (!strcmp(opt.mode, "loop") || !strcmp(opt.mode, "hlt") || !strcmp(opt.mode, "paused")) {
		opt.what = RUN;
		opt.pause_first = !strcmp(opt.mode, "paused");
	} else if (strcmp(opt.mode, "sleep")) {
		usage();
	}
	for (; next < count; next++) {
		bool more = next + 1 < count;
		if (!strcmp(words[next], "--memfd"))
			opt.memfd = true;
		else if (!strcmp(words[next], "--seccomp"))
			opt.seccomp = true;
		else if (!strcmp(words[next], "--control"))
			opt.control = true;
		else if (!strcmp(words[next], "--user") && !opt.core_path)
			opt.user = true;
		else if (!strcmp(words[next], "--counter") && more && opt.core_path)
			opt.counter = strtoull(words[++next], 0, 0);
		else if (!strcmp(words[next], "--seconds") && more)
			opt.seconds = atoi(words[++next]);
		else if (!strcmp(words[next], "--vcpus") && more && !opt.core_path)
			opt.vcpus = atoi(words[++next]);
		else
			usage();
	}
	if (opt.vcpus < 1 || opt.vcpus > MOST_VCPUS || opt.seconds < 1 || (opt.counter & 7))
		usage();
}

/* Obeys stdin until `quit`, its end, or the end of the time. */
static void serve(void)
{
	char line[64];
	size_t length = 0;
	struct timespec begin, now;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (;;) {
		struct pollfd in = {opt.control ? 0 : -1, POLLIN, 0};
		clock_gettime(CLOCK_MONOTONIC, &now);
		long left = opt.seconds - (now.tv_sec - begin.tv_sec);
		if (left <= 0)
			return;
		if (poll(&in, 1, (int)(left > 1000 ? 1000 : left) * 1000) <= 0)
			continue;
		char c;
		if (read(0, &c, 1) != 1)
			return;
		if (c != '\n') {
			if (length < sizeof line - 1)
				line[length++] = c;
			continue;
		}
		line[length] = 0;
		length = 0;
		if (!strcmp(line, "quit"))
			return;
		if (!strcmp(line, "pause"))
			pause_all();
		else if (!strcmp(line, "resume"))
			resume_all();
		else if (!strcmp(line, "jail"))
			jail_all();
		else if (!strcmp(line, "plug"))
			plug();
		else if (!strcmp(line, "unplug"))
			unplug();
		print_counters();
	}
}

int main(int count, char **words)
{
	arguments(count, words);
	kvm = (int)must(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	vm = (int)must(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	if (interrupt_controller())
		must(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
	if (opt.core_path)
		core_guest();
	else
		own_guest();
	struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: KVM_RUN is left */
	sigaction(SIGUSR1, &action, 0);
	for (int i = 0; i < opt.vcpus; i++)
		must(-pthread_create(&vcpus[i].thread, 0, run_vcpu, &vcpus[i]), "pthread_create");
	pthread_mutex_lock(&lock);
	for (int i = 0; i < opt.vcpus; i++)
		while (!vcpus[i].tid || (opt.what == PARKED && !vcpus[i].out))
			pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	if (opt.pause_first) {
		for (int i = 0; i < opt.vcpus; i++)
			while (counter(i) < 1000)
				nap();
		pause_all();
		for (int i = 0; i < opt.vcpus; i++)
			must(ioctl(vcpus[i].fd, KVM_GET_REGS, &vcpus[i].regs), "KVM_GET_REGS");
	}
	print_facts();
	serve();
	_exit(0);
}
