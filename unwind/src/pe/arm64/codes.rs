//! Unwind codes: one to four bytes that say what an instruction of a prolog or epilog does.

/// A register that a prolog stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// A general register; 29 is the frame pointer, 30 the link register.
    X(u8),
    /// The lower half of a vector register.
    D(u8),
    /// A whole vector register.
    Q(u8),
}

impl Register {
    /// The next one of its kind.
    #[must_use]
    pub const fn next(self) -> Self {
        match self {
            Self::X(number) => Self::X(number.saturating_add(1)),
            Self::D(number) => Self::D(number.saturating_add(1)),
            Self::Q(number) => Self::Q(number.saturating_add(1)),
        }
    }
}

/// What one code says. Sizes and offsets are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `sub sp, sp, #size`.
    Allocate {
        /// How much.
        size: u32,
    },
    /// One register or two are stored.
    Save {
        /// The first.
        first: Register,
        /// The second.
        second: Option<Register>,
        /// Where: from sp, or how far sp goes down before.
        offset: u32,
        /// Does sp go down by it first (`[sp, #-offset]!`)?
        pre_indexed: bool,
    },
    /// `mov x29, sp`.
    SetFrame,
    /// `add x29, sp, #offset`.
    AddFrame {
        /// How far above sp.
        offset: u32,
    },
    /// An instruction without effect on unwinding.
    Nop,
    /// The end of the codes.
    End,
    /// The end of the codes of this part; those of the function that it belongs to follow.
    EndOfPart,
    /// The next pair of registers is stored behind the last one.
    SaveNext,
    /// A kernel's trap frame was built.
    TrapFrame,
    /// A machine frame was pushed.
    MachineFrame,
    /// A CONTEXT lies on the stack.
    Context,
    /// The CONTEXT of emulated x64 code lies on the stack.
    EmulatedContext,
    /// The return address is not one of a call.
    ClearUnwoundToCall,
    /// The return address was signed (`pacibsp`).
    SignReturnAddress,
}

/// A code with its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// What it says.
    pub operation: Operation,
    /// Its first byte's place among the codes.
    pub index: usize,
    /// How many bytes it takes.
    pub len: usize,
}

/// A code that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// The document reserves it.
    #[error("unwind code {code:#x} at {index} is reserved")]
    Reserved {
        /// Where it stands.
        index: usize,
        /// Its first byte.
        code: u8,
    },
    /// The codes end in its middle.
    #[error("the unwind codes end at {index}, in the middle of one")]
    Cut {
        /// Where it stands.
        index: usize,
    },
}

/// Codes in their order, up to the first [`Operation::End`].
#[derive(Clone, Debug)]
pub struct Codes<'a> {
    bytes: &'a [u8],
    at: usize,
    ended: bool,
}

impl<'a> Codes<'a> {
    /// The codes from `index` on.
    #[must_use]
    pub const fn new(bytes: &'a [u8], index: usize) -> Self {
        Self { bytes, at: index, ended: false }
    }

    fn decode(&self) -> Result<Code, CodeError> {
        let index = self.at;
        let cut = CodeError::Cut { index };
        let byte = |at: usize| self.bytes.get(index.saturating_add(at)).copied().ok_or(cut);
        let first = byte(0)?;
        let short = || Ok(u32::from(first) << 8 | u32::from(byte(1)?));
        let reserved = CodeError::Reserved { index, code: first };
        let eight = |value: u32, mask: u32| (value & mask) * 8;
        let next = |value: u32, mask: u32| ((value & mask) + 1) * 8;
        let field = |value: u32, shift: u32, mask: u32| (value >> shift & mask) as u8;
        let one = |first, offset, pre_indexed| Operation::Save { first, second: None, offset, pre_indexed };
        let two = |first: Register, offset, pre_indexed| Operation::Save {
            first,
            second: Some(first.next()),
            offset,
            pre_indexed,
        };
        let with_link = |number, offset| Operation::Save {
            first: Register::X(number),
            second: Some(Register::X(30)),
            offset,
            pre_indexed: false,
        };
        let (operation, len) = match first {
            0x00..=0x1f => (Operation::Allocate { size: u32::from(first & 0x1f) * 16 }, 1),
            0x20..=0x3f => (two(Register::X(19), eight(first.into(), 0x1f), true), 1),
            0x40..=0x7f => (two(Register::X(29), eight(first.into(), 0x3f), false), 1),
            0x80..=0xbf => (two(Register::X(29), next(first.into(), 0x3f), true), 1),
            0xc0..=0xc7 => (Operation::Allocate { size: (short()? & 0x7ff) * 16 }, 2),
            0xc8..=0xdf => {
                let code = short()?;
                let x = |shift, mask| Register::X(19 + field(code, shift, mask));
                let d = |shift, mask| Register::D(8 + field(code, shift, mask));
                let operation = match first {
                    0xc8..=0xcb => two(x(6, 15), eight(code, 0x3f), false),
                    0xcc..=0xcf => two(x(6, 15), next(code, 0x3f), true),
                    0xd0..=0xd3 => one(x(6, 15), eight(code, 0x3f), false),
                    0xd4..=0xd5 => one(x(5, 15), next(code, 0x1f), true),
                    0xd6..=0xd7 => with_link(19 + 2 * field(code, 6, 7), eight(code, 0x3f)),
                    0xd8..=0xd9 => two(d(6, 7), eight(code, 0x3f), false),
                    0xda..=0xdb => two(d(6, 7), next(code, 0x3f), true),
                    0xdc..=0xdd => one(d(6, 7), eight(code, 0x3f), false),
                    0xde => one(d(5, 7), next(code, 0x1f), true),
                    _ => return Err(reserved),
                };
                (operation, 2)
            }
            0xe0 => {
                let size = u32::from(byte(1)?) << 16 | u32::from(byte(2)?) << 8 | u32::from(byte(3)?);
                (Operation::Allocate { size: size * 16 }, 4)
            }
            0xe1 => (Operation::SetFrame, 1),
            0xe2 => (Operation::AddFrame { offset: u32::from(byte(1)?) * 8 }, 2),
            0xe3 => (Operation::Nop, 1),
            0xe4 => (Operation::End, 1),
            0xe5 => (Operation::EndOfPart, 1),
            0xe6 => (Operation::SaveNext, 1),
            0xe7 => (any_register(byte(1)?, byte(2)?).ok_or(reserved)?, 3),
            0xe8 => (Operation::TrapFrame, 1),
            0xe9 => (Operation::MachineFrame, 1),
            0xea => (Operation::Context, 1),
            0xeb => (Operation::EmulatedContext, 1),
            0xec => (Operation::ClearUnwoundToCall, 1),
            0xfc => (Operation::SignReturnAddress, 1),
            _ => return Err(reserved),
        };
        Ok(Code { operation, index, len })
    }
}

/// `save_any_reg`: `0pxrrrrr ffoooooo`: one register or a pair, of any kind, with or without sp going down first.
fn any_register(second: u8, third: u8) -> Option<Operation> {
    if second & 0x80 != 0 {
        return None;
    }
    let (pair, pre_indexed, number) = (second & 0x40 != 0, second & 0x20 != 0, second & 0x1f);
    let first = match third >> 6 {
        0 => Register::X(number),
        1 => Register::D(number),
        2 => Register::Q(number),
        _ => return None,
    };
    let offset = u32::from(third & 0x3f);
    // Pairs, whole vector registers and what moves sp are aligned to 16 bytes.
    let wide = pair || pre_indexed || matches!(first, Register::Q(_));
    let offset = if pre_indexed { offset + 1 } else { offset } * if wide { 16 } else { 8 };
    Some(Operation::Save { first, second: pair.then(|| first.next()), offset, pre_indexed })
}

impl Iterator for Codes<'_> {
    type Item = Result<Code, CodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended || self.at >= self.bytes.len() {
            return None;
        }
        let decoded = self.decode();
        match decoded {
            Ok(code) => {
                self.at += code.len;
                self.ended = code.operation == Operation::End;
            }
            Err(_) => self.ended = true,
        }
        Some(decoded)
    }
}
