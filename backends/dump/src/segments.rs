//! Which part of the file holds which physical memory.

use vmc::{PhysAddr, PhysError, Region};

/// A run of physical memory and where it lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) start: PhysAddr,
    /// How long the image says that it is.
    pub(crate) len: u64,
    /// Where it begins in the file.
    pub(crate) offset: u64,
}

/// The segments of a file, ascending, without overlap.
#[derive(Debug)]
pub(crate) struct Segments {
    segments: Vec<Segment>,
    regions: Vec<Region>,
}

impl Segments {
    /// Sorts `segments`. Of two that overlap the first in the file's order counts.
    pub(crate) fn new(segments: Vec<Segment>) -> Self {
        let mut kept: Vec<Segment> = Vec::with_capacity(segments.len());
        for segment in segments {
            let end = segment.start.get().saturating_add(segment.len);
            let free = kept.iter().all(|other| {
                end <= other.start.get() || other.start.get().saturating_add(other.len) <= segment.start.get()
            });
            if free && segment.len > 0 {
                kept.push(segment);
            }
        }
        kept.sort_by_key(|segment| segment.start);
        let regions = kept.iter().map(|s| Region { start: s.start, len: s.len }).collect();
        Self { segments: kept, regions }
    }

    pub(crate) fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The `len` bytes at `addr`, in one segment of `file`.
    pub(crate) fn slice<'f>(
        &self,
        file: &'f [u8],
        addr: PhysAddr,
        len: usize,
    ) -> Result<&'f [u8], PhysError> {
        let missing = PhysError::NoMemory { addr, len };
        let behind = self.segments.partition_point(|segment| segment.start <= addr);
        let segment = behind.checked_sub(1).and_then(|at| self.segments.get(at)).ok_or(missing)?;
        let into = addr.offset_from(segment.start).ok_or(missing)?;
        if into.checked_add(len as u64).is_none_or(|end| end > segment.len) {
            return Err(missing);
        }
        let cut = PhysError::CutOff { addr, len };
        let start =
            segment.offset.checked_add(into).and_then(|start| usize::try_from(start).ok()).ok_or(cut)?;
        let end = start.checked_add(len).ok_or(cut)?;
        file.get(start..end).ok_or(cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(start: u64, len: u64, offset: u64) -> Segment {
        Segment { start: PhysAddr::new(start), len, offset }
    }

    #[test]
    fn holes_and_cut_files_are_told_apart() {
        let segments = Segments::new(vec![segment(0x2000, 0x10, 4), segment(0, 4, 0)]);
        let file = [0, 1, 2, 3, 4, 5, 6, 7];
        assert_eq!(segments.slice(&file, PhysAddr::new(0x2001), 3), Ok(&[5, 6, 7][..]));
        let (addr, len) = (PhysAddr::new(0x2002), 3);
        assert_eq!(segments.slice(&file, addr, len), Err(PhysError::CutOff { addr, len }));
        for outside in [2, 0x1fff, 0x200f, u64::MAX] {
            let addr = PhysAddr::new(outside);
            assert_eq!(segments.slice(&file, addr, 4), Err(PhysError::NoMemory { addr, len: 4 }));
        }
    }

    #[test]
    fn overlapping_segments_do_not_shadow_each_other() {
        let segments = Segments::new(vec![segment(0, 8, 0), segment(4, 8, 100), segment(8, 4, 8)]);
        let starts: Vec<u64> = segments.regions().iter().map(|region| region.start.get()).collect();
        assert_eq!(starts, [0, 8]);
    }
}
