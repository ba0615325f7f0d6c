//! The registers of an x86_64 frame, and which of them are known.

use core::fmt;

use gimli::Register;
use vmc::VirtAddr;

/// General registers and instruction pointer of one frame.
///
/// A caller's frame knows what its callees had to preserve (rbx, rbp, r12 to r15, and rsp); the others are lost with the
/// call. Behind a signal frame all are known again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    general: [u64; 16],
    ip: u64,
    /// Bit n: register n is known. Bit 16 is the instruction pointer.
    known: u32,
}

/// DWARF's names of the registers, by number.
const NAMES: [&str; 17] = [
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15", "rip",
];

/// The stack pointer's number.
pub(crate) const RSP: u16 = 7;
/// The instruction pointer's number: by the ABI the return address' column.
pub(crate) const RIP: u16 = 16;
/// The registers that a callee preserves, without rsp.
pub(crate) const CALLEE_SAVED: [u16; 6] = [3, 6, 12, 13, 14, 15];
/// Their bits, rsp's and rip's.
const KEPT: u32 = 1 << 3 | 1 << 6 | 0xf << 12 | 1 << RSP | 1 << RIP;

impl Registers {
    /// Only instruction and stack pointer are known.
    #[must_use]
    pub const fn new(ip: VirtAddr, sp: VirtAddr) -> Self {
        let mut general = [0; 16];
        let [_, _, _, _, _, _, _, rsp, ..] = &mut general;
        *rsp = sp.get();
        Self { general, ip: ip.get(), known: 1 << RSP | 1 << RIP }
    }

    /// All are known; `general` is in DWARF's order: rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8 to r15.
    #[must_use]
    pub const fn with_all(ip: VirtAddr, general: [u64; 16]) -> Self {
        Self { general, ip: ip.get(), known: 0x1_ffff }
    }

    /// The instruction pointer (in a caller's frame: the return address).
    #[must_use]
    pub const fn ip(&self) -> VirtAddr {
        VirtAddr::new(self.ip)
    }

    /// The stack pointer. It is known in every frame.
    #[must_use]
    pub const fn sp(&self) -> VirtAddr {
        let [_, _, _, _, _, _, _, rsp, ..] = self.general;
        VirtAddr::new(rsp)
    }

    /// A register by its DWARF number (16 is rip), if it is known.
    #[must_use]
    pub fn get(&self, register: Register) -> Option<u64> {
        self.value(register.0)
    }

    /// Sets a register by its DWARF number. Those that are not tracked (above 16) are ignored.
    pub fn set(&mut self, register: Register, value: u64) {
        self.put(register.0, value);
    }

    /// Makes a register unknown. Stack and instruction pointer stay.
    pub fn forget(&mut self, register: Register) {
        if register.0 != RSP && register.0 < RIP {
            self.known &= !(1 << register.0);
        }
    }

    /// Bit n: the register with DWARF's number n is known.
    #[must_use]
    pub const fn known(&self) -> u32 {
        self.known
    }

    #[inline]
    pub(crate) fn value(&self, number: u16) -> Option<u64> {
        match self.general.get(usize::from(number)) {
            Some(value) if self.known >> number & 1 == 1 => Some(*value),
            None if number == RIP => Some(self.ip),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn put(&mut self, number: u16, value: u64) {
        if let Some(register) = self.general.get_mut(usize::from(number)) {
            *register = value;
            self.known |= 1 << number;
        } else if number == RIP {
            self.ip = value;
        }
    }

    /// What a caller's frame knows of its callee's registers, before the callee's rules are applied.
    #[inline]
    pub(crate) fn keep_callee_saved(&mut self) {
        self.known &= KEPT;
    }
}

impl From<&vmc::arch::x86_64::Registers> for Registers {
    fn from(registers: &vmc::arch::x86_64::Registers) -> Self {
        Self::with_all(VirtAddr::new(registers.rip), registers.general)
    }
}

impl fmt::Debug for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (number, name) in (0u16..).zip(NAMES) {
            if let Some(value) = self.value(number) {
                map.entry(&format_args!("{name}"), &format_args!("{value:#x}"));
            }
        }
        map.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn a_call_loses_what_a_callee_may_change() {
        let mut registers = Registers::with_all(VirtAddr::new(0x1000), core::array::from_fn(|n| n as u64));
        assert_eq!(registers.get(gimli::X86_64::RSP), Some(7));
        assert_eq!(registers.get(gimli::X86_64::RA), Some(0x1000));
        registers.keep_callee_saved();
        let known: [Option<u64>; 16] = core::array::from_fn(|n| registers.get(Register(n as u16)));
        for (number, value) in known.iter().enumerate() {
            let kept = [3, 6, 7, 12, 13, 14, 15].contains(&number);
            assert_eq!(*value, kept.then_some(number as u64), "{number}");
        }
        registers.set(gimli::X86_64::RAX, 9);
        registers.forget(gimli::X86_64::RBX);
        registers.forget(gimli::X86_64::RSP);
        registers.set(Register(17), 1);
        assert_eq!(registers.get(Register(17)), None);
        assert_eq!(
            format!("{registers:?}"),
            r#"{rax: 0x9, rbp: 0x6, rsp: 0x7, r12: 0xc, r13: 0xd, r14: 0xe, r15: 0xf, rip: 0x1000}"#
        );
    }

    #[test]
    fn the_abis_numbers_are_the_ones_that_gimli_has() {
        assert_eq!((gimli::X86_64::RSP.0, gimli::X86_64::RA.0), (RSP, RIP));
        let saved = [gimli::X86_64::RBX, gimli::X86_64::RBP, gimli::X86_64::R12, gimli::X86_64::R15];
        assert!(saved.iter().all(|register| CALLEE_SAVED.contains(&register.0)));
        assert_eq!(vmc::arch::x86_64::Registers::RSP, usize::from(RSP));
    }
}
