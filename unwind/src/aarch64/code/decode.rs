//! One instruction: what it does to the stack pointer, to general registers and to the flow.

use super::memory::load_or_store;
use super::numbers::{by_immediate, by_register, of_vectors};

/// What an instruction does. 31 is the stack pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing that matters.
    None,
    /// The registers whose bits are set get values that are not followed.
    Write(u32),
    /// A register becomes another one plus a number.
    Set { to: u16, from: u16, plus: i64 },
    /// A register becomes another one plus, or minus, a third.
    Sum { to: u16, from: u16, other: u16, minus: bool },
    /// A register becomes a number.
    Number { to: u16, value: u64 },
    /// Sixteen bits of a register, from `shift` on, become a number.
    Part { to: u16, value: u64, shift: u32 },
    /// Registers are loaded or stored.
    Access(Access),
    /// A return to where a register says.
    Return(u16),
    /// A jump to an address.
    Jump(u64),
    /// A jump to where a register says.
    JumpAway(u16),
    /// A conditional jump to an address.
    Branch(u64),
    /// A call.
    Call,
    /// A system call, or one to a hypervisor or to firmware.
    SystemCall,
    /// Functions begin here (`bti c`).
    Entry,
    /// The flow does not get on: a trap, padding.
    Halt,
}

/// A load or a store of one or two registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) load: bool,
    /// The general registers, where whole words of theirs are loaded or stored: the second lies behind the first.
    pub(crate) words: [Option<u16>; 2],
    /// The registers that get what is not followed.
    pub(crate) lost: u32,
    pub(crate) base: u16,
    /// What is added to the base to get the first word's address.
    pub(crate) plus: i64,
    /// What is added to the base for good.
    pub(crate) moved: i64,
}

/// `len` bits from `low` on.
pub(super) const fn bits(word: u32, low: u32, len: u32) -> u32 {
    word >> low & ((1 << len) - 1)
}

/// The same as a signed number.
pub(super) const fn signed(word: u32, low: u32, len: u32) -> i64 {
    let unused = 32 - len;
    ((word >> low << unused).cast_signed() >> unused) as i64
}

/// A register's number.
pub(super) const fn register(word: u32, low: u32) -> u16 {
    bits(word, low, 5) as u16
}

/// The bit of a register that is written; 31 is the one that is always zero.
pub(super) const fn write(word: u32, low: u32) -> u32 {
    (1 << bits(word, low, 5)) & 0x7fff_ffff
}

/// The instruction `word`, which lies at `address`.
pub(crate) fn decode(word: u32, address: u64) -> Effect {
    match bits(word, 25, 4) {
        0b1000 | 0b1001 => by_immediate(word),
        0b1010 | 0b1011 => flow(word, address),
        0b0100 | 0b0110 | 0b1100 | 0b1110 => load_or_store(word),
        0b0101 | 0b1101 => by_register(word),
        0b0111 | 0b1111 => of_vectors(word),
        // Scalable vectors: addvl and addpl write general registers or the stack pointer, others general registers at most.
        0b0010 if word & 0xffa0_f800 == 0x0420_5000 => Effect::Write(1 << bits(word, 0, 5)),
        0b0010 => Effect::Write(write(word, 0)),
        _ => Effect::Halt,
    }
}

/// Branches, exceptions, system instructions.
fn flow(word: u32, address: u64) -> Effect {
    let target = |low, len| address.wrapping_add_signed(signed(word, low, len) * 4);
    match word >> 24 {
        0x14..=0x17 => Effect::Jump(target(0, 26)),
        0x94..=0x97 => Effect::Call,
        0x54 => Effect::Branch(target(5, 19)),
        // Returns that check a signature over the program counter, too.
        0x55 if word & 0xffc0_001f == 0x5500_001f => Effect::Return(30),
        0x34 | 0x35 | 0xb4 | 0xb5 => Effect::Branch(target(5, 19)),
        0x36 | 0x37 | 0xb6 | 0xb7 => Effect::Branch(target(5, 14)),
        0xd4 => match bits(word, 21, 3) << 5 | bits(word, 0, 5) {
            1..=3 => Effect::SystemCall,
            _ => Effect::Halt,
        },
        0xd5 if word == 0xd503_245f => Effect::Entry,
        // From a system register.
        0xd5 if bits(word, 21, 1) == 1 => Effect::Write(write(word, 0)),
        0xd5 => Effect::None,
        0xd6 | 0xd7 => match bits(word, 21, 4) {
            0b0000 | 0b1000 => Effect::JumpAway(register(word, 5)),
            0b0001 | 0b1001 => Effect::Call,
            // A signed return names no register: x30.
            0b0010 if bits(word, 11, 1) == 1 => Effect::Return(30),
            0b0010 => Effect::Return(register(word, 5)),
            _ => Effect::Halt,
        },
        _ => Effect::Halt,
    }
}

#[cfg(test)]
mod tests;
