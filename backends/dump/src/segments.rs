//! Which part of the file holds which physical memory.

use std::collections::BTreeMap;

use vmc::{PhysAddr, PhysError, Region};

/// A run of physical memory and where it lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) start: PhysAddr,
    /// How long the image says that it is.
    pub(crate) len: u64,
    /// How much of it, from its start, the image says that the file holds; the rest was left out when it was made.
    pub(crate) held: u64,
    /// Where it begins in the file.
    pub(crate) offset: u64,
}

impl Segment {
    /// A segment of which the file holds everything.
    pub(crate) const fn whole(start: PhysAddr, len: u64, offset: u64) -> Self {
        Self { start, len, held: len, offset }
    }

    const fn end(&self) -> u64 {
        self.start.get().saturating_add(self.len)
    }

    /// What of it lies between the physical addresses `from` and `to`, which are in it.
    fn part(&self, from: u64, to: u64) -> Self {
        let skipped = from.saturating_sub(self.start.get());
        let len = to.saturating_sub(from);
        Self {
            start: PhysAddr::new(from),
            len,
            held: self.held.saturating_sub(skipped).min(len),
            offset: self.offset.saturating_add(skipped),
        }
    }

    /// Does `next` go on where it ends, in memory and in the file?
    fn goes_on_in(&self, next: &Self) -> bool {
        self.held == self.len
            && self.end() == next.start.get()
            && self.offset.checked_add(self.len) == Some(next.offset)
    }
}

/// The segments of a file, ascending, without overlap.
#[derive(Debug)]
pub(crate) struct Segments {
    segments: Vec<Segment>,
    stated: Vec<Region>,
    regions: Vec<Region>,
}

impl Segments {
    /// Sorts `segments` of a file of `file_len` bytes. Where two overlap the first in the file's order counts.
    pub(crate) fn new(segments: Vec<Segment>, file_len: u64) -> Self {
        let mut taken = BTreeMap::new();
        let mut parts: Vec<Segment> = Vec::with_capacity(segments.len());
        for segment in &segments {
            parts.extend(free_parts(&mut taken, segment));
        }
        parts.sort_by_key(|part| part.start);
        let mut kept: Vec<Segment> = Vec::with_capacity(parts.len());
        for part in parts {
            match kept.last_mut() {
                Some(last) if last.goes_on_in(&part) => {
                    last.len = last.len.saturating_add(part.len);
                    last.held = last.held.saturating_add(part.held);
                }
                _ => kept.push(part),
            }
        }
        let stated = kept.iter().map(|part| Region { start: part.start, len: part.len }).collect();
        // All together hold no more than the file has, whatever its headers say: who goes through all memory comes to an end.
        let mut left = file_len;
        let regions = kept.iter().filter_map(|part| {
            let len = part.held.min(file_len.saturating_sub(part.offset)).min(left);
            left -= len;
            (len > 0).then_some(Region { start: part.start, len })
        });
        let regions = regions.collect();
        Self { segments: kept, stated, regions }
    }

    /// What the file holds.
    pub(crate) fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// What the file's headers say that there is, be it in the file or not.
    pub(crate) fn stated(&self) -> &[Region] {
        &self.stated
    }

    /// The segment that `addr` lies in, and how far into it.
    fn at(&self, addr: PhysAddr) -> Option<(&Segment, u64)> {
        let behind = self.segments.partition_point(|segment| segment.start <= addr);
        let segment = behind.checked_sub(1).and_then(|at| self.segments.get(at))?;
        let into = addr.offset_from(segment.start)?;
        (into < segment.len).then_some((segment, into))
    }

    /// How many bytes the segment that `addr` lies in still has from there on.
    pub(crate) fn left(&self, addr: PhysAddr) -> Option<u64> {
        self.at(addr).map(|(segment, into)| segment.len - into)
    }

    /// As many of the `len` bytes at `addr`, in one segment, as `file` holds.
    pub(crate) fn held<'f>(&self, file: &'f [u8], addr: PhysAddr, len: usize) -> &'f [u8] {
        let Some((segment, into)) = self.at(addr) else { return &[] };
        let start = segment.offset.checked_add(into).and_then(|start| usize::try_from(start).ok());
        let rest = start.and_then(|start| file.get(start..)).unwrap_or_default();
        let held = usize::try_from(segment.held.saturating_sub(into)).unwrap_or(usize::MAX);
        rest.get(..len.min(held).min(rest.len())).unwrap_or_default()
    }

    /// The `len` bytes at `addr`, in one segment of `file`.
    pub(crate) fn slice<'f>(
        &self,
        file: &'f [u8],
        addr: PhysAddr,
        len: usize,
    ) -> Result<&'f [u8], PhysError> {
        let missing = PhysError::NoMemory { addr, len };
        let (segment, into) = self.at(addr).ok_or(missing)?;
        let last = into.checked_add(len as u64).ok_or(missing)?;
        if last > segment.len {
            return Err(missing);
        }
        if last > segment.held {
            return Err(PhysError::Failed { addr, reason: "the image was made without it" });
        }
        let cut = PhysError::CutOff { addr, len };
        let start =
            segment.offset.checked_add(into).and_then(|start| usize::try_from(start).ok()).ok_or(cut)?;
        let end = start.checked_add(len).ok_or(cut)?;
        file.get(start..end).ok_or(cut)
    }

    /// Fills `buf` from `addr` on, across the borders of segments that touch.
    pub(crate) fn read(&self, file: &[u8], addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        if let Ok(bytes) = self.slice(file, addr, buf.len()) {
            buf.copy_from_slice(bytes);
            return Ok(());
        }
        let mut at = addr;
        let mut rest = buf;
        loop {
            let here = self.at(at).map_or(u64::MAX, |(segment, into)| segment.len - into);
            let count = usize::try_from(here).unwrap_or(usize::MAX).min(rest.len());
            let Some((part, behind)) = rest.split_at_mut_checked(count) else { return Ok(()) };
            part.copy_from_slice(self.slice(file, at, count)?);
            if behind.is_empty() {
                return Ok(());
            }
            let next = at.checked_add(count as u64);
            at = next.ok_or(PhysError::NoMemory { addr: at, len: count })?;
            rest = behind;
        }
    }
}

/// The parts of `segment` that no segment before it has; from now on they are taken. `taken` has starts and ends, disjoint.
fn free_parts(taken: &mut BTreeMap<u64, u64>, segment: &Segment) -> Vec<Segment> {
    let (start, end) = (segment.start.get(), segment.end());
    if start >= end {
        return Vec::new();
    }
    let before = taken.range(..end).rev().map(|(start, end)| (*start, *end));
    let mut met: Vec<(u64, u64)> = before.take_while(|(_, end)| *end > start).collect();
    met.reverse();
    let mut parts = Vec::new();
    let mut from = start;
    for (first, behind) in &met {
        if from < *first {
            parts.push(segment.part(from, *first));
        }
        from = from.max(*behind);
        taken.remove(first);
    }
    if from < end {
        parts.push(segment.part(from, end));
    }
    let first = met.first().map_or(start, |(first, _)| start.min(*first));
    taken.insert(first, from.max(end));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(start: u64, len: u64, offset: u64) -> Segment {
        Segment::whole(PhysAddr::new(start), len, offset)
    }

    fn places(segments: &Segments) -> Vec<(u64, u64, u64)> {
        segments.segments.iter().map(|part| (part.start.get(), part.len, part.offset)).collect()
    }

    #[test]
    fn holes_and_cut_files_are_told_apart() {
        let segments = Segments::new(vec![segment(0x2000, 0x10, 4), segment(0, 4, 0)], 8);
        let file = [0, 1, 2, 3, 4, 5, 6, 7];
        assert_eq!(segments.slice(&file, PhysAddr::new(0x2001), 3), Ok(&[5, 6, 7][..]));
        let (addr, len) = (PhysAddr::new(0x2002), 3);
        assert_eq!(segments.slice(&file, addr, len), Err(PhysError::CutOff { addr, len }));
        for outside in [2, 0x1fff, 0x200f, u64::MAX] {
            let addr = PhysAddr::new(outside);
            assert_eq!(segments.slice(&file, addr, 4), Err(PhysError::NoMemory { addr, len: 4 }));
        }
        let held: u64 = segments.regions().iter().map(|region| region.len).sum();
        let stated: u64 = segments.stated().iter().map(|region| region.len).sum();
        assert_eq!((held, stated), (8, 20));
    }

    #[test]
    fn of_overlapping_segments_the_first_counts_and_the_rest_stays() {
        let segments = vec![segment(8, 8, 100), segment(0, 32, 200), segment(4, 8, 300), segment(30, 4, 400)];
        let segments = Segments::new(segments, 1000);
        assert_eq!(places(&segments), [(0, 8, 200), (8, 8, 100), (16, 16, 216), (32, 2, 402)]);
    }

    #[test]
    fn reads_go_on_into_the_next_segment_and_end_at_a_hole() {
        let segments = Segments::new(vec![segment(0, 4, 4), segment(4, 4, 0)], 8);
        let file = [4, 5, 6, 7, 0, 1, 2, 3];
        let mut buf = [0; 8];
        segments.read(&file, PhysAddr::new(0), &mut buf).unwrap();
        assert_eq!(buf, [0, 1, 2, 3, 4, 5, 6, 7]);
        let mut buf = [0; 8];
        let (addr, len) = (PhysAddr::new(8), 2);
        assert_eq!(segments.read(&file, PhysAddr::new(2), &mut buf), Err(PhysError::NoMemory { addr, len }));
    }

    #[test]
    fn what_was_left_out_is_neither_zero_nor_a_hole() {
        let part = Segment { start: PhysAddr::new(0), len: 16, held: 8, offset: 0 };
        let segments = Segments::new(vec![part], 100);
        assert_eq!(segments.regions(), [Region { start: PhysAddr::new(0), len: 8 }]);
        let why = segments.slice(&[0; 100], PhysAddr::new(6), 4).unwrap_err();
        assert!(matches!(why, PhysError::Failed { .. }), "{why}");
    }

    #[test]
    fn headers_cannot_make_more_memory_than_the_file_has() {
        let many = (0..1000).map(|n| segment(n << 40, 1 << 40, 0)).collect();
        let segments = Segments::new(many, 4096);
        assert_eq!(segments.regions().iter().map(|region| region.len).sum::<u64>(), 4096);
        let huge = Segments::new(vec![segment(u64::MAX - 10, u64::MAX, u64::MAX)], 4096);
        assert_eq!(huge.regions(), []);
        assert!(huge.slice(&[0; 100], PhysAddr::new(u64::MAX - 4), 4).is_err());
    }
}
