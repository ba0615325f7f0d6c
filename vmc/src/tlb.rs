//! A translation cache that many threads share without a lock.
//!
//! Direct-mapped. An entry is two words, written one after the other; the first is the tag combined by exclusive or with the
//! second, so that a reader that meets a half-written entry finds a tag that does not match and walks the tables.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::addr::{PAGE_SIZE, PhysAddr, VirtAddr};

#[derive(Debug, Default)]
struct Entry {
    /// tag ^ value
    check: AtomicU64,
    /// The page's physical address; bit 0 is set in every entry in use.
    value: AtomicU64,
}

/// A cache of translations of 4 KiB pages (pieces of larger ones too).
#[derive(Debug)]
pub struct Tlb {
    entries: Box<[Entry]>,
}

impl Tlb {
    /// A cache with `entries` places, rounded up to a power of two.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        let count = entries.clamp(1, 1 << 16).next_power_of_two();
        Self { entries: (0..count).map(|_| Entry::default()).collect() }
    }

    fn place(&self, va: VirtAddr) -> Option<&Entry> {
        let page = va.get() / PAGE_SIZE;
        // Stacks and heaps of one process differ in low bits, the parts of the address space in high ones.
        let mixed = page ^ (page >> 9) ^ (page >> 18);
        // The count is a power of two, so the mask keeps the index inside.
        self.entries.get((mixed & (self.entries.len() as u64 - 1)) as usize)
    }

    /// The physical address of `va`, if its page is known.
    #[must_use]
    pub fn get(&self, va: VirtAddr) -> Option<PhysAddr> {
        let entry = self.place(va)?;
        let value = entry.value.load(Ordering::Relaxed);
        let tag = entry.check.load(Ordering::Relaxed) ^ value;
        let hit = value & 1 == 1 && tag == va.align_down(PAGE_SIZE).get();
        hit.then(|| PhysAddr::new((value & !1) | va.offset_in(PAGE_SIZE)))
    }

    /// Remembers that the page of `va` lies at the page of `physical`.
    pub fn put(&self, va: VirtAddr, physical: PhysAddr) {
        if let Some(entry) = self.place(va) {
            let value = physical.align_down(PAGE_SIZE).get() | 1;
            entry.check.store(va.align_down(PAGE_SIZE).get() ^ value, Ordering::Relaxed);
            entry.value.store(value, Ordering::Relaxed);
        }
    }

    /// Forgets everything: a live guest ran on in between.
    pub fn clear(&self) {
        for entry in &self.entries {
            entry.value.store(0, Ordering::Relaxed);
            entry.check.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_cache_knows_nothing() {
        let tlb = Tlb::new(8);
        assert_eq!(tlb.get(VirtAddr::new(0)), None);
        assert_eq!(tlb.get(VirtAddr::new(1)), None);
    }

    #[test]
    fn pages_that_share_a_place_push_each_other_out() {
        let tlb = Tlb::new(1);
        tlb.put(VirtAddr::new(0x1234), PhysAddr::new(0x8000));
        assert_eq!(tlb.get(VirtAddr::new(0x1fff)), Some(PhysAddr::new(0x8fff)));
        tlb.put(VirtAddr::new(0x5000), PhysAddr::new(0));
        assert_eq!(tlb.get(VirtAddr::new(0x1234)), None);
        assert_eq!(tlb.get(VirtAddr::new(0x5008)), Some(PhysAddr::new(8)));
        tlb.clear();
        assert_eq!(tlb.get(VirtAddr::new(0x5008)), None);
    }

    #[test]
    fn half_written_entries_match_nothing() {
        let tlb = Tlb::new(1);
        tlb.put(VirtAddr::new(0x1000), PhysAddr::new(0x8000));
        // A writer of another page was stopped between its two stores.
        let entry = &tlb.entries[0];
        entry.check.store(0x7000 ^ (0x9000 | 1), Ordering::Relaxed);
        assert_eq!(tlb.get(VirtAddr::new(0x1000)), None);
        assert_eq!(tlb.get(VirtAddr::new(0x7000)), None);
    }
}
