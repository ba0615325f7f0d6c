//! The registers of an aarch64 frame, and which of them are known.
//!
//! Source: DWARF for the Arm 64-bit Architecture (AADWARF64), DWARF register names; Procedure Call Standard (AAPCS64), 6.1.1.

use core::fmt;

use gimli::Register;
use vmc::{VirtAddr, VirtualMemory};

use super::code::call_before;
use super::signature::Signature;
use crate::cfi::AddressSize;
use crate::row_step::RegisterFile;

/// General registers, stack pointer and program counter of one frame.
///
/// A caller's frame knows what its callees had to preserve (x19 to x29, and sp); the others are lost with the call. In x30
/// the call has left the address that it returned to. Behind a signal frame all are known again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    general: [u64; 31],
    sp: u64,
    pc: u64,
    signature: Signature,
    /// Bit n: register n is known. Bit 31 is the stack pointer.
    known: u32,
}

/// The frame pointer's number.
pub(crate) const X29: u16 = 29;
/// The link register's number: by the ABI the return address' column.
pub(crate) const X30: u16 = 30;
/// The stack pointer's number.
pub(crate) const SP: u16 = 31;
/// The program counter's number.
pub(crate) const PC: u16 = 32;
/// The first of the registers that a callee preserves; x29 is the last.
pub(crate) const X19: u16 = 19;
/// Bits of x19 to x29, and sp's.
const KEPT: u32 = 0x7ff << X19 | 1 << SP;

/// The bit of the saved program status that tells of 32-bit code (`PSR_MODE32_BIT`).
const MODE_32: u64 = 0x10;

/// Does a saved program status (`pstate`, SPSR) say that 32-bit code ran? Such code has other registers and other stacks:
/// it is not walked here.
#[must_use]
pub const fn runs_32_bit_code(pstate: u64) -> bool {
    pstate & MODE_32 != 0
}

impl Registers {
    /// Only program counter and stack pointer are known.
    #[must_use]
    pub const fn new(pc: VirtAddr, sp: VirtAddr) -> Self {
        let signature = Signature::of_address_bits(48);
        Self { general: [0; 31], sp: sp.get(), pc: pc.get(), signature, known: 1 << SP }
    }

    /// All are known; `general` is x0 to x30.
    #[must_use]
    pub const fn with_all(pc: VirtAddr, sp: VirtAddr, general: [u64; 31]) -> Self {
        Self { general, known: u32::MAX, ..Self::new(pc, sp) }
    }

    /// The same with other bits for signatures than the default's. They are taken off the program counter, too.
    #[must_use]
    pub const fn with_signature(self, signature: Signature) -> Self {
        Self { signature, pc: signature.strip(self.pc), ..self }
    }

    /// Which bits of code addresses are signatures.
    #[must_use]
    pub const fn signature(&self) -> Signature {
        self.signature
    }

    /// The program counter (in a caller's frame: the return address), without a signature.
    #[must_use]
    pub const fn ip(&self) -> VirtAddr {
        VirtAddr::new(self.pc)
    }

    /// The stack pointer. It is known in every frame.
    #[must_use]
    pub const fn sp(&self) -> VirtAddr {
        VirtAddr::new(self.sp)
    }

    /// A register by its DWARF number (31 is sp, 32 the program counter), if it is known.
    #[must_use]
    pub fn get(&self, register: Register) -> Option<u64> {
        self.value(register.0)
    }

    /// Sets a register by its DWARF number. Those that are not tracked (above 32) are ignored.
    pub fn set(&mut self, register: Register, value: u64) {
        self.put(register.0, value);
    }

    /// Makes a register unknown. Stack pointer and program counter stay.
    pub fn forget(&mut self, register: Register) {
        if register.0 < SP {
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
            None if number == SP => Some(self.sp),
            None if number == PC => Some(self.pc),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn put(&mut self, number: u16, value: u64) {
        if let Some(register) = self.general.get_mut(usize::from(number)) {
            *register = value;
            self.known |= 1 << number;
        } else if number == SP {
            self.sp = value;
        } else if number == PC {
            self.pc = self.signature.strip(value);
        }
    }
}

/// With the default's bits for signatures.
impl From<&vmc::arch::aarch64::Registers> for Registers {
    fn from(registers: &vmc::arch::aarch64::Registers) -> Self {
        Self::with_all(VirtAddr::new(registers.pc), VirtAddr::new(registers.sp), registers.x)
    }
}

impl RegisterFile for Registers {
    const SP: u16 = SP;
    const IP: u16 = PC;
    const WORD: AddressSize = AddressSize::Eight;

    fn ip(&self) -> VirtAddr {
        self.ip()
    }

    fn sp(&self) -> VirtAddr {
        self.sp()
    }

    #[inline]
    fn value(&self, number: u16) -> Option<u64> {
        self.value(number)
    }

    #[inline]
    fn put(&mut self, number: u16, value: u64) {
        self.put(number, value);
    }

    fn forget(&mut self, number: u16) {
        self.forget(Register(number));
    }

    #[inline]
    fn keep_callee_saved(&mut self) {
        self.known &= KEPT;
    }

    fn is_called_before<V: VirtualMemory + ?Sized>(memory: &V, ip: VirtAddr) -> bool {
        call_before(memory, ip)
    }

    #[inline]
    fn return_to(&mut self, ip: u64) {
        self.put(PC, ip);
        self.put(X30, self.pc);
    }

    /// x30, where it is not the address that a callee has returned to.
    #[inline]
    fn link(&self) -> Option<u64> {
        let link = self.signature.strip(self.value(X30)?);
        (link != self.pc).then_some(link)
    }
}

impl fmt::Debug for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for number in 0..SP {
            if let Some(value) = self.value(number) {
                map.entry(&format_args!("x{number}"), &format_args!("{value:#x}"));
            }
        }
        map.entry(&format_args!("sp"), &format_args!("{:#x}", self.sp));
        map.entry(&format_args!("pc"), &format_args!("{:#x}", self.pc));
        map.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use gimli::AArch64;

    fn all() -> Registers {
        let general = core::array::from_fn(|number| number as u64);
        Registers::with_all(VirtAddr::new(0x1000), VirtAddr::new(0x8000), general)
    }

    #[test]
    fn a_call_loses_what_a_callee_may_change() {
        let mut registers = all();
        registers.keep_callee_saved();
        for number in 0..31 {
            let kept = (19..=29).contains(&number).then_some(u64::from(number));
            assert_eq!(registers.get(Register(number)), kept, "x{number}");
        }
        registers.return_to(0x2000);
        registers.forget(AArch64::SP);
        registers.set(Register(33), 1);
        assert_eq!((registers.get(AArch64::SP), registers.get(AArch64::X30)), (Some(0x8000), Some(0x2000)));
        assert_eq!((registers.get(AArch64::PC), registers.get(Register(33))), (Some(0x2000), None));
        for number in 21..30 {
            registers.forget(Register(number));
        }
        let expected = "{x19: 0x13, x20: 0x14, x30: 0x2000, sp: 0x8000, pc: 0x2000}";
        assert_eq!(format!("{registers:?}"), expected);
    }

    #[test]
    fn signatures_are_taken_off_code_addresses() {
        // One of 52 bits is whole, until it is said that fewer count.
        let wide = Registers::new(VirtAddr::new(0x000f_1234_5678_9abc), VirtAddr::new(0));
        assert_eq!(wide.with_signature(Signature::of_address_bits(52)).ip(), wide.ip());
        assert_eq!(wide.with_signature(Signature::default()).ip(), VirtAddr::new(0x1234_5678_9abc));
        let cpu = vmc::arch::aarch64::Registers { pc: 4, sp: 8, x: [7; 31], ..Default::default() };
        let from_cpu = Registers::from(&cpu);
        let expected = Registers::with_all(VirtAddr::new(4), VirtAddr::new(8), [7; 31]);
        assert_eq!(from_cpu, expected);
        let mut registers = all().with_signature(Signature::of_address_bits(39));
        registers.set(AArch64::PC, 0x0035_2a7f_1234_5678);
        assert_eq!(registers.ip(), VirtAddr::new(0x7f_1234_5678));
        registers.set(AArch64::X30, 0x0011_117f_0000_0000);
        assert_eq!(registers.link(), Some(0x7f_0000_0000));
        registers.return_to(0x0011_117f_0000_0000);
        // What was returned to is no link.
        assert_eq!((registers.link(), registers.get(AArch64::X30)), (None, Some(0x7f_0000_0000)));
    }

    #[test]
    fn the_abis_numbers_are_the_ones_that_gimli_has() {
        let numbers = [AArch64::X19, AArch64::X29, AArch64::X30, AArch64::SP, AArch64::PC];
        assert_eq!(numbers.map(|register| register.0), [X19, X29, X30, SP, PC]);
    }
}
