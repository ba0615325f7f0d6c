//! A bounded cache of guest pages, for readers in several threads.
//!
//! Pages are spread over parts by their number, each behind a lock of its own. A part keeps its pages in the order in which
//! they came and gives up the oldest for a new one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// 64 parts of 64 pages: 16 MiB.
const PARTS: usize = 64;
const PAGES_PER_PART: usize = 64;

/// Stands for no page: no page has this number, as addresses are 64 bits wide.
const NONE: u64 = u64::MAX;

/// One page's bytes.
pub(crate) type Page = [u8; PAGE];

#[derive(Debug)]
struct Part {
    /// The numbers of the pages that are kept, side by side: they are looked through for every read.
    numbers: [u64; PAGES_PER_PART],
    /// Their bytes, as far as there were any yet.
    pages: Vec<Page>,
    /// Which one goes next.
    oldest: usize,
}

/// The cache.
#[derive(Debug)]
pub(crate) struct PageCache {
    parts: Vec<Mutex<Part>>,
    /// Grows with every [`forget`](Self::forget): what was read before one is not put in after it.
    age: AtomicU64,
}

impl PageCache {
    pub(crate) fn new() -> Self {
        let part = || Part { numbers: [NONE; PAGES_PER_PART], pages: Vec::new(), oldest: 0 };
        Self { parts: (0..PARTS).map(|_| Mutex::new(part())).collect(), age: AtomicU64::new(0) }
    }

    /// The part that a page belongs to; neighbours, and pages that lie a power of two apart, go to different ones.
    fn part(&self, number: u64) -> Option<MutexGuard<'_, Part>> {
        let index = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
        // A thread that panicked while it held the lock has left numbers and bytes that are each in order or not there.
        self.parts.get(index as usize).map(|part| part.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Copies the bytes at `offset` of page `number` to `buf`, where the page is kept.
    pub(crate) fn copy(&self, number: u64, offset: usize, buf: &mut [u8]) -> bool {
        let Some(part) = self.part(number) else { return false };
        let Some(index) = part.numbers.iter().position(|kept| *kept == number) else { return false };
        let bytes = part.pages.get(index).and_then(|page| page.get(offset..)?.get(..buf.len()));
        bytes.is_some_and(|bytes| {
            buf.copy_from_slice(bytes);
            true
        })
    }

    /// The age, to be taken before a page is read that is to be kept.
    pub(crate) fn age(&self) -> u64 {
        self.age.load(Ordering::Acquire)
    }

    /// Keeps a page that was read at `age`, unless it is kept already: the one that was there first stays.
    pub(crate) fn put(&self, number: u64, age: u64, page: &Page) {
        let Some(mut part) = self.part(number) else { return };
        if self.age() != age || part.numbers.contains(&number) {
            return;
        }
        let at = part.oldest;
        match part.pages.get_mut(at) {
            Some(old) => *old = *page,
            None => part.pages.push(*page),
        }
        if let Some(kept) = part.numbers.get_mut(at) {
            *kept = number;
        }
        part.oldest = (at + 1) % PAGES_PER_PART;
    }

    /// Forgets all pages; what is read before this returns is not kept.
    pub(crate) fn forget(&self) {
        self.age.fetch_add(1, Ordering::AcqRel);
        for part in &self.parts {
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            part.numbers = [NONE; PAGES_PER_PART];
            part.oldest = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(cache: &PageCache, number: u64) -> Option<u8> {
        let mut byte = [0];
        cache.copy(number, PAGE - 1, &mut byte).then_some(byte[0])
    }

    #[test]
    fn pages_are_kept_until_they_are_forgotten() {
        let cache = PageCache::new();
        assert_eq!(kept(&cache, 5), None);
        cache.put(5, cache.age(), &[1; PAGE]);
        cache.put(5, cache.age(), &[2; PAGE]);
        assert_eq!(kept(&cache, 5), Some(1), "the first stays");
        assert!(!cache.copy(5, PAGE - 1, &mut [0; 2]), "nothing behind the page");
        let before = cache.age();
        cache.forget();
        assert_eq!(kept(&cache, 5), None);
        cache.put(5, before, &[3; PAGE]);
        assert_eq!(kept(&cache, 5), None, "read before it was forgotten");
        cache.put(5, cache.age(), &[4; PAGE]);
        assert_eq!(kept(&cache, 5), Some(4));
    }

    #[test]
    fn it_is_bounded_and_mostly_keeps_what_fits() {
        let cache = PageCache::new();
        let numbers = |count: u64| (0..count).filter(|number| kept(&cache, *number).is_some()).count();
        for number in 0..2048 {
            cache.put(number, 0, &[number as u8; PAGE]);
        }
        assert!(numbers(2048) >= 2000, "half full: {}", numbers(2048));
        for number in 2048..100_000 {
            cache.put(number, 0, &[number as u8; PAGE]);
        }
        assert!(numbers(100_000) <= PARTS * PAGES_PER_PART);
        let bytes: usize = cache.parts.iter().map(|part| part.lock().unwrap().pages.len() * PAGE).sum();
        assert!(bytes <= 16 << 20);
        for number in 0..100_000u64 {
            assert!(kept(&cache, number).is_none_or(|byte| byte == number as u8), "{number}");
        }
    }
}
