//! Records of `.pdata`, and full ones of `.xdata`.

use alloc::vec;
use alloc::vec::Vec;

use vmc::{ReadError, VirtAddr, VirtualMemory};

use super::codes::Codes;
use super::packed::Packed;

/// Most codes: 255 words.
const WORD: u64 = 4;

/// What a function's second word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnwindData {
    /// Packed.
    Packed(Packed),
    /// The image-relative address of a record.
    Record(u32),
    /// The document reserves it.
    Reserved(u32),
}

/// A function in `.pdata`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its begin, relative to the image's base.
    pub begin: u32,
    /// How it is unwound.
    pub data: UnwindData,
}

impl Entry {
    /// The length of an entry in bytes.
    pub const SIZE: u32 = 8;

    /// The entry of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        let word = u32::from_le_bytes([e, f, g, h]);
        let data = match word & 3 {
            0 => UnwindData::Record(word),
            1 | 2 => UnwindData::Packed(Packed::new(word)),
            _ => UnwindData::Reserved(word),
        };
        Self { begin: u32::from_le_bytes([a, b, c, d]), data }
    }
}

/// Why a record is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is not in memory.
    #[error("the unwind record is not resident: {0}")]
    NotResident(#[from] ReadError),
    /// It has a version that is not known.
    #[error("the unwind record at {at} has version {version}")]
    Version {
        /// Where it lies.
        at: VirtAddr,
        /// The version.
        version: u8,
    },
}

/// An epilog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epilog {
    /// Where it begins in the function, in bytes; nothing where it is the function's end.
    pub start: Option<u32>,
    /// Its first code's place.
    pub codes: usize,
}

/// A full record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The length of the function in bytes.
    pub length: u32,
    /// Is there an exception handler?
    pub has_handler: bool,
    /// The handler's image-relative address.
    pub handler: Option<u32>,
    /// Its epilogs.
    pub epilogs: Vec<Epilog>,
    codes: Vec<u8>,
}

impl Record {
    /// The record at `at`.
    ///
    /// # Errors
    /// [`RecordError`] where it is not in memory, or of another version.
    pub fn read<V: VirtualMemory + ?Sized>(memory: &V, at: VirtAddr) -> Result<Self, RecordError> {
        let word = |index: u64| -> Result<u32, ReadError> {
            let mut bytes = [0; 4];
            memory.read(at.wrapping_add(index * WORD), &mut bytes)?;
            Ok(u32::from_le_bytes(bytes))
        };
        let header = word(0)?;
        let version = (header >> 18 & 3) as u8;
        if version != 0 {
            return Err(RecordError::Version { at, version });
        }
        let (has_handler, single) = (header >> 20 & 1 == 1, header >> 21 & 1 == 1);
        let (mut epilogs, mut words) = (header >> 22 & 31, header >> 27);
        let mut next = 1;
        if epilogs == 0 && words == 0 {
            let more = word(1)?;
            (epilogs, words) = (more & 0xffff, more >> 16 & 0xff);
            next = 2;
        }
        let epilogs = if single {
            vec![Epilog { start: None, codes: epilogs as usize }]
        } else {
            let first = next;
            next += u64::from(epilogs);
            // At most 65,535, one word each, and each is read: memory bounds them.
            let scope = |index: u64| {
                word(first + index).map(|scope| Epilog {
                    start: Some((scope & 0x3_ffff) * 4),
                    codes: (scope >> 22) as usize,
                })
            };
            (0..u64::from(epilogs)).map(scope).collect::<Result<_, _>>()?
        };
        // At most 255 words.
        let mut codes = vec![0; words as usize * 4];
        memory.read(at.wrapping_add(next * WORD), &mut codes)?;
        let handler = if has_handler { Some(word(next + u64::from(words))?) } else { None };
        Ok(Self { length: (header & 0x3_ffff) * 4, has_handler, handler, epilogs, codes })
    }

    /// The codes from `index` on: 0 is the prolog's, the last instruction's first.
    #[must_use]
    pub const fn codes(&self, index: usize) -> Codes<'_> {
        Codes::new(self.codes.as_slice(), index)
    }

    /// How many bytes of codes there are.
    #[must_use]
    pub const fn code_bytes(&self) -> usize {
        self.codes.len()
    }
}
