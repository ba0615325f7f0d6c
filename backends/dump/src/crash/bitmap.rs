//! Dumps with a bitmap: a second header, a bit for each physical page, and behind it the pages whose bits are set, ascending.
//!
//! Source: kdmp-parser's description of `BMP_HEADER64`, volatility3's `_SUMMARY_DUMP64`: at 0x2000 `SDMP` or `FDMP`, `DUMP`; at 0x2020 where
//! in the file the first page lies, how many pages there are, how many bits the bitmap has; at 0x2038 the bitmap.

use vmc::bytes::u64_at;

use super::header::{Header, MOST_PAGES, SIZE, page_start};
use super::runs::cut;
use crate::segments::Segment;

const BITMAP: usize = SIZE + 0x38;
/// Runs of pages behind the end of a file that was cut that are still told from memory that there never was.
const MOST_CUT_RUNS: usize = 1 << 14;

/// The runs of pages that the bitmap tells; behind them, held by nothing, those of physical memory that were left out.
pub(crate) fn pages(header: &Header<'_>, warnings: &mut Vec<String>) -> Result<Vec<Segment>, String> {
    let file = header.file;
    let magic = file.get(SIZE..).unwrap_or_default();
    if !magic.starts_with(b"SDMPDUMP") && !magic.starts_with(b"FDMPDUMP") {
        return Err("no bitmap of pages (SDMP, FDMP) follows its header".to_owned());
    }
    let word = |at| u64_at(file, SIZE + at).ok_or("the header of its bitmap is cut off");
    let (first, counted, bits) = (word(0x20)?, word(0x28)?, word(0x30)?);
    if bits == 0 || bits > MOST_PAGES {
        return Err(format!("a bitmap of {bits:#x} pages is none that a machine has"));
    }
    let bytes = bits.div_ceil(8);
    let end = BITMAP as u64 + bytes;
    if first < end {
        return Err(format!("its first page lies at {first:#x}, within its bitmap, which ends at {end:#x}"));
    }
    let bitmap = usize::try_from(end).ok().and_then(|end| file.get(BITMAP..end));
    let bitmap = bitmap.ok_or_else(|| format!("its bitmap of {bytes} bytes is cut off"))?;

    let len = file.len() as u64;
    let mut segments = Vec::new();
    let (mut found, mut cut_runs) = (0u64, 0);
    for (page, count) in Runs::new(bitmap, bits) {
        let offset = first.saturating_add(found << 12);
        found += count;
        if offset >= len {
            cut_runs += 1;
            if cut_runs > MOST_CUT_RUNS {
                continue;
            }
        }
        segments.push(Segment::whole(page_start(page), count << 12, offset));
    }
    if found != counted {
        warnings.push(format!(
            "the header counts {counted} pages, its bitmap has {found}: the bitmap is believed"
        ));
    }
    cut(header, first.saturating_add(found << 12), warnings);
    // What the machine had beyond that. The block is often not filled in; where it is wrong the bitmap still holds.
    match header.runs() {
        Ok(Some((runs, _))) => segments.extend(runs.iter().map(|run| Segment {
            start: page_start(run.first),
            len: run.count << 12,
            held: 0,
            offset: 0,
        })),
        Ok(None) => {}
        Err(why) => warnings.push(format!("{why}: they are left out")),
    }
    Ok(segments)
}

/// The runs of set bits: first bit and count.
struct Runs<'b> {
    bitmap: &'b [u8],
    bits: u64,
    at: u64,
}

impl<'b> Runs<'b> {
    const fn new(bitmap: &'b [u8], bits: u64) -> Self {
        Self { bitmap, bits, at: 0 }
    }

    /// The first bit from `at` on that is `set`, at most the bitmap's end.
    fn next_that_is(&self, set: bool, at: u64) -> u64 {
        let flip = if set { 0 } else { u64::MAX };
        let mut at = at;
        while at < self.bits {
            let byte = (at / 64 * 8) as usize;
            let rest = self.bitmap.get(byte..).unwrap_or_default();
            let mut word = [0; 8];
            rest.iter().zip(&mut word).for_each(|(from, to)| *to = *from);
            let word = (u64::from_le_bytes(word) ^ flip) >> (at % 64);
            if word != 0 {
                return (at + u64::from(word.trailing_zeros())).min(self.bits);
            }
            at = (at / 64 + 1) * 64;
        }
        self.bits
    }
}

impl Iterator for Runs<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let first = self.next_that_is(true, self.at);
        if first >= self.bits {
            self.at = self.bits;
            return None;
        }
        self.at = self.next_that_is(false, first);
        Some((first, self.at - first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_those_of_single_bits() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for bits in (1..200).chain([1000, 4096, 4097]) {
            let mut bitmap = Vec::new();
            while bitmap.len() < usize::div_ceil(bits, 8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // Long runs among them.
                bitmap.extend([state as u8 | 1, 0xff, 0, (state >> 8) as u8]);
            }
            bitmap.truncate(bits.div_ceil(8));
            let set: Vec<u64> =
                (0..bits as u64).filter(|bit| bitmap[*bit as usize / 8] >> (bit % 8) & 1 == 1).collect();
            let runs: Vec<(u64, u64)> = Runs::new(&bitmap, bits as u64).collect();
            assert_eq!(runs.iter().flat_map(|(first, count)| *first..first + count).collect::<Vec<_>>(), set);
            assert!(runs.windows(2).all(|pair| pair[0].0 + pair[0].1 < pair[1].0));
        }
    }
}
