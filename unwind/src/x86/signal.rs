//! Signal frames, recognised by the code that a handler returns to, where nothing describes it (musl's restorers).
//!
//! Source: `arch/x86/include/asm/sigframe.h` (`struct sigframe_ia32`, `struct rt_sigframe_ia32`),
//! `arch/x86/include/asm/sighandling.h`, `arch/x86/include/uapi/asm/sigcontext.h` (`struct sigcontext_32`). When the handler has
//! returned, the stack pointer is at its first argument.

use vmc::{VirtAddr, VirtualMemory};

use super::registers::Registers;

/// `pop %eax; mov $119,%eax; int $0x80`: `sigreturn`.
const OLD: &[u8] = &[0x58, 0xb8, 0x77, 0, 0, 0, 0xcd, 0x80];
/// `mov $173,%eax; int $0x80`: `rt_sigreturn`.
const REALTIME: &[u8] = &[0xb8, 0xad, 0, 0, 0, 0xcd, 0x80];
/// Where the `sigcontext_32` lies: behind the signal's number; behind number, two pointers, `siginfo` and the head of
/// `ucontext`.
const OLD_CONTEXT: u64 = 4;
const REALTIME_CONTEXT: u64 = 12 + 128 + 20;
/// Where in it: behind four segment registers; di, si, bp, sp, bx, dx, cx, ax, trap, error, ip.
const GENERAL: u64 = 16;
const WORDS: usize = 11;

/// Where above the stack pointer the code at `ip` has what it returns to, if it returns from a signal.
pub(super) fn returns_from_signal<V: VirtualMemory + ?Sized>(memory: &V, ip: VirtAddr) -> Option<u64> {
    let is = |code: &[u8]| {
        let mut bytes = [0; OLD.len()];
        bytes.get_mut(..code.len()).is_some_and(|part| memory.read(ip, part).is_ok() && part == code)
    };
    let places = [(OLD, OLD_CONTEXT), (REALTIME, REALTIME_CONTEXT)];
    places.into_iter().find(|(code, _)| is(code)).map(|(_, context)| context)
}

/// The registers that were interrupted: what the kernel stored `context` bytes above the stack pointer.
pub(super) fn interrupted<V: VirtualMemory + ?Sized>(
    memory: &V,
    sp: VirtAddr,
    context: u64,
) -> Result<Registers, VirtAddr> {
    let mut bytes = [0; WORDS * 4];
    let at = sp.wrapping_add(context + GENERAL);
    memory.read(at, &mut bytes).map_err(|error| error.addr)?;
    let mut words = [0; WORDS];
    let (chunks, _) = bytes.as_chunks::<4>();
    for (word, chunk) in words.iter_mut().zip(chunks) {
        *word = u32::from_le_bytes(*chunk);
    }
    let [edi, esi, ebp, esp, ebx, edx, ecx, eax, _, _, eip] = words;
    Ok(Registers::with_all(eip, [eax, ecx, edx, ebx, esp, ebp, esi, edi]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_memory::Bytes;
    use alloc::vec::Vec;
    use gimli::Register;

    #[test]
    fn both_ways_to_return_are_known() {
        let at = VirtAddr::new(0x1000);
        assert_eq!(returns_from_signal(&Bytes::new(0x1000, OLD), at), Some(4));
        assert_eq!(returns_from_signal(&Bytes::new(0x1000, REALTIME), at), Some(160));
        assert_eq!(returns_from_signal(&Bytes::new(0x1000, REALTIME), VirtAddr::new(0x1001)), None);
        assert_eq!(returns_from_signal(&Bytes::new(0x1000, &OLD[..7]), at), None);
    }

    #[test]
    fn registers_come_from_their_places() {
        let stack: Vec<u8> = (0u32..16).flat_map(u32::to_le_bytes).collect();
        let registers = interrupted(&Bytes::new(0x8000, &stack), VirtAddr::new(0x8000), OLD_CONTEXT).unwrap();
        let values: Vec<u32> = (0..9).map(|number| registers.get(Register(number)).unwrap()).collect();
        assert_eq!(values, [12, 11, 10, 9, 8, 7, 6, 5, 15]);
        let missing = interrupted(&Bytes::new(0x8000, &stack[..60]), VirtAddr::new(0x8000), OLD_CONTEXT);
        assert_eq!(missing, Err(VirtAddr::new(0x803c)));
    }
}
