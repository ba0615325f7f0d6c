/* An ELF core of a guest, as QEMU's dump-guest-memory writes it: which pieces of physical memory it has, and each vCPU's
 * registers. Sources: the ELF format; arch_dump.c of QEMU for the notes. */
#ifndef CORE_H
#define CORE_H
#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_PIECES 32
#define MOST_VCPUS 16

struct core_segment {
	uint32_t selector, limit, flags, pad;
	uint64_t base;
};

/* The description of a note called QEMU, version 1. */
struct core_cpu {
	uint32_t version, size;
	uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags;
	struct core_segment cs, ds, es, fs, gs, ss, ldt, tr, gdt, idt;
	uint64_t cr[5];
	uint64_t kernel_gs_base;
};

/* Where a PT_LOAD lies in the guest and in the file. */
struct core_piece {
	uint64_t gpa, size, offset, bytes;
};

struct core {
	int fd, pieces, vcpus;
	struct core_piece piece[MOST_PIECES];
	struct core_cpu vcpu[MOST_VCPUS];
};

static void core_fails(const char *path, const char *why)
{
	fprintf(stderr, "barekvm: %s: %s\n", path, why);
	exit(1);
}

static void core_note(struct core *core, const char *path, const uint8_t *at, const uint8_t *end)
{
	while (at + sizeof(Elf64_Nhdr) <= end) {
		const Elf64_Nhdr *note = (const void *)at;
		const uint8_t *name = at + sizeof *note, *desc = name + ((note->n_namesz + 3) & ~3u);
		if (desc < name || desc + note->n_descsz > end)
			core_fails(path, "a note leaves its segment");
		/* before QEMU 5.0 the note ends without kernel_gs_base: it stays 0 */
		if (note->n_namesz == 5 && !memcmp(name, "QEMU", 5) && note->n_descsz >= sizeof(struct core_cpu) - 8) {
			if (core->vcpus == MOST_VCPUS)
				core_fails(path, "too many vCPUs");
			size_t size = note->n_descsz < sizeof(struct core_cpu) ? note->n_descsz : sizeof(struct core_cpu);
			memcpy(&core->vcpu[core->vcpus], desc, size);
			if (core->vcpu[core->vcpus++].version != 1)
				core_fails(path, "a QEMU note of an unknown version");
		}
		at = desc + ((note->n_descsz + 3) & ~3u);
	}
}

/* Reads headers and notes. What is wrong with the file ends the program. */
static void core_open(struct core *core, const char *path)
{
	Elf64_Ehdr head;
	struct stat about;
	memset(core, 0, sizeof *core);
	core->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (core->fd < 0 || fstat(core->fd, &about)) {
		perror(path);
		exit(1);
	}
	if (pread(core->fd, &head, sizeof head, 0) != sizeof head || memcmp(head.e_ident, ELFMAG, SELFMAG) ||
	    head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_type != ET_CORE || head.e_machine != EM_X86_64)
		core_fails(path, "not an ELF core of an x86_64 guest");
	for (int i = 0; i < head.e_phnum; i++) {
		Elf64_Phdr part;
		if (pread(core->fd, &part, sizeof part, (off_t)(head.e_phoff + (uint64_t)i * head.e_phentsize)) != sizeof part)
			core_fails(path, "program headers end early");
		if (part.p_offset + part.p_filesz < part.p_offset || part.p_offset + part.p_filesz > (uint64_t)about.st_size)
			core_fails(path, "a segment reaches past the end of the file");
		if (part.p_type == PT_NOTE) {
			uint8_t *notes = malloc(part.p_filesz + 1);
			if (!notes || pread(core->fd, notes, part.p_filesz, (off_t)part.p_offset) != (ssize_t)part.p_filesz)
				core_fails(path, "notes cannot be read");
			core_note(core, path, notes, notes + part.p_filesz);
			free(notes);
		} else if (part.p_type == PT_LOAD && part.p_memsz) {
			if (part.p_paddr & 4095)
				core_fails(path, "a segment begins within a page");
			if (core->pieces == MOST_PIECES)
				core_fails(path, "too many segments");
			struct core_piece *piece = &core->piece[core->pieces++];
			piece->gpa = part.p_paddr;
			piece->size = (part.p_memsz + 4095) & ~4095ul;
			piece->offset = part.p_offset;
			piece->bytes = part.p_filesz;
		}
	}
	if (!core->pieces || !core->vcpus)
		core_fails(path, "no memory, or no QEMU note with registers");
}

/* The bytes of a piece. Pages of zeroes are not touched, so that they cost nothing. */
static void core_load(const struct core *core, const struct core_piece *piece, uint8_t *to)
{
	static uint8_t page[4096], zero[4096];
	for (uint64_t done = 0; done < piece->bytes; done += sizeof page) {
		uint64_t left = piece->bytes - done, want = left < sizeof page ? left : sizeof page;
		if (pread(core->fd, page, want, (off_t)(piece->offset + done)) != (ssize_t)want) {
			perror("core");
			exit(1);
		}
		if (memcmp(page, zero, want))
			memcpy(to + done, page, want);
	}
}
#endif
