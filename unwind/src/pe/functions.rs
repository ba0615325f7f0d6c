//! The exception directory of an x64 image: which function an address lies in.
//!
//! The directory is an array of `RUNTIME_FUNCTION`s (begin, end, unwind information: three image-relative addresses of 32 bits),
//! sorted by begin. It is searched where it lies; nothing is parsed ahead.

use core::ops::Range;

use vmc::{ReadError, VirtAddr, VirtualMemory};

use crate::module::NoTable;

/// The size of a `RUNTIME_FUNCTION` in bytes.
const ENTRY: u64 = 12;

/// A function, or a part of one, as the directory has it. Addresses are relative to the image's base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionEntry {
    /// Its first byte.
    pub begin: u32,
    /// The first byte behind it.
    pub end: u32,
    /// Its unwind information; where bit 0 is set, another entry that has it.
    pub unwind_info: u32,
}

impl FunctionEntry {
    pub(super) fn from_bytes(bytes: &[u8; ENTRY as usize]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
        let word = u32::from_le_bytes;
        Self { begin: word([a, b, c, d]), end: word([e, f, g, h]), unwind_info: word([i, j, k, l]) }
    }

    /// The entry at `at`.
    pub(super) fn read<V: VirtualMemory + ?Sized>(memory: &V, at: VirtAddr) -> Result<Self, ReadError> {
        let mut bytes = [0; ENTRY as usize];
        memory.read(at, &mut bytes)?;
        Ok(Self::from_bytes(&bytes))
    }

    /// Does `rva` lie in it?
    #[must_use]
    pub const fn contains(&self, rva: u32) -> bool {
        self.begin <= rva && rva < self.end
    }
}

/// Where an image is, and where its exception directory is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeModule {
    /// The addresses that the image takes.
    pub range: Range<VirtAddr>,
    /// The exception directory: its image-relative address and its size in bytes. Size 0 where the image has none.
    pub exceptions: (u32, u32),
}

impl PeModule {
    /// The address relative to the image's base.
    #[must_use]
    pub fn rva(&self, address: VirtAddr) -> Option<u32> {
        if !self.range.contains(&address) {
            return None;
        }
        u32::try_from(address.offset_from(self.range.start)?).ok()
    }

    /// The address of what lies at `rva`.
    #[must_use]
    pub const fn at(&self, rva: u32) -> VirtAddr {
        self.range.start.wrapping_add(rva as u64)
    }

    /// Its functions.
    #[must_use]
    pub const fn functions<'a, V: ?Sized>(&'a self, memory: &'a V) -> Functions<'a, V> {
        Functions { module: self, memory }
    }
}

/// Finds the image that an address lies in.
pub trait PeModules {
    /// The image at `address`.
    ///
    /// # Errors
    /// [`NoTable::None`] where no image is there, [`NoTable::NotResident`] where its headers are not to be had.
    fn find(&self, address: VirtAddr) -> Result<PeModule, NoTable>;
}

/// The functions of an image, in memory.
#[derive(Debug)]
pub struct Functions<'a, V: ?Sized> {
    module: &'a PeModule,
    memory: &'a V,
}

impl<V: VirtualMemory + ?Sized> Functions<'_, V> {
    /// How many entries there are.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.module.exceptions.1 / ENTRY as u32
    }

    /// The entry with this number.
    ///
    /// # Errors
    /// [`ReadError`] where its memory is not to be had.
    pub fn get(&self, index: u32) -> Result<FunctionEntry, ReadError> {
        let table = self.module.at(self.module.exceptions.0);
        FunctionEntry::read(self.memory, table.wrapping_add(u64::from(index) * ENTRY))
    }

    /// The entry that covers `rva`; nothing for functions that touch neither stack nor saved registers (leaf functions).
    ///
    /// # Errors
    /// [`ReadError`] where memory that the search needs is not to be had.
    pub fn find(&self, rva: u32) -> Result<Option<FunctionEntry>, ReadError> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.get(middle)?;
            if rva < entry.begin {
                high = middle;
            } else if rva >= entry.end {
                low = middle + 1;
            } else {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}
