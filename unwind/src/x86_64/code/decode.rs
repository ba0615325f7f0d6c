//! One instruction: its length, and what it does to the stack pointer, to general registers and to the flow.

use super::opcodes::{Immediate, Shape, Writes, map_3a, map_38, one_byte, two_bytes};

/// The longest instruction.
pub(crate) const LONGEST: usize = 15;

/// General registers by the machine's numbers.
const RSP: u8 = 4;
const RBP: u8 = 5;
/// The machine's number to DWARF's.
const DWARF: [u16; 16] = [0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15];

/// What an instruction does. Registers have DWARF's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing that matters.
    None,
    /// A word goes onto the stack: this register, or something else.
    Push(Option<u16>),
    /// A word comes off the stack into a register.
    Pop(u16),
    /// A word comes off the stack into memory or a segment register.
    Drop,
    /// A register becomes another one plus a number.
    Set { to: u16, from: u16, plus: i64 },
    /// A register becomes the word at another one plus a number.
    Load { to: u16, base: u16, plus: i64 },
    /// One or two registers get values that are not followed; rax and rdx may too.
    Write(u16, u16),
    /// Registers that a callee need not preserve get values that are not followed.
    Scratch,
    /// `leave`.
    Leave,
    /// A return that drops so many bytes more.
    Return(u16),
    /// A jump to an address.
    Jump(u64),
    /// A jump to wherever.
    JumpAway,
    /// A conditional jump to an address.
    Branch(u64),
    /// A call of the function at an address, or of whatever.
    Call(Option<u64>),
    /// A system call.
    SystemCall,
    /// A function begins here (`endbr64`).
    Entry,
    /// The flow does not get on: a trap, padding.
    Halt,
}

/// An instruction, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) len: u8,
    pub(crate) effect: Effect,
}

/// Bytes in front of the opcode.
#[derive(Clone, Copy, Debug, Default)]
struct Prefixes {
    operand: bool,
    address: bool,
    rep: bool,
    segment: bool,
    rex: Option<u8>,
}

impl Prefixes {
    const fn wide(&self) -> bool {
        matches!(self.rex, Some(rex) if rex & 8 != 0)
    }

    /// A bit of REX as the high bit of a register's number.
    const fn high(&self, bit: u8) -> u8 {
        match self.rex {
            Some(rex) if rex & bit != 0 => 8,
            _ => 0,
        }
    }
}

/// What ModRM says.
#[derive(Clone, Copy, Debug, Default)]
struct ModRm {
    mode: u8,
    reg: u8,
    rm: u8,
    /// A memory operand that is a register plus a number, and nothing else.
    memory: Option<(u8, i64)>,
}

struct Bytes<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Bytes<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// A signed number of `len` bytes.
    fn number(&mut self, len: usize) -> Option<i64> {
        let part = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        let mut word = [0; 8];
        word.get_mut(..len)?.copy_from_slice(part);
        let unused = 64 - 8 * u32::try_from(len).ok()?;
        Some(if unused == 64 { 0 } else { i64::from_le_bytes(word) << unused >> unused })
    }
}

/// The instruction that `bytes` begin with, which lie at `address`. Nothing where it is cut off, or unknown.
pub(crate) fn decode(bytes: &[u8], address: u64) -> Option<Decoded> {
    let bytes = bytes.get(..bytes.len().min(LONGEST))?;
    let mut bytes = Bytes { bytes, at: 0 };
    let mut prefixes = Prefixes::default();
    loop {
        match bytes.peek()? {
            0x66 => prefixes.operand = true,
            0x67 => prefixes.address = true,
            0xf2 | 0xf3 => prefixes.rep = true,
            0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65 | 0xf0 => prefixes.segment = true,
            _ => break,
        }
        bytes.at += 1;
    }
    if let rex @ 0x40..=0x4f = bytes.peek()? {
        prefixes.rex = Some(rex);
        bytes.at += 1;
    }
    let opcode = bytes.byte()?;
    let effect = match opcode {
        0xc4 | 0xc5 | 0x62 if prefixes.rex.is_none() => vector(&mut bytes, opcode, prefixes.address)?,
        0x0f => match bytes.byte()? {
            0x38 => {
                let opcode = bytes.byte()?;
                plain(&mut bytes, map_38(opcode)?, opcode, prefixes, false)?
            }
            0x3a => {
                let opcode = bytes.byte()?;
                plain(&mut bytes, map_3a(opcode)?, opcode, prefixes, false)?
            }
            opcode => long(&mut bytes, opcode, prefixes, address)?,
        },
        opcode => short(&mut bytes, opcode, prefixes, address)?,
    };
    Some(Decoded { len: u8::try_from(bytes.at).ok()?, effect })
}

/// Instructions with a VEX or EVEX prefix, whose first byte was `opcode`.
fn vector(bytes: &mut Bytes<'_>, opcode: u8, address: bool) -> Option<Effect> {
    let first = bytes.byte()?;
    // The bits that REX has are there inverted.
    let (map, rex, other) = match opcode {
        0xc5 => (1, (!first >> 5) & 4, first),
        0xc4 => (first & 0x1f, (!first >> 5) & 7, bytes.byte()?),
        _ => {
            let second = bytes.byte()?;
            bytes.byte()?;
            (first & 7, (!first >> 5) & 7, second)
        }
    };
    let opcode = bytes.byte()?;
    let shape = match map {
        1 => two_bytes(opcode)?,
        2 => map_38(opcode)?,
        3 => map_3a(opcode)?,
        // AVX512-FP16.
        5 | 6 => map_38(0)?,
        _ => return None,
    };
    let prefixes = Prefixes { rex: Some(0x40 | rex), address, ..Prefixes::default() };
    let effect = plain(bytes, shape, opcode, prefixes, false)?;
    // blsr and its like write the register that the prefix names.
    if map == 2 && opcode == 0xf3 {
        return Some(write((!other >> 3) & 15));
    }
    Some(effect)
}

/// Opcodes behind `0f`.
fn long(bytes: &mut Bytes<'_>, opcode: u8, prefixes: Prefixes, address: u64) -> Option<Effect> {
    if opcode == 0x1e && prefixes.rep && bytes.peek()? == 0xfa {
        bytes.at += 1;
        return Some(Effect::Entry);
    }
    let shape = two_bytes(opcode)?;
    let narrow = matches!(opcode, 0x90..=0x9f | 0xb0 | 0xc0);
    let effect = plain(bytes, shape, opcode, prefixes, narrow)?;
    Some(match opcode {
        0x05 => Effect::SystemCall,
        0x0b | 0xb9 | 0x35 | 0x07 => Effect::Halt,
        0x80..=0x8f => Effect::Branch(target(bytes, address, 4)?),
        0xa0 | 0xa8 => Effect::Push(None),
        0xa1 | 0xa9 => Effect::Drop,
        0xa2 => write(3),
        _ => effect,
    })
}

/// Opcodes of one byte.
fn short(bytes: &mut Bytes<'_>, opcode: u8, prefixes: Prefixes, address: u64) -> Option<Effect> {
    let shape = one_byte(opcode)?;
    let low = opcode & 7 | prefixes.high(1);
    let before = bytes.at;
    let narrow = match opcode {
        0x00..=0x3f => opcode & 5 == 0,
        0x80 | 0x84 | 0x86 | 0x88 | 0x8a | 0xb0..=0xb7 | 0xc0 | 0xc6 | 0xd0 | 0xd2 | 0xf6 | 0xfe => true,
        _ => false,
    };
    let effect = plain(bytes, shape, opcode, prefixes, narrow)?;
    let modrm = || Bytes { bytes: bytes.bytes, at: before };
    let wide = prefixes.wide();
    Some(match opcode {
        // Of 16 bits: nothing that a compiler writes.
        0x50..=0x5f | 0x68 | 0x6a | 0xc9 | 0x8f if prefixes.operand => Effect::Halt,
        0x50..=0x57 => Effect::Push(Some(dwarf(low))),
        0x58..=0x5f => Effect::Pop(dwarf(low)),
        0x68 | 0x6a => Effect::Push(None),
        0x70..=0x7f | 0xe0..=0xe3 => Effect::Branch(target(bytes, address, 1)?),
        0x81 | 0x83 if wide => {
            let operand = read_modrm(&mut modrm(), prefixes)?;
            let len = if opcode == 0x83 { 1 } else { 4 };
            let immediate = Bytes { bytes: bytes.bytes, at: bytes.at.checked_sub(len)? }.number(len)?;
            match (operand.mode, operand.reg & 7) {
                (3, 0) => add(operand.rm, immediate),
                (3, 5) => add(operand.rm, immediate.wrapping_neg()),
                _ => effect,
            }
        }
        0x89 | 0x8b | 0x8d if wide && !prefixes.address && !prefixes.segment => {
            let operand = read_modrm(&mut modrm(), prefixes)?;
            match (opcode, operand.mode, operand.memory) {
                (0x89, 3, _) => set(operand.rm, operand.reg, 0),
                (0x8b, 3, _) => set(operand.reg, operand.rm, 0),
                (0x8b, _, Some((base, plus))) => {
                    Effect::Load { to: dwarf(operand.reg), base: dwarf(base), plus }
                }
                (0x8d, _, Some((base, plus))) => set(operand.reg, base, plus),
                _ => effect,
            }
        }
        0x8f => match read_modrm(&mut modrm(), prefixes)? {
            ModRm { mode: 3, rm, .. } => Effect::Pop(dwarf(rm)),
            _ => Effect::Drop,
        },
        0xc2 => Effect::Return(
            Bytes { bytes: bytes.bytes, at: bytes.at.checked_sub(2)? }.number(2)?.cast_unsigned() as u16,
        ),
        0xc3 => Effect::Return(0),
        0xc8 | 0xca | 0xcb | 0xcc | 0xcf | 0xf1 | 0xf4 => Effect::Halt,
        0xc9 => Effect::Leave,
        // int 0x80 is a system call; others do not come back.
        0xcd if bytes.bytes.get(before) == Some(&0x80) => Effect::SystemCall,
        0xcd => Effect::Halt,
        0xe8 => Effect::Call(Some(target(bytes, address, 4)?)),
        0xe9 => Effect::Jump(target(bytes, address, 4)?),
        0xeb => Effect::Jump(target(bytes, address, 1)?),
        0xff => match read_modrm(&mut modrm(), prefixes)?.reg & 7 {
            2 => Effect::Call(None),
            3 => Effect::Halt,
            4 | 5 => Effect::JumpAway,
            6 => Effect::Push(None),
            7 => return None,
            _ => effect,
        },
        0x9c => Effect::Push(None),
        0x9d => Effect::Drop,
        _ => effect,
    })
}

/// Goes over ModRM and immediate; says which registers are written. In a `narrow` instruction, one of bytes, registers 4 to
/// 7 are the second bytes of 0 to 3 where there is no REX.
fn plain(
    bytes: &mut Bytes<'_>,
    shape: Shape,
    opcode: u8,
    prefixes: Prefixes,
    narrow: bool,
) -> Option<Effect> {
    let modrm = if shape.modrm { Some(read_modrm(bytes, prefixes)?) } else { None };
    let operand = if prefixes.operand && !prefixes.wide() { 2 } else { 4 };
    let group3 = modrm.is_some_and(|modrm| modrm.reg & 7 < 2);
    let len = match shape.immediate {
        Immediate::None => 0,
        Immediate::Byte => 1,
        Immediate::Word => 2,
        Immediate::Operand => operand,
        Immediate::Four => 4,
        Immediate::Full => {
            if prefixes.wide() {
                8
            } else {
                operand
            }
        }
        Immediate::Address => {
            if prefixes.address {
                4
            } else {
                8
            }
        }
        Immediate::Enter => 3,
        Immediate::Group3(byte) => match (group3, byte) {
            (true, true) => 1,
            (true, false) => operand,
            (false, _) => 0,
        },
    };
    bytes.number(len.min(8))?;
    let modrm = modrm.unwrap_or_default();
    let rm = (modrm.mode == 3).then_some(modrm.rm);
    let write = |register| write(if narrow && prefixes.rex.is_none() { register & 3 } else { register });
    Some(match shape.writes {
        Writes::Nothing => Effect::None,
        Writes::Scratch => Effect::Scratch,
        Writes::Reg => write(modrm.reg),
        // mul, div and their like write rax and rdx.
        Writes::Rm if matches!(shape.immediate, Immediate::Group3(_)) && modrm.reg & 7 >= 4 => {
            Effect::Scratch
        }
        Writes::Rm => rm.map_or(Effect::None, write),
        Writes::RmUnless(field) if modrm.reg & 7 == field => Effect::None,
        Writes::RmUnless(_) => rm.map_or(Effect::None, write),
        Writes::Both => Effect::Write(dwarf(modrm.reg), dwarf(rm.unwrap_or(modrm.reg))),
        Writes::Opcode => write(opcode & 7 | prefixes.high(1)),
    })
}

fn read_modrm(bytes: &mut Bytes<'_>, prefixes: Prefixes) -> Option<ModRm> {
    let byte = bytes.byte()?;
    let mode = byte >> 6;
    let reg = byte >> 3 & 7 | prefixes.high(4);
    let rm = byte & 7;
    if mode == 3 {
        return Some(ModRm { mode, reg, rm: rm | prefixes.high(1), memory: None });
    }
    let mut base = Some(rm | prefixes.high(1));
    let mut displacement = match mode {
        1 => 1,
        2 => 4,
        _ => 0,
    };
    if rm == RSP {
        let sib = bytes.byte()?;
        let index = sib >> 3 & 7 | prefixes.high(2);
        base = Some(sib & 7 | prefixes.high(1));
        if mode == 0 && sib & 7 == RBP {
            base = None;
            displacement = 4;
        }
        if index != RSP {
            base = None;
        }
    } else if mode == 0 && rm == RBP {
        // Relative to rip.
        base = None;
        displacement = 4;
    }
    let plus = bytes.number(displacement)?;
    Some(ModRm { mode, reg, rm, memory: base.map(|base| (base, plus)) })
}

/// Where a branch leads whose relative address is the last `len` bytes.
fn target(bytes: &Bytes<'_>, address: u64, len: usize) -> Option<u64> {
    let relative = Bytes { bytes: bytes.bytes, at: bytes.at.checked_sub(len)? }.number(len)?;
    Some(address.wrapping_add(bytes.at as u64).wrapping_add_signed(relative))
}

fn dwarf(register: u8) -> u16 {
    DWARF.get(usize::from(register)).copied().unwrap_or(0)
}

fn write(register: u8) -> Effect {
    Effect::Write(dwarf(register), dwarf(register))
}

fn set(to: u8, from: u8, plus: i64) -> Effect {
    Effect::Set { to: dwarf(to), from: dwarf(from), plus }
}

fn add(register: u8, plus: i64) -> Effect {
    set(register, register, plus)
}

#[cfg(test)]
mod tests;
