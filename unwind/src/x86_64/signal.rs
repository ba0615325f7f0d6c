//! Signal frames, recognised by the code that a handler returns to, where nothing describes it.
//!
//! Source: `arch/x86/include/asm/sigframe.h` (`struct rt_sigframe`: the return address, then the `ucontext`),
//! `include/uapi/asm-generic/ucontext.h`, `arch/x86/include/uapi/asm/sigcontext.h` (`struct sigcontext_64`). When the handler has
//! returned, the stack pointer is at the `ucontext`.

use vmc::{VirtAddr, VirtualMemory};

use super::registers::Registers;

/// `rt_sigreturn` has the number 15: `mov $15,%rax; syscall`, and the same with %eax.
const LONG: &[u8] = &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
const SHORT: &[u8] = &[0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05];
/// Where `uc_mcontext` lies: behind flags, link and the alternate stack.
const MCONTEXT: u64 = 40;
/// r8 to r15, di, si, bp, bx, dx, ax, cx, sp, ip.
const WORDS: usize = 17;

/// Does the code at `ip` return from a signal?
pub(crate) fn returns_from_signal<V: VirtualMemory + ?Sized>(memory: &V, ip: VirtAddr) -> bool {
    let mut bytes = [0; LONG.len()];
    if memory.read(ip, &mut bytes).is_ok() {
        return bytes == LONG || bytes.starts_with(SHORT);
    }
    let mut bytes = [0; SHORT.len()];
    memory.read(ip, &mut bytes).is_ok() && bytes == SHORT
}

/// The registers that were interrupted: what the kernel stored above the stack pointer.
pub(crate) fn interrupted<V: VirtualMemory + ?Sized>(
    memory: &V,
    sp: VirtAddr,
) -> Result<Registers, VirtAddr> {
    let mut bytes = [0; WORDS * 8];
    let at = sp.wrapping_add(MCONTEXT);
    memory.read(at, &mut bytes).map_err(|error| error.addr)?;
    let mut words = [0; WORDS];
    let (chunks, _) = bytes.as_chunks::<8>();
    for (word, chunk) in words.iter_mut().zip(chunks) {
        *word = u64::from_le_bytes(*chunk);
    }
    let [r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip] = words;
    let general = [rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15];
    Ok(Registers::with_all(VirtAddr::new(rip), general))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_memory::{Bytes, Words};

    #[test]
    fn both_ways_to_say_15_are_known() {
        let musl = Bytes::new(0x1000, LONG);
        assert!(returns_from_signal(&musl, VirtAddr::new(0x1000)));
        assert!(!returns_from_signal(&musl, VirtAddr::new(0x1001)));
        // At the very end of a mapping.
        assert!(returns_from_signal(&Bytes::new(0x1000, SHORT), VirtAddr::new(0x1000)));
        assert!(!returns_from_signal(
            &Bytes::new(0x1000, b"\xb8\x0e\0\0\0\x0f\x05\0\0"),
            VirtAddr::new(0x1000)
        ));
    }

    #[test]
    fn registers_come_from_their_places() {
        let words: alloc::vec::Vec<u64> = (0..22).collect();
        let registers = interrupted(&Words::new(0x8000, &words), VirtAddr::new(0x8000)).unwrap();
        let general: alloc::vec::Vec<_> = (0..17).map(|number| registers.value(number).unwrap()).collect();
        assert_eq!(general, [18, 17, 19, 16, 14, 13, 15, 20, 5, 6, 7, 8, 9, 10, 11, 12, 21]);
        let missing = interrupted(&Words::new(0x8000, &words[..21]), VirtAddr::new(0x8000));
        assert_eq!(missing, Err(VirtAddr::new(0x8028)));
    }
}
