//! The guest's memory by packets: `m` or `x` in pieces, several on their way, behind a cache of pages.

use std::collections::HashMap;

use vmc::{PhysAddr, PhysError, Region};

use crate::error::LinkError;
use crate::link::Link;
use crate::packet::unhex;

/// Bytes of a page of the cache.
pub(crate) const PAGE: u64 = 4096;
/// Pages that are kept: 64 MiB. One more, and all are forgotten.
const MAX_PAGES: usize = 1 << 14;
/// Reads of this many bytes and more go by the cache: who reads all memory reads each byte once.
const BULK: usize = 1 << 16;
/// The largest piece that is asked for.
const MAX_PIECE: usize = 1 << 15;
/// Pages that are read ahead.
const AHEAD: u64 = 15;
/// Pieces that are asked for together.
const MAX_BATCH: usize = 1 << 10;

const REFUSED: &str = "the stub does not read there";
const LOST: &str = "the connection to the stub is lost, or it did not answer";

/// A range to read, and where its bytes go.
struct Piece<'a> {
    addr: u64,
    bytes: &'a mut [u8],
    /// How many of them have come.
    done: usize,
    refused: bool,
}

/// Pages, and how to get more.
#[derive(Debug)]
pub(crate) struct Pages {
    pages: HashMap<u64, Box<[u8]>>,
    piece: usize,
    binary: bool,
}

impl Pages {
    /// `packet`: the longest packet in bytes, of which a byte of memory takes two; `binary`: are there `x` packets?
    pub(crate) fn new(packet: usize, binary: bool) -> Self {
        let half = (packet / 2).max(16);
        Self { pages: HashMap::new(), piece: (1 << half.ilog2()).min(MAX_PIECE), binary }
    }

    pub(crate) fn forget(&mut self) {
        self.pages.clear();
    }

    /// Fills `buf` from `addr` on. Without `link` only from what is there, and with `why` as the reason where it is not.
    pub(crate) fn read(
        &mut self,
        link: Result<&mut Link, &'static str>,
        regions: &[Region],
        addr: PhysAddr,
        buf: &mut [u8],
    ) -> Result<(), PhysError> {
        let outside = PhysError::NoMemory { addr, len: buf.len() };
        if !covers(regions, addr.get(), buf.len()) {
            return Err(outside);
        }
        if buf.len() >= BULK
            && let Ok(link) = link
        {
            let mut at = addr.get();
            for part in buf.chunks_mut(self.piece * MAX_BATCH) {
                let len = part.len() as u64;
                let mut pieces = cut(at, part, self.piece);
                self.fetch(link, &mut pieces)?;
                at += len;
            }
            return Ok(());
        }
        let Some(last) = (buf.len() as u64).checked_sub(1) else { return Ok(()) };
        let wanted = (addr.get() / PAGE)..=((addr.get() + last) / PAGE);
        let mut missing: Vec<u64> = wanted.filter(|page| !self.pages.contains_key(page)).collect();
        // Who goes on where the last page ended goes on further: the way to the stub is long, and many pages fit on it.
        if let (Some(&first), Some(&last)) = (missing.first(), missing.last())
            && first.checked_sub(1).is_some_and(|before| self.pages.contains_key(&before))
        {
            let ahead = (last + 1)..=(last + AHEAD);
            missing.extend(ahead.filter(|page| {
                !self.pages.contains_key(page) && covers(regions, page.saturating_mul(PAGE), PAGE as usize)
            }));
        }
        if !missing.is_empty() {
            let link = link.map_err(|reason| PhysError::Failed { addr, reason })?;
            if self.pages.len() + missing.len() > MAX_PAGES {
                // Those that are wanted now may be among them.
                self.pages.clear();
                return self.read(Ok(link), regions, addr, buf);
            }
            self.load(link, regions, &missing)?;
        }
        let mut at = addr.get();
        let mut rest = buf;
        while !rest.is_empty() {
            let page =
                self.pages.get(&(at / PAGE)).map(|page| page.get((at % PAGE) as usize..).unwrap_or_default());
            let page = page.filter(|page| !page.is_empty()).ok_or(outside)?;
            let (now, later) = rest.split_at_mut(page.len().min(rest.len()));
            now.copy_from_slice(page.get(..now.len()).unwrap_or_default());
            at += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    /// Reads ranges by the stub alone, all at once; the cache is not asked and stays as it is.
    pub(crate) fn samples(
        &self,
        link: &mut Link,
        addrs: &[PhysAddr],
        len: usize,
    ) -> Result<Vec<Box<[u8]>>, PhysError> {
        let mut samples: Vec<Box<[u8]>> = addrs.iter().map(|_| vec![0; len].into()).collect();
        let each = addrs.iter().zip(&mut samples);
        let mut pieces: Vec<Piece<'_>> =
            each.flat_map(|(addr, bytes)| cut(addr.get(), bytes, self.piece)).collect();
        self.fetch(link, &mut pieces)?;
        drop(pieces);
        Ok(samples)
    }

    /// Reads pages into the cache, what of them lies in `regions`; the rest of them is zeros.
    fn load(&mut self, link: &mut Link, regions: &[Region], numbers: &[u64]) -> Result<(), PhysError> {
        let mut pages: Vec<Box<[u8]>> = numbers.iter().map(|_| vec![0; PAGE as usize].into()).collect();
        let mut pieces = Vec::new();
        for (number, page) in numbers.iter().zip(&mut pages) {
            let start = number * PAGE;
            let mut rest: &mut [u8] = page;
            let mut at = start;
            for region in regions.iter().filter(|region| overlaps(region, start)) {
                let from = region.start.get().max(start);
                let to = region.end().get().min(start + PAGE);
                let (_, tail) = rest.split_at_mut_checked((from - at) as usize).unwrap_or_default();
                let (now, tail) = tail.split_at_mut_checked((to - from) as usize).unwrap_or_default();
                pieces.extend(cut(from, now, self.piece));
                (rest, at) = (tail, to);
            }
        }
        self.fetch(link, &mut pieces)?;
        drop(pieces);
        self.pages.extend(numbers.iter().copied().zip(pages));
        Ok(())
    }

    /// Reads pieces, many at a time.
    fn fetch(&self, link: &mut Link, pieces: &mut [Piece<'_>]) -> Result<(), PhysError> {
        let addr = PhysAddr::new(pieces.first().map_or(0, |piece| piece.addr));
        self.ask(link, pieces).map_err(|_| PhysError::Failed { addr, reason: LOST })?;
        for piece in pieces {
            // A stub may give less than it was asked for; what comes then has to be something.
            while piece.done < piece.bytes.len() && !piece.refused {
                let (before, at) = (piece.done, piece.addr + piece.done as u64);
                let mut rest = [Piece {
                    addr: at,
                    bytes: piece.bytes.get_mut(before..).unwrap_or_default(),
                    done: 0,
                    refused: false,
                }];
                let lost = self.ask(link, &mut rest).is_err();
                let [Piece { done, refused, .. }] = rest;
                if lost {
                    return Err(PhysError::Failed { addr: PhysAddr::new(at), reason: LOST });
                }
                piece.done += done;
                piece.refused = refused || done == 0;
            }
            if piece.refused {
                let addr = PhysAddr::new(piece.addr + piece.done as u64);
                return Err(PhysError::Failed { addr, reason: REFUSED });
            }
        }
        Ok(())
    }

    fn ask(&self, link: &mut Link, pieces: &mut [Piece<'_>]) -> Result<(), LinkError> {
        let letter = if self.binary { 'x' } else { 'm' };
        let questions: Vec<String> =
            pieces.iter().map(|piece| format!("{letter}{:x},{:x}", piece.addr, piece.bytes.len())).collect();
        let binary = self.binary;
        link.ask_all(
            questions.len(),
            &mut |at, out| out.extend_from_slice(questions.get(at).map_or(b"", |text| text.as_bytes())),
            &mut |at, answer| {
                if let Some(piece) = pieces.get_mut(at) {
                    piece.take(&answer, binary);
                }
                Ok(())
            },
        )
    }
}

impl Piece<'_> {
    /// Takes an answer: hexadecimal digits, or `b` and bytes.
    fn take(&mut self, answer: &[u8], binary: bool) {
        let digits;
        let bytes = match answer.split_first() {
            Some((b'b', bytes)) if binary => Some(bytes),
            Some(_) if !binary && answer.len().is_multiple_of(2) => {
                digits = unhex(answer);
                digits.as_deref()
            }
            _ => None,
        };
        // More than was asked for is nobody's answer.
        let place = bytes.and_then(|bytes| self.bytes.get_mut(..bytes.len()));
        match bytes.zip(place) {
            Some((bytes, place)) if !bytes.is_empty() => {
                place.copy_from_slice(bytes);
                (self.done, self.refused) = (bytes.len(), false);
            }
            _ => (self.done, self.refused) = (0, true),
        }
    }
}

/// A range in pieces that end at multiples of `size`.
fn cut(mut addr: u64, mut bytes: &mut [u8], size: usize) -> Vec<Piece<'_>> {
    let mut pieces = Vec::with_capacity(bytes.len() / size + 2);
    while !bytes.is_empty() {
        let until_end = size - (addr % size as u64) as usize;
        let (now, later) = bytes.split_at_mut(until_end.min(bytes.len()));
        let len = now.len() as u64;
        pieces.push(Piece { addr, bytes: now, done: 0, refused: false });
        addr += len;
        bytes = later;
    }
    pieces
}

fn overlaps(region: &Region, page: u64) -> bool {
    region.start.get() < page.saturating_add(PAGE) && region.end().get() > page
}

/// Do the regions, which ascend, have all of it?
pub(crate) fn covers(regions: &[Region], addr: u64, len: usize) -> bool {
    let Some(end) = addr.checked_add(len as u64) else { return false };
    let first = regions.partition_point(|region| region.end().get() <= addr);
    let mut at = addr;
    for region in regions.get(first..).unwrap_or_default() {
        if at >= end || region.start.get() > at {
            break;
        }
        at = region.end().get();
    }
    at >= end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: u64, len: u64) -> Region {
        Region { start: PhysAddr::new(start), len }
    }

    #[test]
    fn ranges_are_covered_across_regions_that_touch() {
        let regions = [region(0, 0x1000), region(0x1000, 0x1000), region(0x4000, 0x1000)];
        for (addr, len, expected) in [
            (0, 0x2000, true),
            (0xfff, 2, true),
            (0x1fff, 2, false),
            (0x2000, 1, false),
            (0x3fff, 2, false),
            (0x4000, 0x1000, true),
            (0x4001, 0x1000, false),
            (u64::MAX, 2, false),
        ] {
            assert_eq!(covers(&regions, addr, len), expected, "{addr:#x} {len:#x}");
        }
    }

    #[test]
    fn pieces_end_at_multiples_of_their_size() {
        let mut bytes = [0; 100];
        let pieces = cut(0x1f0, &mut bytes, 32);
        let shape: Vec<(u64, usize)> = pieces.iter().map(|piece| (piece.addr, piece.bytes.len())).collect();
        assert_eq!(shape, [(0x1f0, 16), (0x200, 32), (0x220, 32), (0x240, 20)]);
        assert_eq!(Pages::new(4096, false).piece, 2048);
        assert_eq!((Pages::new(131_104, false).piece, Pages::new(0, false).piece), (MAX_PIECE, 16));
    }

    #[test]
    fn answers_that_are_none_are_refusals() {
        let take = |answer: &[u8], binary| {
            let mut bytes = [0; 4];
            let mut piece = Piece { addr: 0, bytes: &mut bytes, done: 0, refused: false };
            piece.take(answer, binary);
            (piece.done, piece.refused, bytes)
        };
        assert_eq!(take(b"01020304", false), (4, false, [1, 2, 3, 4]));
        assert_eq!(take(b"0102", false), (2, false, [1, 2, 0, 0]));
        assert_eq!(take(b"b#$}*", true), (4, false, *b"#$}*"));
        for (answer, binary) in
            [(b"E14".as_slice(), false), (b"", false), (b"0102030405", false), (b"E14", true), (b"b", true)]
        {
            assert!(take(answer, binary).1, "{answer:?}");
        }
    }
}
