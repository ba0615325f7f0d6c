//! LiME images: runs of physical memory one after the other, each behind a header of 32 bytes.
//!
//! Source: LiME's `doc/README.md` ("Spec"): magic 0x4C694D45, version 1, first address, last address (inclusive), eight
//! bytes that are zero; all little-endian. LiME's padded form has no headers: it is a raw image. AVML's headers are the
//! same with a magic and a version of their own.

use vmc::PhysAddr;
use vmc::bytes::{u32_at, u64_at};

use crate::segments::Segment;

/// The magic of a range, as it stands in the file.
pub(crate) const MAGIC: [u8; 4] = *b"EMiL";
/// The bytes of a header.
pub(crate) const HEADER: usize = 32;
/// What the reserved bytes hold in the files that AVML images are unpacked to.
pub(crate) const FROM_AVML: u64 = u32::from_le_bytes(*b"AVML") as u64;

/// More ranges than any machine has, AVML's of 16 MiB on the largest machine included.
const MOST_RANGES: usize = 1 << 22;
/// No machine has physical addresses of more bits.
const ADDRESS_BITS: u32 = 52;

/// A range's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) start: u64,
    pub(crate) len: u64,
    pub(crate) reserved: u64,
}

impl Header {
    /// The header in `bytes`, if it has this magic and version and describes memory that a machine can have.
    pub(crate) fn parse(bytes: &[u8], magic: [u8; 4], version: u32) -> Option<Self> {
        let (start, last) = (u64_at(bytes, 8)?, u64_at(bytes, 16)?);
        let known = u32_at(bytes, 0)? == u32::from_le_bytes(magic) && u32_at(bytes, 4)? == version;
        if !known || start > last || last >> ADDRESS_BITS != 0 {
            return None;
        }
        Some(Self { start, len: last - start + 1, reserved: u64_at(bytes, 24)? })
    }

    /// The header as it stands in a LiME file.
    pub(crate) fn bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let (magic, rest) = bytes.split_at_mut(8);
        magic.copy_from_slice(&(u64::from(u32::from_le_bytes(MAGIC)) | 1 << 32).to_le_bytes());
        let last = self.start.saturating_add(self.len).saturating_sub(1);
        for (slot, word) in rest.chunks_exact_mut(8).zip([self.start, last, self.reserved]) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// What a LiME file says.
#[derive(Debug)]
pub(crate) struct Ranges {
    pub(crate) segments: Vec<Segment>,
    pub(crate) warnings: Vec<String>,
    /// Was the file made here, out of an AVML image?
    pub(crate) from_avml: bool,
}

/// Reads the ranges in `file`; nothing where not even the first is one.
pub(crate) fn parse(file: &[u8]) -> Option<Ranges> {
    let mut ranges = Ranges { segments: Vec::new(), warnings: Vec::new(), from_avml: false };
    let mut at = 0;
    while let Some(rest) = file.get(at..).filter(|rest| !rest.is_empty()) {
        let header = Header::parse(rest, MAGIC, 1).filter(|_| ranges.segments.len() < MOST_RANGES);
        let Some(header) = header else {
            let have = rest.len();
            let warning = if have < HEADER {
                format!("the image ends within a range's header, {have} bytes behind the last range")
            } else {
                format!("no range's header at {at:#x}: the last {have} bytes of the image are left out")
            };
            ranges.warnings.push(warning);
            break;
        };
        ranges.from_avml |= header.reserved == FROM_AVML;
        let offset = at as u64 + HEADER as u64;
        ranges.segments.push(Segment::whole(PhysAddr::new(header.start), header.len, offset));
        let end = offset.saturating_add(header.len);
        if end > file.len() as u64 {
            ranges.warnings.push(format!(
                "the image is cut short: its last range ends at byte {end}, the file has {}",
                file.len()
            ));
            break;
        }
        at = usize::try_from(end).ok()?;
    }
    (!ranges.segments.is_empty()).then_some(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, bytes: &[u8]) -> Vec<u8> {
        let mut image = Vec::new();
        image.extend(0x4c69_4d45_u32.to_le_bytes());
        image.extend(1u32.to_le_bytes());
        image.extend(start.to_le_bytes());
        image.extend((start + bytes.len() as u64 - 1).to_le_bytes());
        image.extend([0; 8]);
        image.extend(bytes);
        image
    }

    #[test]
    fn ranges_follow_one_another() {
        let image = [range(0x1000, &[1; 100]), range(0x10_0000, &[2; 50])].concat();
        let ranges = parse(&image).unwrap();
        let [one, two] = [(0x1000, 100, 32), (0x10_0000, 50, 164)]
            .map(|(start, len, offset)| Segment::whole(PhysAddr::new(start), len, offset));
        assert_eq!((ranges.segments, ranges.warnings.len(), ranges.from_avml), (vec![one, two], 0, false));
    }

    #[test]
    fn a_header_is_written_as_it_is_read() {
        let header = Header { start: 0x1000, len: 0x2_0000, reserved: 0 };
        assert_eq!(header.bytes(), range(0x1000, &[0; 0x2_0000])[..32]);
        assert_eq!(Header::parse(&header.bytes(), MAGIC, 1), Some(header));
    }

    #[test]
    fn wherever_it_is_cut_the_rest_is_told() {
        let image = [range(0x1000, &[1; 100]), range(0x10_0000, &[2; 50])].concat();
        for len in 0..image.len() {
            match parse(&image[..len]) {
                None => assert!(len < 32),
                // Between the two ranges nothing tells that there was more.
                Some(ranges) => assert_eq!(ranges.warnings.is_empty(), len == 132, "{len}"),
            }
        }
    }

    #[test]
    fn ranges_that_no_machine_has_are_none() {
        let mut image = range(0x1000, &[1; 100]);
        for (start, last) in [(0x2000u64, 0x1fffu64), (0, u64::MAX), (1 << 52, (1 << 52) + 1)] {
            image[8..16].copy_from_slice(&start.to_le_bytes());
            image[16..24].copy_from_slice(&last.to_le_bytes());
            assert!(parse(&image).is_none());
        }
    }
}
