//! Signal frames, recognised by the code that a handler returns to: the vDSO's has no table, and C libraries use that.
//!
//! Source: `arch/arm64/kernel/vdso/sigreturn.S`, `struct rt_sigframe` in `arch/arm64/kernel/signal.c` (siginfo, then the
//! `ucontext`), `arch/arm64/include/uapi/asm/ucontext.h`, `arch/arm64/include/uapi/asm/sigcontext.h`. When the handler has
//! returned, the stack pointer is at the `siginfo`.

use vmc::{VirtAddr, VirtualMemory};

use super::registers::Registers;

/// `mov x8, #139; svc #0`: `rt_sigreturn`.
const RETURN: [u8; 8] = [0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4];
/// `siginfo`; flags, link, the alternate stack, 128 bytes for signals, and up to the next multiple of 16.
const MCONTEXT: u64 = 128 + 176;
/// In it: the address of a fault, x0 to x30, sp, pc.
const WORDS: usize = 34;

/// Does the code at `ip` return from a signal?
pub(crate) fn returns_from_signal<V: VirtualMemory + ?Sized>(memory: &V, ip: VirtAddr) -> bool {
    let mut bytes = [0; RETURN.len()];
    memory.read(ip, &mut bytes).is_ok() && bytes == RETURN
}

/// The registers that were interrupted: what the kernel stored above the stack pointer of `current`.
pub(crate) fn interrupted<V: VirtualMemory + ?Sized>(
    memory: &V,
    current: &Registers,
) -> Result<Registers, VirtAddr> {
    let mut bytes = [0; WORDS * 8];
    let at = current.sp().wrapping_add(MCONTEXT);
    memory.read(at, &mut bytes).map_err(|error| error.addr)?;
    let (words, _) = bytes.as_chunks::<8>();
    let mut words = words.iter().map(|word| u64::from_le_bytes(*word)).skip(1);
    let general = core::array::from_fn(|_| words.next().unwrap_or_default());
    let [sp, pc] = core::array::from_fn(|_| VirtAddr::new(words.next().unwrap_or_default()));
    let registers = Registers::with_all(pc, sp, general);
    Ok(registers.with_signature(current.signature()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_memory::{Bytes, Words};
    use gimli::Register;

    #[test]
    fn the_trampoline_is_known_by_its_code() {
        // bti c (or a nop), then the two.
        let code = [&[0x5f, 0x24, 0x03, 0xd5][..], &RETURN].concat();
        let memory = Bytes::new(0x1000, &code);
        let found = [0x1000, 0x1004, 0x1008].map(|at| returns_from_signal(&memory, VirtAddr::new(at)));
        assert_eq!(found, [false, true, false]);
    }

    #[test]
    fn registers_come_from_their_places() {
        // The context's first word is the fault's address.
        let words: alloc::vec::Vec<u64> = (0..38 + 34).collect();
        let current = Registers::new(VirtAddr::new(0x1000), VirtAddr::new(0x8000));
        let registers = interrupted(&Words::new(0x8000, &words), &current).unwrap();
        for number in 0..33 {
            assert_eq!(registers.get(Register(number)), Some(39 + u64::from(number)), "{number}");
        }
        let missing = interrupted(&Words::new(0x8000, &words[..71]), &current);
        assert_eq!(missing, Err(VirtAddr::new(0x8000 + 304)));
    }
}
