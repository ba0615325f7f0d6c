//! The `NT_PRSTATUS` note of an x86_64 core, written: what debuggers take a vCPU's registers from. It is not read: the `QEMU` note
//! has all of it and more.
//!
//! Source: Linux' `struct elf_prstatus` and `struct user_regs_struct` (`arch/x86/include/asm/user_64.h`), as QEMU fills them in
//! (`target/i386/arch_dump.c`): 112 bytes of which the process id is a number for the vCPU, then r15 r14 r13 r12 rbp rbx r11 r10
//! r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs, then a word for floating point.

use vmc::arch::x86_64::Registers;

const THREAD: usize = 32;
const BEFORE: usize = 112;

/// A note's description for the vCPU that debuggers shall know by the number `thread`.
pub(crate) fn description(thread: u32, registers: &Registers) -> Vec<u8> {
    let mut note = vec![0; BEFORE];
    if let Some(slot) = note.get_mut(THREAD..).and_then(|rest| rest.first_chunk_mut()) {
        *slot = thread.to_le_bytes();
    }
    let [rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15] = registers.general;
    let registers = [
        r15,
        r14,
        r13,
        r12,
        rbp,
        rbx,
        r11,
        r10,
        r9,
        r8,
        rax,
        rcx,
        rdx,
        rsi,
        rdi,
        // orig_rax: no system call is to be taken up again.
        0,
        registers.rip,
        registers.cs.into(),
        registers.rflags,
        rsp,
        registers.ss.into(),
        registers.fs_base,
        registers.gs_base,
        // The selectors of ds, es, fs and gs are not known; 64-bit code does without.
        0,
        0,
        0,
        0,
        // No floating-point registers follow.
        0,
    ];
    registers.iter().for_each(|register: &u64| note.extend(register.to_le_bytes()));
    note
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmc::bytes::{u32_at, u64_at};

    /// Offsets by `<sys/user.h>` and `<sys/procfs.h>` on x86_64: `offsetof(struct elf_prstatus, pr_reg)` is 112, its size 336.
    #[test]
    fn each_register_goes_to_its_place() {
        let general = std::array::from_fn(|n| n as u64 + 1);
        let registers =
            Registers { general, rip: 0x20, cs: 0x33, rflags: 0x202, ss: 0x2b, ..Registers::default() };
        let note = description(7, &registers);
        assert_eq!((note.len(), u32_at(&note, 32)), (336, Some(7)));
        let register = |index: usize| u64_at(&note, 112 + index * 8).unwrap();
        // r15, rbp, rbx, r8, rax, rcx, rdx, rsi, rdi, orig_rax
        assert_eq!([0, 4, 5, 9, 10, 11, 12, 13, 14, 15].map(register), [16, 7, 4, 9, 1, 3, 2, 5, 6, 0]);
        assert_eq!([16, 17, 18, 19, 20].map(register), [0x20, 0x33, 0x202, 8, 0x2b]);
    }
}
