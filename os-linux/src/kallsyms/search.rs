//! Finding the tables by their content, where nothing tells where they lie.
//!
//! Source: `write_src()` in `scripts/kallsyms.c`. The anchor is the table of tokens: those of the digits stand for themselves,
//! one after the other, in every kernel. Behind it lies the index, which has to fit it word by word; before it lie the
//! names, in front of which their number stands, and behind which the markers (where every 256th name begins) have to fit
//! them. The offsets lie before the number (until 6.3) or behind the index (since 6.4), the base that they count from
//! behind them. Words were aligned to 8 bytes, on some architectures to 256 (`.align 8`) until 5.x.

use alloc::vec::Vec;

use memchr::memmem;
use vmc::bytes::{cstr_at, u16_at, u32_at, u64_at};
use vmc::{AddressSpace, Limits, VirtAddr};

use super::names::Names;
use crate::image::Image;

/// The tokens '0' to '9'.
const DIGITS: &[u8; 20] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00";
/// How many bytes of names and markers may lie before the tokens: a quarter of a million names have some 4 MiB.
const NAMES_BYTES: usize = 32 << 20;
/// Names that are looked at closely before all are gone through.
const CLOSE_LOOK: usize = 24;
/// How tables are aligned.
const ALIGNMENTS: [usize; 2] = [8, 256];
/// Tables of tokens that are looked at: copies of them are rare.
const ANCHORS: usize = 64;

/// Where the tables are.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) tokens: Vec<Vec<u8>>,
    pub(super) count: usize,
    pub(super) names: VirtAddr,
    pub(super) names_len: usize,
    /// Where the offsets may be, with what may be their base.
    pub(super) offsets: Vec<(VirtAddr, Option<u64>)>,
}

/// What one search may still go through.
#[derive(Debug)]
struct Budget {
    /// Names; of those that are looked at closely, bytes.
    names: usize,
    /// No table has more symbols.
    symbols: usize,
}

impl Budget {
    const fn of(limits: &Limits) -> Self {
        Self { names: limits.searched_symbols, symbols: limits.symbols }
    }

    /// Nothing where that is more than is left; then nothing is left.
    fn spend(&mut self, names: usize) -> Option<()> {
        let left = self.names.checked_sub(names);
        self.names = left.unwrap_or(0);
        left.map(|_| ())
    }
}

/// All tables in the kernel's image that fit together.
pub(super) fn search(space: &AddressSpace<'_>, image: &Image, limits: &Limits) -> Vec<Tables> {
    let mut found = Vec::new();
    let mut budget = Budget::of(limits);
    for (start, len) in image.stretches() {
        let bytes = Image::bytes(space, start, len);
        for anchor in memmem::find_iter(&bytes, DIGITS).take(ANCHORS) {
            found.extend(tables_at(&bytes, anchor, start, &mut budget));
        }
    }
    found
}

/// The tables whose token '0' is at `anchor`.
fn tables_at(bytes: &[u8], anchor: usize, start: VirtAddr, budget: &mut Budget) -> Option<Tables> {
    let (tokens, table, index) = tokens_at(bytes, anchor)?;
    let names = names_before(bytes, table, &tokens, budget)?;
    let at = |place: usize| start.wrapping_add(place as u64);
    let size = names.count.checked_mul(4)?;
    let mut offsets = Vec::new();
    for align in ALIGNMENTS {
        // Before the number of names: the offsets, their base.
        if let Some(base) = names.number.checked_sub(align)
            && let Some(place) = base.checked_sub(size.next_multiple_of(align))
        {
            offsets.push((at(place), u64_at(bytes, base)));
        }
        // Behind the index: the offsets, their base; or the offsets alone.
        let place = (index + 512).next_multiple_of(align);
        let base = (place + size).next_multiple_of(align);
        offsets.push((at(place), u64_at(bytes, base)));
    }
    offsets.dedup();
    let NameTable { count, place, len, .. } = names;
    Some(Tables { tokens, count, names: at(place), names_len: len, offsets })
}

/// The tokens, where their table begins, and where the index begins.
fn tokens_at(bytes: &[u8], anchor: usize) -> Option<(Vec<Vec<u8>>, usize, usize)> {
    // From '0' on to the end.
    let mut end = anchor;
    for _ in usize::from(b'0')..256 {
        end += cstr_at(bytes, end).filter(|token| token.len() < 512)?.len() + 1;
    }
    let index = (end..end + 512).filter(|place| place % 2 == 0).find(|index| {
        let digit = |digit: usize| u16_at(bytes, index + 2 * (usize::from(b'0') + digit)).map(usize::from);
        let first = digit(0).unwrap_or(0);
        u16_at(bytes, *index) == Some(0)
            && first >= usize::from(b'0')
            && (1..10).all(|number| digit(number) == Some(first + 2 * number))
    })?;
    let table = anchor.checked_sub(usize::from(u16_at(bytes, index + 2 * usize::from(b'0'))?))?;
    let mut tokens = Vec::with_capacity(256);
    let mut at = table;
    for number in 0..256 {
        if usize::from(u16_at(bytes, index + 2 * number)?) != at - table {
            return None;
        }
        let token = cstr_at(bytes, at)?;
        at += token.len() + 1;
        tokens.push(token.to_vec());
    }
    Some((tokens, table, index))
}

/// The table of names.
struct NameTable {
    count: usize,
    /// Where the number of names stands.
    number: usize,
    place: usize,
    len: usize,
}

/// The names that lie before `table`, by their number in front of them and the markers behind.
fn names_before(bytes: &[u8], table: usize, tokens: &[Vec<u8>], budget: &mut Budget) -> Option<NameTable> {
    let lowest = table.saturating_sub(NAMES_BYTES).next_multiple_of(8);
    let area = bytes.get(..table)?;
    let mut place = (table & !7).checked_sub(8)?;
    while place >= lowest.max(8) {
        for align in ALIGNMENTS {
            let Some(number) = place.checked_sub(align) else { continue };
            let count = u64_at(bytes, number).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
            // No name has less than two bytes.
            if count == 0 || count > budget.symbols || count > (table - place) / 2 {
                continue;
            }
            if let Some(len) = names_fit(area, place, count, tokens, budget) {
                return Some(NameTable { count, number, place, len });
            }
        }
        if budget.names == 0 {
            return None;
        }
        place -= 8;
    }
    None
}

/// Are there `count` names at `place`, with markers behind them? Then how many bytes they take.
fn names_fit(
    area: &[u8],
    place: usize,
    count: usize,
    tokens: &[Vec<u8>],
    budget: &mut Budget,
) -> Option<usize> {
    let packed = area.get(place..)?;
    let mut text = Vec::new();
    for name in Names::new(packed, tokens, count.min(CLOSE_LOOK)) {
        let whole = name.expand(&mut text);
        budget.spend(1 + text.len())?;
        whole?;
        let (kind, name) = text.split_first()?;
        let plausible = kind.is_ascii_alphabetic() || *kind == b'?';
        if !plausible || name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
            return None;
        }
    }
    let mut names = Names::new(packed, tokens, count);
    let mut markers = Vec::with_capacity(count / 256 + 1);
    loop {
        markers.push(packed.len() - names.rest().len());
        let left = count - (markers.len() - 1) * 256;
        if left <= 256 {
            budget.spend(left)?;
            names.nth(left - 1)?;
            break;
        }
        budget.spend(256)?;
        names.nth(255)?;
    }
    let len = packed.len() - names.rest().len();
    let fit = |at: usize, size: usize| {
        markers.iter().enumerate().all(|(number, marker)| {
            let word = at.checked_add(number * size);
            let told = word.and_then(|word| match size {
                4 => u32_at(area, word).map(u64::from),
                _ => u64_at(area, word),
            });
            told == Some(*marker as u64)
        })
    };
    let ends = ALIGNMENTS.map(|align| (place + len).next_multiple_of(align));
    ends.iter().any(|end| fit(*end, 4) || fit(*end, 8)).then_some(len)
}

#[cfg(test)]
mod tests;
