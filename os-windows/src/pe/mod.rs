//! [`Image`]: the header of a PE image as it lies in virtual memory (Microsoft's "PE Format").
//!
//! Pages of an image may be missing (paged out, discarded, not dumped) and headers may be forged: each part is read when it
//! is asked for, within bounds, and one that is missing does not take the others with it.

mod code_view;
mod exports;

use alloc::vec::Vec;

use vmc::bytes::{array_at, u16_at, u32_at};
use vmc::{ReadError, ReadExt, VirtAddr, VirtualMemory};

pub use exports::{Export, Exports};

/// Sections of one image: the loader allows 96.
const SECTIONS: usize = 96;
/// The header lies in the first page; this much may come before it.
const HEADER_WITHIN: u32 = 0xf00;
/// Bytes of one image: its size is 32 bits, the loader allows 2 GiB.
const IMAGE_BYTES: u32 = 1 << 31;

/// Why there is no image at an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The header cannot be read.
    #[error("the header of the image at {base}: {source}")]
    Read {
        /// Where the image should begin.
        base: VirtAddr,
        /// Why.
        source: ReadError,
    },
    /// What is there is no header.
    #[error("no image at {base}: {reason}")]
    NoImage {
        /// Where it should begin.
        base: VirtAddr,
        /// What is wrong.
        reason: &'static str,
    },
}

/// A section of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name, without the zeros behind it.
    pub name: Vec<u8>,
    /// Where it begins, from the image's base.
    pub rva: u32,
    /// Its size in memory, in bytes.
    pub size: u32,
    /// `IMAGE_SCN_*`.
    pub characteristics: u32,
}

impl Section {
    /// Is it code (`IMAGE_SCN_MEM_EXECUTE`)?
    #[must_use]
    pub const fn executable(&self) -> bool {
        self.characteristics & 0x2000_0000 != 0
    }

    /// Is it gone once the driver has started (`IMAGE_SCN_MEM_DISCARDABLE`)?
    #[must_use]
    pub const fn discardable(&self) -> bool {
        self.characteristics & 0x0200_0000 != 0
    }
}

/// A PE image in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    base: VirtAddr,
    size: u32,
    timestamp: u32,
    machine: u16,
    wide: bool,
    entry: u32,
    checksum: u32,
    sections: Vec<Section>,
    /// Place (from the base) and size of the tables; those that the header does not have are zeros.
    directories: [(u32, u32); 16],
}

impl Image {
    /// `IMAGE_FILE_MACHINE_AMD64`.
    pub const AMD64: u16 = 0x8664;
    /// `IMAGE_FILE_MACHINE_I386`.
    pub const I386: u16 = 0x14c;
    /// `IMAGE_FILE_MACHINE_ARM64`.
    pub const ARM64: u16 = 0xaa64;

    /// The header at `base`.
    ///
    /// # Errors
    /// [`ImageError`] where it cannot be read, or is none. Sections whose headers cannot be read are left out.
    pub fn read<V: VirtualMemory + ?Sized>(memory: &V, base: VirtAddr) -> Result<Self, ImageError> {
        let read = |source| ImageError::Read { base, source };
        let no = |reason| ImageError::NoImage { base, reason };
        let magic: u16 = memory.read_value(base).map_err(read)?;
        if magic != 0x5a4d {
            return Err(no("it does not begin with MZ"));
        }
        let place: u32 = memory.read_value(base.wrapping_add(0x3c)).map_err(read)?;
        if place > HEADER_WITHIN || !place.is_multiple_of(4) {
            return Err(no("the header's place is not within the first page"));
        }
        let at = base.wrapping_add(u64::from(place));
        // The signature, the COFF header, and the optional header as far as all have it.
        let start = bytes::<92, V>(memory, at).map_err(read)?;
        let short = || no("the header is cut off");
        if array_at::<4>(&start, 0) != Some(*b"PE\0\0") {
            return Err(no("there is no PE signature"));
        }
        let machine = u16_at(&start, 4).ok_or_else(short)?;
        let section_count = usize::from(u16_at(&start, 6).ok_or_else(short)?);
        let timestamp = u32_at(&start, 8).ok_or_else(short)?;
        let optional = u64::from(u16_at(&start, 20).ok_or_else(short)?);
        let wide = match u16_at(&start, 24) {
            Some(0x20b) => true,
            Some(0x10b) => false,
            _ => return Err(no("the optional header is neither PE32 nor PE32+")),
        };
        let entry = u32_at(&start, 24 + 16).ok_or_else(short)?;
        let size = u32_at(&start, 24 + 56).ok_or_else(short)?;
        let checksum = u32_at(&start, 24 + 64).ok_or_else(short)?;
        if size == 0 || size > IMAGE_BYTES {
            return Err(no("its size is out of bounds"));
        }
        let mut image = Self {
            base,
            size,
            timestamp,
            machine,
            wide,
            entry,
            checksum,
            sections: Vec::new(),
            directories: [(0, 0); 16],
        };
        let counts: u64 = if wide { 108 } else { 92 };
        let tables = at.wrapping_add(24 + counts);
        if let Ok(count) = memory.read_value::<u32>(tables) {
            let fitting = optional.saturating_sub(counts + 4) / 8;
            let count = u64::from(count).min(fitting);
            for (place, directory) in (0..count).zip(&mut image.directories) {
                let entry: Result<[u32; 2], _> = memory.read_value(tables.wrapping_add(4 + place * 8));
                if let Ok([rva, bytes]) = entry {
                    *directory = (rva, bytes);
                }
            }
        }
        image.sections = sections(memory, at.wrapping_add(24 + optional), section_count.min(SECTIONS), size);
        Ok(image)
    }

    /// Where it begins.
    #[must_use]
    pub const fn base(&self) -> VirtAddr {
        self.base
    }

    /// Its size in memory, in bytes (`SizeOfImage`).
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// When it was linked, or a hash in place of that (`TimeDateStamp`).
    #[must_use]
    pub const fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// What it is built for (`IMAGE_FILE_MACHINE_*`).
    #[must_use]
    pub const fn machine(&self) -> u16 {
        self.machine
    }

    /// Is it PE32+ (64 bits)?
    #[must_use]
    pub const fn wide(&self) -> bool {
        self.wide
    }

    /// Where it is entered, from its base; 0 where it is not.
    #[must_use]
    pub const fn entry(&self) -> u32 {
        self.entry
    }

    /// The checksum that the linker gave it; 0 for none.
    #[must_use]
    pub const fn checksum(&self) -> u32 {
        self.checksum
    }

    /// Its sections, in their order.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Does `address` lie in it?
    #[must_use]
    pub fn contains(&self, address: VirtAddr) -> bool {
        address.offset_from(self.base).is_some_and(|offset| offset < u64::from(self.size))
    }

    /// The table of functions (`.pdata`): its place from the base and its size in bytes. None where it has none, or where it does
    /// not lie in the image.
    #[must_use]
    pub fn exceptions(&self) -> Option<(u32, u32)> {
        self.directory(3)
    }

    /// A table's place and size, where they lie in the image.
    pub(crate) fn directory(&self, index: usize) -> Option<(u32, u32)> {
        let (rva, bytes) = self.directories.get(index).copied()?;
        let end = rva.checked_add(bytes)?;
        (rva != 0 && bytes != 0 && end <= self.size).then_some((rva, bytes))
    }

    /// The address of `rva`, where it lies in the image.
    pub(crate) fn address(&self, rva: u32) -> Option<VirtAddr> {
        (rva < self.size).then(|| self.base.wrapping_add(u64::from(rva)))
    }
}

/// `N` bytes.
fn bytes<const N: usize, V: VirtualMemory + ?Sized>(memory: &V, at: VirtAddr) -> Result<[u8; N], ReadError> {
    let mut bytes = [0; N];
    memory.read(at, &mut bytes)?;
    Ok(bytes)
}

fn sections<V: VirtualMemory + ?Sized>(memory: &V, at: VirtAddr, count: usize, size: u32) -> Vec<Section> {
    let mut found = Vec::new();
    for index in 0..count as u64 {
        let Ok(raw) = bytes::<40, V>(memory, at.wrapping_add(index * 40)) else { continue };
        let (Some(name), Some(length), Some(rva), Some(characteristics)) =
            (array_at::<8>(&raw, 0), u32_at(&raw, 8), u32_at(&raw, 12), u32_at(&raw, 36))
        else {
            continue;
        };
        if rva < size {
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
            found.push(Section { name, rva, size: length.min(size - rva), characteristics });
        }
    }
    found
}
