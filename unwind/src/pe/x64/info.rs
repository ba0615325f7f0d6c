//! `UNWIND_INFO`: what the prolog of a function has done, as the compiler wrote it down.
//!
//! Source: "x64 exception handling", `UNWIND_INFO` and `UNWIND_CODE`; version 2 adds the places of epilogs (code 6).

use vmc::{VirtAddr, VirtualMemory};

use crate::pe::functions::FunctionEntry;

/// The length of the header in bytes.
const HEADER: usize = 4;
/// The length of the largest array of codes in bytes.
const CODES: usize = 2 * 255;
/// Flags: an exception handler, a termination handler, the entry of another part of the function.
const HANDLERS: u8 = 1 | 2;
const CHAINED: u8 = 4;

/// Why unwind information is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InfoError {
    /// It is not in memory.
    #[error("the unwind information at {0} is not resident")]
    NotResident(VirtAddr),
    /// It has a version that is not known.
    #[error("the unwind information at {at} has version {version}")]
    Version {
        /// Where it lies.
        at: VirtAddr,
        /// The version.
        version: u8,
    },
    /// A code is not one that its version has, or lacks its operands.
    #[error("unwind code {index} is none: operation {operation}, information {info}")]
    Code {
        /// The number of its slot.
        index: u8,
        /// The operation's number.
        operation: u8,
        /// The four bits beside it.
        info: u8,
    },
}

/// What one code says that the prolog did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It pushed a register (the processor's number).
    Push {
        /// The register.
        register: u8,
    },
    /// It took this many bytes of stack.
    Allocate {
        /// How many.
        size: u32,
    },
    /// It made the frame register: the stack pointer plus [`UnwindInfo::frame`]'s offset.
    SetFrame,
    /// It stored a register.
    Save {
        /// The register.
        register: u8,
        /// Where, from the frame's base.
        offset: u32,
    },
    /// It stored all 128 bits of an xmm register.
    SaveXmm {
        /// The register.
        register: u8,
        /// Where, from the frame's base.
        offset: u32,
    },
    /// The processor pushed a machine frame, with an error code below it or without.
    MachineFrame {
        /// Is there an error code?
        error_code: bool,
    },
    /// Version 2: where epilogs are. In the first one `offset` is their length, and bit 0 of `info` says that one ends the
    /// function; in others `info` and `offset` tell how far before the function's end one begins (0: padding).
    Epilog {
        /// The low eight bits.
        offset: u8,
        /// The high four bits.
        info: u8,
    },
}

/// An operation and where the prolog has done it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnwindCode {
    /// The offset of the end of the instruction in the function; of no meaning in [`Operation::Epilog`].
    pub prolog_offset: u8,
    /// What it did.
    pub operation: Operation,
}

/// What follows the codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chained {
    /// Nothing.
    Nothing,
    /// The image-relative address of a language's handler.
    Handler(u32),
    /// The entry of the part of the function whose prolog came before.
    Parent(FunctionEntry),
}

/// Unwind information of one function, or of a part of one.
#[derive(Clone, Debug)]
pub struct UnwindInfo {
    /// Its version: 1 or 2.
    pub version: u8,
    /// Its flags: 1 exception handler, 2 termination handler, 4 chained.
    pub flags: u8,
    /// The length of the prolog in bytes.
    pub prolog_size: u8,
    /// The frame register (the processor's number) and how far above the frame's base it points, in bytes.
    pub frame: Option<(u8, u32)>,
    /// What follows the codes.
    pub chained: Chained,
    codes: [u8; CODES],
    count: u8,
}

impl UnwindInfo {
    /// The unwind information at `at`.
    ///
    /// # Errors
    /// [`InfoError`] where it is not in memory, or of another version.
    pub fn read<V: VirtualMemory + ?Sized>(memory: &V, at: VirtAddr) -> Result<Self, InfoError> {
        let missing = |error: vmc::ReadError| InfoError::NotResident(error.addr);
        let mut header = [0; HEADER];
        memory.read(at, &mut header).map_err(missing)?;
        let [first, prolog_size, count, frame] = header;
        let (version, flags) = (first & 7, first >> 3);
        if !matches!(version, 1 | 2) {
            return Err(InfoError::Version { at, version });
        }
        let mut codes = [0; CODES];
        let used = codes.get_mut(..usize::from(count) * 2).unwrap_or_default();
        memory.read(at.wrapping_add(HEADER as u64), used).map_err(missing)?;
        // An even number of codes has room.
        let behind = at.wrapping_add(HEADER as u64 + 2 * (u64::from(count) + u64::from(count & 1)));
        let chained = if flags & CHAINED != 0 {
            Chained::Parent(FunctionEntry::read(memory, behind).map_err(missing)?)
        } else if flags & HANDLERS != 0 {
            let mut handler = [0; 4];
            memory.read(behind, &mut handler).map_err(missing)?;
            Chained::Handler(u32::from_le_bytes(handler))
        } else {
            Chained::Nothing
        };
        let frame = (frame & 15 != 0).then_some((frame & 15, u32::from(frame >> 4) * 16));
        Ok(Self { version, flags, prolog_size, frame, chained, codes, count })
    }

    /// The codes, in their order: what was done last comes first.
    #[must_use]
    pub const fn codes(&self) -> Codes<'_> {
        Codes { info: self, index: 0, failed: false }
    }

    fn slot(&self, index: u8) -> Option<[u8; 2]> {
        if index >= self.count {
            return None;
        }
        let at = usize::from(index) * 2;
        self.codes.get(at..at + 2)?.try_into().ok()
    }

    /// Where the epilogs of version 2 are: (distance of their begin from the function's end, their length).
    pub fn epilogs(&self) -> impl Iterator<Item = (u32, u32)> {
        let mut length = None;
        let places = self.codes().map_while(|code| match code.ok()?.operation {
            Operation::Epilog { offset, info } => Some((offset, info)),
            _ => None,
        });
        places.filter_map(move |(offset, info)| match length {
            None => {
                let len = u32::from(offset);
                length = Some(len);
                (info & 1 == 1).then_some((len, len))
            }
            Some(len) => {
                let distance = u32::from(info) << 8 | u32::from(offset);
                (distance != 0).then_some((distance, len))
            }
        })
    }
}

/// An iterator over the codes of unwind information.
#[derive(Clone, Debug)]
pub struct Codes<'a> {
    info: &'a UnwindInfo,
    index: u8,
    failed: bool,
}

impl Codes<'_> {
    /// An operand of one slot.
    fn short(&mut self) -> Option<u32> {
        let slot = self.info.slot(self.index)?;
        self.index = self.index.checked_add(1)?;
        Some(u16::from_le_bytes(slot).into())
    }

    /// An operand of two slots.
    fn long(&mut self) -> Option<u32> {
        Some(self.short()? | self.short()? << 16)
    }

    fn operation(&mut self, operation: u8, info: u8, prolog_offset: u8) -> Option<Operation> {
        let scaled = |value: u32, by: u32| value.checked_mul(by);
        Some(match (operation, info) {
            (0, register) => Operation::Push { register },
            (1, 0) => Operation::Allocate { size: scaled(self.short()?, 8)? },
            (1, 1) => Operation::Allocate { size: self.long()? },
            (2, info) => Operation::Allocate { size: u32::from(info) * 8 + 8 },
            (3, _) => Operation::SetFrame,
            (4, register) => Operation::Save { register, offset: scaled(self.short()?, 8)? },
            (5, register) => Operation::Save { register, offset: self.long()? },
            (6, info) if self.info.version == 2 => Operation::Epilog { offset: prolog_offset, info },
            (8, register) => Operation::SaveXmm { register, offset: scaled(self.short()?, 16)? },
            (9, register) => Operation::SaveXmm { register, offset: self.long()? },
            (10, info @ (0 | 1)) => Operation::MachineFrame { error_code: info == 1 },
            _ => return None,
        })
    }
}

impl Iterator for Codes<'_> {
    type Item = Result<UnwindCode, InfoError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let index = self.index;
        let [prolog_offset, kind] = self.info.slot(index)?;
        let (operation, info) = (kind & 15, kind >> 4);
        self.index = index.checked_add(1)?;
        let decoded = self.operation(operation, info, prolog_offset);
        self.failed = decoded.is_none();
        let decoded = decoded.ok_or(InfoError::Code { index, operation, info });
        Some(decoded.map(|operation| UnwindCode { prolog_offset, operation }))
    }
}
