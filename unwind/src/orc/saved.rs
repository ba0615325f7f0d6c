//! [`SavedRegisters`]: how a kernel stores the registers of what it interrupted.

use vmc::{ReadError, VirtAddr, VirtualMemory};

use crate::x86_64::Registers;

/// Bytes of stored registers: Linux' `struct pt_regs` has 168.
const BYTES: usize = 256;

/// What the CPU stores by itself: ip, cs, flags, sp, ss.
const CPU_FRAME: usize = 40;

/// The layout of the registers that a kernel stores on each way into it (Linux: `struct pt_regs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedRegisters {
    bytes: usize,
    general: [usize; 16],
    ip: usize,
    cs: usize,
}

/// What a way into the kernel has left on its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entered {
    /// The registers of what was interrupted.
    pub(super) registers: Registers,
    /// Was it a user program?
    pub(super) from_user: bool,
}

impl Entered {
    /// Is nothing stored? A thread of the kernel has room for a program's registers, too.
    pub(super) fn is_empty(&self) -> bool {
        self.registers.ip().is_null() && self.registers.sp().is_null()
    }
}

impl SavedRegisters {
    /// The layout by the offsets of the registers: general ones in DWARF's order (rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8
    /// to r15), instruction pointer, code segment. Nothing where they do not fit into `bytes`, or that is more than 256.
    #[must_use]
    pub fn new(bytes: u64, general: [u64; 16], ip: u64, cs: u64) -> Option<Self> {
        let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= BYTES)?;
        let place = |offset: u64| {
            let offset = usize::try_from(offset).ok()?;
            (offset.checked_add(8)? <= bytes).then_some(offset)
        };
        let mut places = [0; 16];
        for (slot, offset) in places.iter_mut().zip(general) {
            *slot = place(offset)?;
        }
        Some(Self { bytes, general: places, ip: place(ip)?, cs: place(cs)? })
    }

    /// All registers, stored at `at`.
    pub(super) fn read<V: VirtualMemory + ?Sized>(
        &self,
        memory: &V,
        at: VirtAddr,
    ) -> Result<Entered, ReadError> {
        let mut bytes = [0u8; BYTES];
        let bytes = bytes.get_mut(..self.bytes).unwrap_or_default();
        memory.read(at, bytes)?;
        let general = self.general.map(|place| word(bytes, place));
        let registers = Registers::with_all(VirtAddr::new(word(bytes, self.ip)), general);
        Ok(Entered { registers, from_user: word(bytes, self.cs) & 3 == 3 })
    }
}

/// What the CPU itself stored at `at`; the other registers are still those of `current`.
pub(super) fn read_cpu_frame<V: VirtualMemory + ?Sized>(
    memory: &V,
    at: VirtAddr,
    current: &Registers,
) -> Result<Entered, ReadError> {
    let mut bytes = [0u8; CPU_FRAME];
    memory.read(at, &mut bytes)?;
    let mut registers = *current;
    registers.set(gimli::X86_64::RA, word(&bytes, 0));
    registers.set(gimli::X86_64::RSP, word(&bytes, 24));
    Ok(Entered { registers, from_user: word(&bytes, 8) & 3 == 3 })
}

fn word(bytes: &[u8], at: usize) -> u64 {
    vmc::bytes::u64_at(bytes, at).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_have_to_lie_in_their_frame() {
        assert!(SavedRegisters::new(168, [0; 16], 128, 136).is_some());
        assert!(SavedRegisters::new(168, [161; 16], 128, 136).is_none());
        assert!(SavedRegisters::new(168, [0; 16], 161, 136).is_none());
        assert!(SavedRegisters::new(168, [0; 16], 128, u64::MAX).is_none());
        assert!(SavedRegisters::new(257, [0; 16], 128, 136).is_none());
    }
}
