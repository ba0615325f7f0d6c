//! Packed unwind data: functions of the usual shape, whose record fits into one word.

use alloc::vec::Vec;

use super::codes::{Operation, Register};

/// The most that one `sub sp, sp, #imm` can take.
const MOST_SUB: u32 = 4080;
/// The most that `stp x29, x30, [sp, #-imm]!` can take.
const MOST_PAIR: u32 = 512;

/// The fields of packed unwind data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// It is a part of a function without a prolog of its own.
    pub fragment: bool,
    /// The length of the function in bytes.
    pub length: u32,
    /// How many floating-point registers are stored, less one (0: none).
    pub floats: u8,
    /// How many general registers are stored, from x19 on.
    pub integers: u8,
    /// Are the parameters' registers stored first?
    pub homed: bool,
    /// 0: not chained, the link register not stored; 1: the link register stored; 2: chained, with a signed return address; 3:
    /// chained.
    pub chain: u8,
    /// The size of the frame in bytes.
    pub frame_size: u32,
}

impl Packed {
    /// The fields of a record's second word, whose low two bits are 1 or 2.
    #[must_use]
    pub const fn new(word: u32) -> Self {
        Self {
            fragment: word & 3 == 2,
            length: (word >> 2 & 0x7ff) * 4,
            floats: (word >> 13 & 7) as u8,
            integers: (word >> 16 & 15) as u8,
            homed: word >> 20 & 1 == 1,
            chain: (word >> 21 & 3) as u8,
            frame_size: (word >> 23 & 0x1ff) * 16,
        }
    }

    /// What the prolog does, the last first: the order in which it is undone.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        let mut forward = Vec::new();
        let (integers, with_link) = (u32::from(self.integers), self.chain == 1);
        let floats = if self.floats == 0 { 0 } else { u32::from(self.floats) + 1 };
        let integer_size = integers * 8 + if with_link { 8 } else { 0 };
        let homed_size = if self.homed { 64 } else { 0 };
        let saved = (integer_size + floats * 8 + homed_size).next_multiple_of(16);
        let local = self.frame_size.saturating_sub(saved);
        if self.chain == 2 {
            forward.push(Operation::SignReturnAddress);
        }
        let mut offset = 0;
        let mut save = |first: Register, second: Option<Register>| {
            let down = offset == 0;
            forward.push(Operation::Save {
                first,
                second,
                offset: if down { saved } else { offset },
                pre_indexed: down,
            });
            offset += if second.is_some() { 16 } else { 8 };
        };
        let mut left = integers;
        while left > 0 {
            let register = Register::X((19 + integers - left) as u8);
            let second = match left {
                1 => with_link.then_some(Register::X(30)),
                _ => Some(register.next()),
            };
            // A single first register does not go with the link register: sp has to go down by one of them alone.
            if left == 1 && integers == 1 && with_link {
                save(register, None);
                save(Register::X(30), None);
            } else {
                save(register, second);
            }
            left = left.saturating_sub(2);
        }
        if with_link && integers % 2 == 0 {
            save(Register::X(30), None);
        }
        let mut left = floats;
        while left > 0 {
            let register = Register::D((8 + floats - left) as u8);
            save(register, (left > 1).then(|| register.next()));
            left = left.saturating_sub(2);
        }
        if self.homed {
            // Parameters are stored and never restored: only where they move sp do they matter.
            if offset == 0 {
                forward.push(Operation::Allocate { size: saved });
                forward.extend([Operation::Nop; 3]);
            } else {
                forward.extend([Operation::Nop; 4]);
            }
        }
        self.locals(&mut forward, local);
        forward.reverse();
        forward
    }

    fn locals(&self, forward: &mut Vec<Operation>, local: u32) {
        let frame = |offset, pre_indexed| Operation::Save {
            first: Register::X(29),
            second: Some(Register::X(30)),
            offset,
            pre_indexed,
        };
        let chained = self.chain >= 2;
        if chained && local <= MOST_PAIR {
            forward.push(frame(local, true));
        } else {
            if local > MOST_SUB {
                forward.push(Operation::Allocate { size: MOST_SUB });
            }
            let rest = if local > MOST_SUB { local - MOST_SUB } else { local };
            if rest > 0 {
                forward.push(Operation::Allocate { size: rest });
            }
            if chained {
                forward.push(frame(0, false));
            }
        }
        if chained {
            forward.push(Operation::SetFrame);
        }
    }
}
