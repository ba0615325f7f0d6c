//! The registers of an aarch64 vCPU, as far as memory analysis and unwinding need them.

/// General and system registers. Not every backend knows the system ones.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Registers {
    /// x0 to x30: the order of the ABI's DWARF numbers.
    pub x: [u64; 31],
    /// The stack pointer of the exception level that the vCPU is in.
    pub sp: u64,
    /// The program counter.
    pub pc: u64,
    /// The processor's state: flags, masks, exception level.
    pub pstate: u64,
    /// TTBR0_EL1: the page table root of the lower half.
    pub ttbr0: Option<u64>,
    /// TTBR1_EL1: the page table root of the upper half.
    pub ttbr1: Option<u64>,
    /// TCR_EL1: how both halves are walked.
    pub tcr: Option<u64>,
    /// SP_EL0: a program's stack pointer; in Linux' kernel the current task.
    pub sp_el0: Option<u64>,
    /// SP_EL1: the kernel's stack pointer.
    pub sp_el1: Option<u64>,
    /// TPIDR_EL0: thread-local storage of user programs.
    pub tpidr_el0: Option<u64>,
    /// TPIDR_EL1: in Linux' kernel the offset of its per-CPU area.
    pub tpidr_el1: Option<u64>,
    /// VBAR_EL1: the kernel's exception vectors.
    pub vbar: Option<u64>,
    /// MAIR_EL1: the memory attributes that page tables name by number.
    pub mair: Option<u64>,
}

impl Registers {
    /// Is the vCPU in user mode (EL0)?
    #[must_use]
    pub const fn in_user_mode(&self) -> bool {
        self.pstate & 0xf == 0
    }

    /// Is the vCPU in a program of 32 bits (AArch32)?
    #[must_use]
    pub const fn in_32_bit_mode(&self) -> bool {
        self.pstate & 0x10 != 0
    }

    /// x29: the frame pointer.
    #[must_use]
    pub const fn fp(&self) -> u64 {
        self.x[29]
    }

    /// x30: the link register.
    #[must_use]
    pub const fn lr(&self) -> u64 {
        self.x[30]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exception_levels_are_told_apart() {
        let at = |pstate| Registers { pstate, ..Registers::default() };
        // EL0t, EL1h, EL1t, AArch32 user.
        assert!(at(0x6000_0000).in_user_mode());
        assert!(!at(0x4000_00c5).in_user_mode() && !at(4).in_user_mode());
        assert!(at(0x10).in_user_mode() && at(0x10).in_32_bit_mode() && !at(0).in_32_bit_mode());
    }
}
