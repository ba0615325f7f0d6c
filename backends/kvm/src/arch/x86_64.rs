//! x86_64: `KVM_GET_REGS`, `KVM_GET_SREGS`, `KVM_GET_MSRS`, and the same in the page that a vCPU shares with its VMM.
//!
//! Sources: `arch/x86/include/uapi/asm/kvm.h`, `include/uapi/linux/kvm.h` and `arch/x86/include/asm/user_64.h` of Linux 6.12.

use vmc::arch::Registers;
use vmc::arch::x86_64;

use super::{Arch, Ask, BLOCK, Frame, NO_ANSWER, SCRATCH, bytes, done, get, put, set, word};
use crate::registers::SystemRegisters;

/// `sizeof(struct kvm_regs)`.
const REGS: usize = 144;
/// `sizeof(struct kvm_sregs)`.
const SREGS: usize = 312;
/// Where a block's MSRs begin: a mask of those that are known, then their values.
const MSRS: usize = REGS + SREGS;
/// `sizeof(struct kvm_segment)`.
const SEGMENT: usize = 24;

const KVM_GET_REGS: u64 = 0x8090_ae81;
const KVM_GET_SREGS: u64 = 0x8138_ae83;
const KVM_GET_MSRS: u64 = 0xc008_ae88;

/// STAR, LSTAR, SFMASK, KERNEL_GS_BASE: what `KVM_GET_SREGS` lacks.
const WANTED: [u32; 4] = [0xc000_0081, 0xc000_0082, 0xc000_0084, 0xc000_0102];
/// LSTAR among them.
const LSTAR: usize = 1;
/// KERNEL_GS_BASE among them.
const KERNEL_GS_BASE: usize = 3;

// Words of `struct user_regs_struct`.
const R10: usize = 7;
const RAX: usize = 10;
const RDX: usize = 12;
const RSI: usize = 13;
const RDI: usize = 14;
const ORIG_RAX: usize = 15;
const RIP: usize = 16;
const RSP: usize = 19;

/// A host of 64-bit x86.
#[derive(Debug)]
pub(crate) struct X86;

/// An MSR of a block.
fn msr(block: &[u8], index: usize) -> Option<u64> {
    (word(block, MSRS) >> index & 1 == 1).then(|| word(block, MSRS + 8 + 8 * index))
}

impl Arch for X86 {
    const WORDS: usize = 27;
    const SYSTEM_CALL: &'static [u8] = &[0x0f, 0x05];
    const IOCTL: u64 = 16;
    const RED_ZONE: u64 = 128;
    /// `KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS`.
    const SYNC_WANTED: u64 = 3;
    const SYNC_LEN: usize = REGS + SREGS;
    /// rflags: its bit 1 is always set.
    const SYNC_MARK: usize = 136;

    fn pc(frame: &Frame) -> u64 {
        get(frame, RIP)
    }

    fn sp(frame: &Frame) -> u64 {
        get(frame, RSP)
    }

    fn system_call(frame: &Frame) -> Option<(u64, u64, u64)> {
        let number = get(frame, ORIG_RAX);
        (number != u64::MAX).then(|| (number, get(frame, RDI), get(frame, RSI)))
    }

    fn call(frame: &mut Frame, pc: u64, number: u64, arguments: [u64; 3]) {
        let [first, second, third] = arguments;
        for (index, value) in [
            (RIP, pc),
            (RAX, number),
            // No system call that the kernel would begin anew.
            (ORIG_RAX, u64::MAX),
            (RDI, first),
            (RSI, second),
            (RDX, third),
            (R10, 0),
        ] {
            set(frame, index, value);
        }
    }

    fn result(frame: &Frame) -> i64 {
        get(frame, RAX).cast_signed()
    }

    fn ask(step: usize, state: &mut u64, _: u64, scratch: &mut [u8; SCRATCH]) -> Option<Ask> {
        match step {
            0 => return Some(Ask { request: KVM_GET_REGS, put: 0, take: REGS }),
            1 => return Some(Ask { request: KVM_GET_SREGS, put: 0, take: SREGS }),
            _ => {}
        }
        // KVM stops at the first MSR that it does not know: the next call begins behind it.
        let done = usize::try_from(*state).ok()?;
        let left = WANTED.get(done..).filter(|left| !left.is_empty())?;
        let count = u32::try_from(left.len()).ok()?;
        scratch.fill(0);
        put(scratch, 0, &count.to_le_bytes());
        for (index, msr) in left.iter().enumerate() {
            put(scratch, 8 + 16 * index, &msr.to_le_bytes());
        }
        let len = 8 + 16 * left.len();
        Some(Ask { request: KVM_GET_MSRS, put: len, take: len })
    }

    fn answer(
        step: usize,
        state: &mut u64,
        result: i64,
        scratch: &[u8; SCRATCH],
        block: &mut [u8; BLOCK],
    ) -> Result<(), i32> {
        let failed = i32::try_from(-result).ok().filter(|error| *error > 0);
        if step < 2 {
            let (at, len) = if step == 0 { (0, REGS) } else { (REGS, SREGS) };
            put(block, at, scratch.get(..len).unwrap_or_default());
            if step == 0 {
                put(block, MSRS, &[0; 8]);
            }
            return done(result);
        }
        let begin = usize::try_from(*state).unwrap_or(WANTED.len());
        // An error tells nothing of the others: they stay unknown.
        let asked = WANTED.len().saturating_sub(begin);
        let got = if failed.is_some() { 0 } else { usize::try_from(result).unwrap_or(usize::MAX) };
        // More than was asked for is no answer of KVM's.
        let (got, failed) = if got > asked { (0, Some(NO_ANSWER)) } else { (got, failed) };
        let mut known = word(block, MSRS);
        for index in 0..got {
            known |= 1 << (begin + index);
            put(block, MSRS + 8 + 8 * (begin + index), &bytes::<8>(scratch, 8 + 16 * index + 8));
        }
        put(block, MSRS, &known.to_le_bytes());
        *state = if failed.is_some() { u64::MAX } else { (begin + got + 1) as u64 };
        Ok(())
    }

    fn from_sync(sync: &[u8], block: &mut [u8; BLOCK]) {
        put(block, 0, sync.get(..REGS + SREGS).unwrap_or_default());
        put(block, MSRS, &[0; 8]);
    }

    fn registers(block: &[u8]) -> Registers {
        let general = |index: usize| word(block, 8 * index);
        let segment = |index: usize| REGS + SEGMENT * index;
        let control = |offset: usize| word(block, REGS + offset);
        // kvm_regs: rax rbx rcx rdx rsi rdi rsp rbp r8..r15; DWARF: rax rdx rcx rbx rsi rdi rbp rsp r8..r15.
        const DWARF: [usize; 16] = [0, 3, 2, 1, 4, 5, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        Registers::X86_64(x86_64::Registers {
            general: DWARF.map(general),
            rip: general(16),
            rflags: general(17),
            // cs ds es fs gs ss; the selector stands behind base and limit.
            cs: u16::from_le_bytes(bytes(block, segment(0) + 12)),
            ss: u16::from_le_bytes(bytes(block, segment(5) + 12)),
            fs_base: word(block, segment(3)),
            gs_base: word(block, segment(4)),
            kernel_gs_base: msr(block, KERNEL_GS_BASE),
            cr0: control(224),
            cr2: control(232),
            cr3: control(240),
            cr4: control(248),
        })
    }

    fn system_registers(block: &[u8]) -> SystemRegisters {
        SystemRegisters {
            efer: Some(word(block, REGS + 264)),
            idt: Some(word(block, REGS + 208)),
            gdt: Some(word(block, REGS + 192)),
            star: msr(block, 0),
            lstar: msr(block, LSTAR),
            sfmask: msr(block, 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msrs_are_asked_for_behind_the_unknown_one() {
        let mut scratch = [0; SCRATCH];
        let mut block = [0xff; BLOCK];
        let mut state = 0;
        X86::answer(0, &mut state, 0, &scratch, &mut block).unwrap();
        let ask = X86::ask(2, &mut state, 0, &mut scratch).unwrap();
        assert_eq!((ask.request, ask.put), (KVM_GET_MSRS, 8 + 4 * 16));
        assert_eq!(word(&scratch, 0), 4);
        // KVM knows STAR, but not LSTAR.
        put(&mut scratch, 16, &77u64.to_le_bytes());
        X86::answer(2, &mut state, 1, &scratch, &mut block).unwrap();
        let ask = X86::ask(3, &mut state, 0, &mut scratch).unwrap();
        assert_eq!((ask.put, u32::from_le_bytes(bytes(&scratch, 8))), (8 + 2 * 16, 0xc000_0084));
        put(&mut scratch, 16 + 16, &99u64.to_le_bytes());
        X86::answer(3, &mut state, 2, &scratch, &mut block).unwrap();
        assert_eq!(X86::ask(4, &mut state, 0, &mut scratch), None);
        assert_eq!(
            (msr(&block, 0), msr(&block, LSTAR), msr(&block, KERNEL_GS_BASE)),
            (Some(77), None, Some(99))
        );
    }

    #[test]
    fn a_refusal_is_an_error_and_ends_the_msrs() {
        let (scratch, mut block, mut state) = ([0; SCRATCH], [0; BLOCK], 0);
        assert_eq!(X86::answer(1, &mut state, -22, &scratch, &mut block), Err(22));
        // A call that a seccomp filter has undone leaves its own number, and nothing in the scratch memory.
        assert_eq!(X86::answer(0, &mut state, 16, &scratch, &mut block), Err(NO_ANSWER));
        assert_eq!(X86::answer(2, &mut state, -14, &scratch, &mut block), Ok(()));
        assert_eq!(X86::ask(3, &mut state, 0, &mut [0; SCRATCH]), None);
        // What no kernel answers does no harm.
        state = 0;
        assert_eq!(X86::answer(2, &mut state, i64::MAX, &scratch, &mut block), Ok(()));
        assert_eq!(word(&block, MSRS), 0);
        assert_eq!(X86::ask(3, &mut state, 0, &mut [0; SCRATCH]), None);
    }
}
