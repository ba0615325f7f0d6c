//! [`SavedRegisters`]: how a kernel stores the registers of what it interrupted, and the record among them.
//!
//! Source: `struct pt_regs` in `arch/arm64/include/asm/ptrace.h`: it begins with `struct user_pt_regs` of the UAPI (x0 to x30, sp,
//! pc, pstate), which does not change.

use vmc::{ReadError, VirtAddr, VirtualMemory};

use crate::aarch64::registers::{Registers, X29, runs_32_bit_code};

/// x0 to x30, sp, pc, pstate.
const WORDS: usize = 34;

/// The exception level in pstate: zero is a program's.
const LEVEL: u64 = 0xc;

/// What a record with metadata says of itself: the registers around it were interrupted (`FRAME_META_TYPE_PT_REGS`).
const AROUND: u64 = 2;

/// Where a kernel has the record among the registers that it stores on each way into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedRegisters {
    record: u64,
}

/// What a way into the kernel has left on its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entered {
    /// The registers of what was interrupted.
    pub(super) registers: Registers,
    /// Was it a program?
    pub(super) from_user: bool,
}

/// What lies where x29 points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "it lives for one step; a box would cost an allocation")]
pub(super) enum Record {
    /// The caller's x29 and the return address.
    Caller { fp: u64, link: u64 },
    /// The registers of what was interrupted.
    Interrupted(Entered),
    /// Nothing: the last one.
    Last,
}

impl SavedRegisters {
    /// By the offset of `stackframe` in `struct pt_regs`, in bytes. Nothing where that lies among the registers that begin it.
    #[must_use]
    pub const fn new(stackframe: u64) -> Option<Self> {
        if stackframe < WORDS as u64 * 8 || stackframe > 4096 {
            None
        } else {
            Some(Self { record: stackframe })
        }
    }

    /// Where the registers lie that the record at `at` is one of.
    pub(super) const fn around(&self, at: u64) -> VirtAddr {
        VirtAddr::new(at.wrapping_sub(self.record))
    }

    /// The record at `at`.
    ///
    /// Since 6.14 one that stands for registers is empty and says so behind itself. Before, it repeats their x29 and pc (and
    /// only where a program was interrupted it is empty), which no other record does.
    pub(super) fn read_record<V: VirtualMemory + ?Sized>(
        &self,
        memory: &V,
        at: u64,
        current: &Registers,
    ) -> Result<Record, ReadError> {
        let word = |offset: u64| memory.read_u64(VirtAddr::new(at.wrapping_add(offset)));
        let (fp, link) = (word(0)?, word(8)?);
        let entered = || self.read(memory, self.around(at), current);
        if (fp, link) == (0, 0) {
            return match word(16) {
                Ok(AROUND) => Ok(Record::Interrupted(entered()?)),
                _ => Ok(Record::Last),
            };
        }
        if let Ok(entered) = entered()
            && entered.registers.value(X29) == Some(fp)
            && entered.registers.ip().get() == current.signature().strip(link)
        {
            return Ok(Record::Interrupted(entered));
        }
        Ok(Record::Caller { fp, link })
    }

    fn read<V: VirtualMemory + ?Sized>(
        &self,
        memory: &V,
        at: VirtAddr,
        current: &Registers,
    ) -> Result<Entered, ReadError> {
        let mut bytes = [0u8; WORDS * 8];
        memory.read(at, &mut bytes)?;
        let (words, _) = bytes.as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        let general = core::array::from_fn(|_| words.next().unwrap_or_default());
        let [sp, pc, pstate] = core::array::from_fn(|_| words.next().unwrap_or_default());
        let registers = Registers::with_all(VirtAddr::new(pc), VirtAddr::new(sp), general);
        Ok(Entered {
            registers: registers.with_signature(current.signature()),
            from_user: pstate & LEVEL == 0 || runs_32_bit_code(pstate),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::SavedRegisters;

    #[test]
    fn the_record_lies_behind_the_registers() {
        assert_eq!(SavedRegisters::new(271), None);
        assert_eq!(SavedRegisters::new(u64::MAX), None);
        assert!(SavedRegisters::new(304).is_some());
    }
}
