//! The bytes of a section, with holes where the guest's memory has none.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

/// A section as far as it could be read.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Section {
    /// Its link-time address.
    pub address: u64,
    /// Its bytes; anything may stand in the missing parts.
    pub bytes: Vec<u8>,
    /// The parts that could not be read, as offsets into `bytes`: pages that are not resident.
    pub missing: Vec<Range<u64>>,
}

impl Section {
    /// A section of which nothing is missing.
    #[must_use]
    pub const fn new(address: u64, bytes: Vec<u8>) -> Self {
        Self { address, bytes, missing: Vec::new() }
    }

    /// Brings the missing parts into the order that [`lacks`](Self::lacks) needs, overlaps merged.
    pub(crate) fn normalise(&mut self) {
        self.missing.retain(|part| part.start < part.end);
        self.missing.sort_unstable_by_key(|part| part.start);
        self.missing.dedup_by(|later, earlier| {
            let touches = later.start <= earlier.end;
            if touches {
                earlier.end = earlier.end.max(later.end);
            }
            touches
        });
    }

    /// The address of the first missing byte in `len` bytes from `offset` on.
    pub(crate) fn lacks(&self, offset: u64, len: u64) -> Option<u64> {
        if self.missing.is_empty() {
            return None;
        }
        let part = self.missing.get(self.missing.partition_point(|part| part.end <= offset))?;
        let first = part.start.max(offset);
        (first < offset.saturating_add(len)).then(|| self.address.wrapping_add(first))
    }

    /// The 32-bit number at `offset`.
    pub(crate) fn u32_at(&self, offset: u64) -> Option<u32> {
        let bytes = self.bytes.get(usize::try_from(offset).ok()?..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes))
    }

    /// The length that the CIE or FDE at `offset` tells of itself.
    pub(crate) fn entry_len(&self, offset: u64) -> Option<u64> {
        match self.u32_at(offset)? {
            u32::MAX => self.u64_at(offset.checked_add(4)?),
            len => Some(len.into()),
        }
    }

    /// The 64-bit number at `offset`.
    pub(crate) fn u64_at(&self, offset: u64) -> Option<u64> {
        let bytes = self.bytes.get(usize::try_from(offset).ok()?..)?.first_chunk::<8>()?;
        Some(u64::from_le_bytes(*bytes))
    }
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {:#x}, {} parts missing", self.bytes.len(), self.address, self.missing.len())
    }
}

/// Which of the two forms call frame information has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    EhFrame,
    DebugFrame,
}

/// How long an address is: what ELF calls the class of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AddressSize {
    /// Four bytes: i386.
    Four,
    /// Eight bytes: x86_64.
    #[default]
    Eight,
}

impl AddressSize {
    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u8 {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }
}

/// What one ELF image brings for unwinding.
#[derive(Clone, Debug, Default)]
pub struct Sections {
    /// `.eh_frame_hdr`: what PT_GNU_EH_FRAME points at. Left empty, `.eh_frame` is indexed in one pass.
    pub eh_frame_hdr: Section,
    /// `.eh_frame`. It may reach too far (to the end of its segment, where no section header tells its length).
    pub eh_frame: Section,
    /// `.debug_frame`: taken only where `.eh_frame` is empty. It is indexed in one pass.
    pub debug_frame: Section,
    /// The address of `.text`, if it is known: few entries are relative to it.
    pub text: Option<u64>,
    /// How long the image's addresses are.
    pub address_size: AddressSize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn missing_parts_are_found_wherever_a_range_touches_them() {
        let mut section =
            Section { address: 0x1000, bytes: vec![0; 64], missing: vec![32..40, 8..16, 12..20, 5..5] };
        section.normalise();
        assert_eq!(section.missing, [8..20, 32..40]);
        assert_eq!(section.lacks(0, 8), None);
        assert_eq!(section.lacks(0, 9), Some(0x1008));
        assert_eq!(section.lacks(10, 1), Some(0x100a));
        assert_eq!(section.lacks(20, 12), None);
        assert_eq!(section.lacks(20, u64::MAX), Some(0x1020));
        assert_eq!(section.lacks(40, u64::MAX), None);
    }

    #[test]
    fn numbers_end_with_the_bytes() {
        let section = Section::new(0, vec![1, 0, 0, 0, 2, 0, 0, 0, 0]);
        assert_eq!((section.u32_at(0), section.u32_at(5), section.u32_at(6)), (Some(1), Some(0), None));
        let long = Section::new(0, [vec![0xff; 4], vec![7, 0, 0, 0, 0, 0, 0, 0]].concat());
        assert_eq!(
            (section.entry_len(4), long.entry_len(0), long.entry_len(1)),
            (Some(2), Some(7), Some(0x07ff_ffff))
        );
        assert_eq!((long.entry_len(10), long.entry_len(u64::MAX)), (None, None));
        assert_eq!(
            (section.u64_at(1), section.u64_at(2), section.u32_at(u64::MAX)),
            (Some(2 << 24), None, None)
        );
    }
}
