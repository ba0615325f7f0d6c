//! Going through memory for a pattern: window by window, several at a time, lent where the backend lends it.

use rayon::prelude::*;
use vmc::memory::lend_or_read;
use vmc::{AddressSpace, PhysAddr, PhysMemory, ReadExt, VirtAddr, VirtualMemory};

use super::pattern::Pattern;

/// What is searched at once by one thread.
const WINDOW: u64 = 4 << 20;
/// How much of a window is gone through at once: what one match may cost, with the pattern's reach.
const STRIDE: usize = 16 << 10;
/// How many windows are handed out at once.
const BATCH: usize = 64;

/// Memory that is searched, by its own addresses.
#[derive(Clone, Copy)]
pub(super) enum Memory<'m> {
    Physical(&'m dyn PhysMemory),
    Virtual(&'m AddressSpace<'m>),
}

/// Memory without a hole in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) len: u64,
}

/// A match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) at: u64,
    pub(super) len: usize,
}

/// A part of a run: matches that begin in it are its own.
struct Window {
    start: u64,
    own: usize,
    /// Bytes of the run before it, and behind it.
    before: usize,
    behind: usize,
}

impl<'m> Memory<'m> {
    /// The `len` bytes at `at`, where all of them are there.
    pub(super) fn lend<'b>(&'b self, at: u64, len: usize, buffer: &'b mut Vec<u8>) -> Option<&'b [u8]> {
        match self {
            Self::Physical(memory) => lend_or_read(*memory, PhysAddr::new(at), len, buffer).ok(),
            Self::Virtual(space) => {
                if let Some(lent) = space.slice(VirtAddr::new(at), len) {
                    return Some(lent);
                }
                buffer.resize(len, 0);
                space.read(VirtAddr::new(at), buffer).ok()?;
                Some(buffer)
            }
        }
    }

    /// Up to `most` bytes before `at`, or less where there are not so many in its page.
    pub(super) fn before(&self, at: u64, most: usize) -> Vec<u8> {
        let mut buffer = Vec::new();
        let in_page = (at % 4096) as usize;
        let lens = [most, most.min(in_page)];
        let mut tries = lens
            .into_iter()
            .filter_map(|len| self.lend(at.checked_sub(len as u64)?, len, &mut buffer).map(<[u8]>::to_vec));
        tries.next().unwrap_or_default()
    }

    /// Up to `most` bytes at `at`, as far as memory goes.
    pub(super) fn from(&self, at: u64, most: usize) -> Vec<u8> {
        match self {
            Self::Virtual(space) => space.read_part(VirtAddr::new(at), most).0,
            Self::Physical(_) => {
                let mut buffer = Vec::new();
                let in_page = 4096 - (at % 4096) as usize;
                if let Some(all) = self.lend(at, most, &mut buffer) {
                    return all.to_vec();
                }
                self.lend(at, most.min(in_page), &mut buffer).unwrap_or_default().to_vec()
            }
        }
    }
}

/// Runs that touch are one.
pub(super) fn joined(runs: impl Iterator<Item = Run>) -> impl Iterator<Item = Run> {
    let mut runs = runs.peekable();
    std::iter::from_fn(move || {
        let mut run = runs.next()?;
        while let Some(next) = runs.next_if(|next| run.start.checked_add(run.len) == Some(next.start)) {
            run.len = run.len.saturating_add(next.len);
        }
        Some(run)
    })
}

fn windows(run: Run, reach: usize) -> impl Iterator<Item = Window> {
    let end = run.start.saturating_add(run.len);
    (0..run.len).step_by(WINDOW as usize).map(move |into| {
        let start = run.start + into;
        let own = WINDOW.min(end - start);
        let behind = (end - start - own).min(reach as u64) as usize;
        Window { start, own: own as usize, before: usize::from(into > 0), behind }
    })
}

/// The first `most` matches of `pattern` in `runs`, ascending; matches that overlap are all told,
/// but for those of regular expressions.
pub(super) fn search(
    memory: Memory<'_>,
    runs: impl Iterator<Item = Run>,
    pattern: &Pattern,
    most: usize,
    mut told: impl FnMut(u64),
) -> Vec<Found> {
    let mut windows = joined(runs).flat_map(|run| windows(run, pattern.reach));
    let mut found: Vec<Found> = Vec::new();
    let mut done = 0u64;
    while found.len() < most {
        let batch: Vec<Window> = windows.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        let left = most - found.len();
        let parts: Vec<Vec<Found>> =
            batch.par_iter().map(|window| in_window(memory, window, pattern, left, None)).collect();
        for (window, mut part) in batch.iter().zip(parts) {
            // A match of the window before may reach into this one.
            let last = found.last().filter(|_| !pattern.overlaps);
            if let (Some(last), Some(first)) = (last, part.first())
                && let end = last.at.saturating_add(last.len as u64)
                && first.at < end
            {
                part = in_window(memory, window, pattern, left, Some(end));
            }
            found.extend(part.into_iter().take(most - found.len()));
        }
        done += batch.iter().map(|window| window.own as u64).sum::<u64>();
        told(done);
    }
    found
}

/// The matches that begin in `window`, and not before `from`.
fn in_window(
    memory: Memory<'_>,
    window: &Window,
    pattern: &Pattern,
    most: usize,
    from: Option<u64>,
) -> Vec<Found> {
    let mut buffer = Vec::new();
    let start = window.start - window.before as u64;
    let bytes = memory.lend(start, window.before + window.own + window.behind, &mut buffer);
    let bytes = bytes.unwrap_or_default();
    let mut found = Vec::new();
    let mut at = from.and_then(|from| usize::try_from(from.checked_sub(start)?).ok()).unwrap_or(0);
    at = at.max(window.before);
    let end = (window.before + window.own).min(bytes.len());
    while at < end && found.len() < most {
        // An expression may go on to the end of what it is given for each of its matches.
        let behind = at.saturating_add(STRIDE).min(end);
        let piece = bytes.get(..behind.saturating_add(pattern.reach)).unwrap_or(bytes);
        let Some(next) = pattern.regex.find_at(piece, at).filter(|next| next.start() < behind) else {
            at = behind;
            continue;
        };
        if !next.is_empty() {
            found.push(Found { at: start + next.start() as u64, len: next.len() });
        }
        at = if pattern.overlaps { next.start() + 1 } else { next.end().max(next.start() + 1) };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::SearchFor;
    use vmc::FlatMemory;

    #[test]
    fn matches_across_windows_are_found_once() {
        let mut ram = vec![0u8; 3 * WINDOW as usize];
        let places = [0, 100, WINDOW as usize - 3, 2 * WINDOW as usize, 3 * WINDOW as usize - 6];
        for at in places {
            ram[at..at + 6].copy_from_slice(b"needle");
        }
        let memory = FlatMemory::new(PhysAddr::new(0x1000), &ram);
        let runs =
            [Run { start: 0x1000, len: 5000 }, Run { start: 0x1000 + 5000, len: ram.len() as u64 - 5000 }];
        let search = |pattern: &str, regex, most| {
            let what = SearchFor { pattern: pattern.to_owned(), regex, ..SearchFor::default() };
            let pattern = Pattern::new(&what).unwrap();
            let found = search(Memory::Physical(&memory), runs.into_iter(), &pattern, most, |_| ());
            found.iter().map(|found| found.at as usize - 0x1000).collect::<Vec<_>>()
        };
        assert_eq!(search("needle", false, 100), places);
        assert_eq!(search("n[a-z]*e", true, 100), places);
        assert_eq!(search("needle", false, 2), places[..2]);
        // Empty matches are none, and what only looks like the start of a line at a window's start is none.
        assert!(search("x*", true, 100).is_empty());
        assert!(search("^", true, 100).is_empty());
        // Each is told once, not once more from each of its bytes, and also where windows meet.
        assert_eq!(search("[a-z]+", true, 100), places);
        assert_eq!(search("[a-z]+e", true, 100), places);
        assert_eq!(search(r"^needle", true, 100), [0]);
    }

    #[test]
    fn expressions_that_take_everything_end() {
        let ram = vec![b'A'; WINDOW as usize + 100_000];
        let memory = FlatMemory::new(PhysAddr::new(0), &ram);
        let run = Run { start: 0, len: ram.len() as u64 };
        let search = |pattern: &str, regex, most| {
            let what = SearchFor { pattern: pattern.to_owned(), regex, ..SearchFor::default() };
            let pattern = Pattern::new(&what).unwrap();
            search(Memory::Physical(&memory), [run].into_iter(), &pattern, most, |_| ())
        };
        // Every byte is in one match.
        let mut end = 0;
        for found in search("(?s).*", true, usize::MAX) {
            assert_eq!(found.at, end);
            end += found.len as u64;
        }
        assert_eq!(end, ram.len() as u64);
        // Each match is a byte long and takes a look at everything behind it.
        assert_eq!(search(".*[^A]|A", true, 1000).len(), 1000);
        // Text may begin within itself.
        assert_eq!(
            search("AAAA", false, 100).iter().map(|found| found.at).collect::<Vec<_>>(),
            (0..100).collect::<Vec<_>>()
        );
    }
}
