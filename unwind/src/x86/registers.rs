//! The registers of an i386 frame, and which of them are known.

use core::fmt;

use gimli::Register;
use vmc::{VirtAddr, VirtualMemory};

use crate::cfi::AddressSize;
use crate::row_step::RegisterFile;
use crate::x86_64;

/// General registers and instruction pointer of one frame.
///
/// A caller's frame knows what its callees had to preserve (ebx, ebp, esi, edi, and esp); the others are lost with the
/// call. Behind a signal frame all are known again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    general: [u32; 8],
    ip: u32,
    /// Bit n: register n is known. Bit 8 is the instruction pointer.
    known: u16,
}

/// DWARF's names of the registers, by number.
const NAMES: [&str; 9] = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip"];

const ESP: u16 = 4;
/// The instruction pointer's number: by the ABI the return address' column.
const EIP: u16 = 8;
/// ebx, ebp, esi and edi; esp and eip.
const KEPT: u16 = 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << ESP | 1 << EIP;

impl Registers {
    /// Only instruction and stack pointer are known.
    #[must_use]
    pub const fn new(ip: u32, sp: u32) -> Self {
        Self { general: [0, 0, 0, 0, sp, 0, 0, 0], ip, known: 1 << ESP | 1 << EIP }
    }

    /// All are known; `general` is in DWARF's order: eax, ecx, edx, ebx, esp, ebp, esi, edi.
    #[must_use]
    pub const fn with_all(ip: u32, general: [u32; 8]) -> Self {
        Self { general, ip, known: 0x1ff }
    }

    /// The instruction pointer (in a caller's frame: the return address).
    #[must_use]
    pub const fn ip(&self) -> VirtAddr {
        VirtAddr::new(self.ip as u64)
    }

    /// The stack pointer. It is known in every frame.
    #[must_use]
    pub const fn sp(&self) -> VirtAddr {
        let [_, _, _, _, esp, ..] = self.general;
        VirtAddr::new(esp as u64)
    }

    /// A register by its DWARF number (8 is eip), if it is known.
    #[must_use]
    pub fn get(&self, register: Register) -> Option<u32> {
        match self.general.get(usize::from(register.0)) {
            Some(value) if self.known >> register.0 & 1 == 1 => Some(*value),
            None if register.0 == EIP => Some(self.ip),
            _ => None,
        }
    }

    /// Sets a register by its DWARF number. Those that are not tracked (above 8) are ignored.
    pub fn set(&mut self, register: Register, value: u32) {
        if let Some(place) = self.general.get_mut(usize::from(register.0)) {
            *place = value;
            self.known |= 1 << register.0;
        } else if register.0 == EIP {
            self.ip = value;
        }
    }

    /// Makes a register unknown. Stack and instruction pointer stay.
    pub fn forget(&mut self, register: Register) {
        if register.0 != ESP && register.0 < EIP {
            self.known &= !(1 << register.0);
        }
    }
}

/// The low halves: what a 32-bit program sees of an x86_64 CPU.
impl From<&vmc::arch::x86_64::Registers> for Registers {
    fn from(registers: &vmc::arch::x86_64::Registers) -> Self {
        let [rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, ..] = registers.general;
        let general = [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi];
        Self::with_all(registers.rip as u32, general.map(|value| value as u32))
    }
}

impl RegisterFile for Registers {
    const SP: u16 = ESP;
    const IP: u16 = EIP;
    const WORD: AddressSize = AddressSize::Four;

    fn ip(&self) -> VirtAddr {
        self.ip()
    }

    fn sp(&self) -> VirtAddr {
        self.sp()
    }

    fn value(&self, number: u16) -> Option<u64> {
        self.get(Register(number)).map(u64::from)
    }

    fn put(&mut self, number: u16, value: u64) {
        self.set(Register(number), value as u32);
    }

    fn forget(&mut self, number: u16) {
        self.forget(Register(number));
    }

    fn keep_callee_saved(&mut self) {
        self.known &= KEPT;
    }

    fn is_called_before<V: VirtualMemory + ?Sized>(memory: &V, ip: VirtAddr) -> bool {
        // Calls are the same bytes as in 64-bit code.
        x86_64::Registers::is_called_before(memory, ip)
    }
}

impl fmt::Debug for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (number, name) in (0u16..).zip(NAMES) {
            if let Some(value) = self.get(Register(number)) {
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
    use gimli::X86;

    #[test]
    fn a_call_loses_what_a_callee_may_change() {
        let mut registers = Registers::with_all(0x1000, core::array::from_fn(|number| number as u32));
        registers.keep_callee_saved();
        registers.forget(X86::ESP);
        let expected = "{ebx: 0x3, esp: 0x4, ebp: 0x5, esi: 0x6, edi: 0x7, eip: 0x1000}";
        assert_eq!(format!("{registers:?}"), expected);
        registers.set(X86::EAX, 9);
        registers.forget(X86::EBX);
        registers.set(Register(9), 1);
        assert_eq!((registers.get(X86::EAX), registers.get(X86::EBX)), (Some(9), None));
        assert_eq!((registers.get(Register(9)), registers.get(X86::RA)), (None, Some(0x1000)));
    }

    #[test]
    fn low_halves_are_what_a_32_bit_program_sees() {
        let general = core::array::from_fn(|number| 0xdead_0000_0000 | number as u64);
        let wide = vmc::arch::x86_64::Registers { general, rip: 0x1_0000_1234, ..Default::default() };
        let registers = Registers::from(&wide);
        let numbers: [Option<u32>; 9] = core::array::from_fn(|number| registers.get(Register(number as u16)));
        assert_eq!(numbers, [0, 2, 1, 3, 7, 6, 4, 5, 0x1234].map(Some));
    }
}
