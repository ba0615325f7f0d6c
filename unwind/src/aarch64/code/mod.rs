//! Machine code, read where nothing describes it: just enough of A64's instructions to follow stack pointer and link.
//!
//! Source of the encodings: Arm Architecture Reference Manual for A-profile, C4.1 (A64 instruction set encoding).

mod decode;
mod memory;
mod numbers;

pub(crate) use decode::{Access, Effect, decode};

use vmc::{VirtAddr, VirtualMemory};

/// What the instruction at `at` does; nothing where it cannot be read.
pub(crate) fn instruction_at<V: VirtualMemory + ?Sized>(memory: &V, at: VirtAddr) -> Option<Effect> {
    let mut bytes = [0; 4];
    if !at.get().is_multiple_of(4) {
        return None;
    }
    memory.read(at, &mut bytes).ok()?;
    Some(decode(u32::from_le_bytes(bytes), at.get()))
}

/// Is there a call right before `at`? Then `at` may be a return address.
pub(crate) fn call_before<V: VirtualMemory + ?Sized>(memory: &V, at: VirtAddr) -> bool {
    let call = at.checked_sub(4).and_then(|call| instruction_at(memory, call));
    matches!(call, Some(Effect::Call))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_memory::Bytes;

    #[test]
    fn calls_are_seen_from_behind() {
        // bl 0x1010; blr x3; blraa x8, x9; b 0x1010.
        let code = [0x9400_0004u32, 0xd63f_0060, 0xd73f_0909, 0x1400_0001];
        let bytes: alloc::vec::Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
        let memory = Bytes::new(0x1000, &bytes);
        let calls = [0x1000, 0x1004, 0x1008, 0x100c, 0x1010, 0x1006]
            .map(|at| call_before(&memory, VirtAddr::new(at)));
        assert_eq!(calls, [false, true, true, true, false, false]);
    }
}
