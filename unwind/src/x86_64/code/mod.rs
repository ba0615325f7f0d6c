//! Machine code, read where nothing describes it: just enough of x86_64's instructions to follow the stack pointer.
//!
//! Source of the encodings: Intel's Software Developer's Manual, volume 2, chapter 2 and appendix A.

mod decode;
mod opcodes;

pub(crate) use decode::{Decoded, Effect, LONGEST, decode};

use vmc::{VirtAddr, VirtualMemory};

/// The instruction at `at`; nothing where it cannot be read or is not known.
pub(crate) fn instruction_at<V: VirtualMemory + ?Sized>(memory: &V, at: VirtAddr) -> Option<Decoded> {
    let mut bytes = [0; LONGEST];
    let len = match memory.read(at, &mut bytes) {
        Ok(()) => LONGEST,
        Err(error) => error.done.min(LONGEST),
    };
    decode(bytes.get(..len)?, at.get())
}

/// How the instruction that ends right before an address calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallBefore {
    /// The function at this address.
    Direct(VirtAddr),
    /// Whatever a register or a word in memory says.
    Indirect,
}

/// The longest call: prefix, REX, opcode, ModRM, SIB, four bytes of displacement.
const LONGEST_CALL: u64 = 9;

/// Is there a call right before `at`? Then `at` may be a return address.
pub(crate) fn call_before<V: VirtualMemory + ?Sized>(memory: &V, at: VirtAddr) -> Option<CallBefore> {
    let mut bytes = [0; LONGEST_CALL as usize];
    let start = at.checked_sub(LONGEST_CALL)?;
    // The page before may be missing: then with as many bytes as there are.
    let from = if memory.read(start, &mut bytes).is_ok() {
        0
    } else {
        let into = usize::try_from(at.get() % 4096).ok().filter(|into| *into < bytes.len())?;
        let part = bytes.get_mut(LONGEST_CALL as usize - into..)?;
        memory.read(at.checked_sub(into as u64)?, part).ok()?;
        LONGEST_CALL as usize - into
    };
    let mut indirect = None;
    for skip in from..bytes.len() {
        let part = bytes.get(skip..)?;
        let Some(found) = decode(part, start.get().wrapping_add(skip as u64)) else { continue };
        if usize::from(found.len) != part.len() {
            continue;
        }
        match found.effect {
            Effect::Call(Some(target)) => return Some(CallBefore::Direct(VirtAddr::new(target))),
            Effect::Call(None) => indirect = Some(CallBefore::Indirect),
            _ => {}
        }
    }
    indirect
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_memory::Bytes;

    fn before(bytes: &[u8]) -> Option<CallBefore> {
        call_before(&Bytes::new(0x1000, bytes), VirtAddr::new(0x1000 + bytes.len() as u64))
    }

    #[test]
    fn calls_are_seen_from_behind() {
        assert_eq!(
            before(b"\x90\x90\x90\x90\xe8\x10\0\0\0"),
            Some(CallBefore::Direct(VirtAddr::new(0x1019)))
        );
        // At the start of a page whose predecessor is missing.
        assert_eq!(before(b"\xff\xd0"), Some(CallBefore::Indirect));
        assert_eq!(before(b"\x90\x90\x90\x90\x90\x90\x41\xff\xd7"), Some(CallBefore::Indirect));
        assert_eq!(before(b"\x90\x90\x90\xff\x15\0\0\0\0"), Some(CallBefore::Indirect));
        assert_eq!(before(b"\x90\x90\x90\x90\x90\x90\x90\x90\x90"), None);
        assert_eq!(before(b""), None);
        // A jump is no call.
        assert_eq!(before(b"\x90\x90\x90\x90\xe9\x10\0\0\0"), None);
    }
}
