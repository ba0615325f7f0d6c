//! [`Cache`]: rules by address, kept from stack to stack.

use alloc::boxed::Box;
use alloc::vec;
use core::fmt;

use crate::cfi::Scratch;
use crate::{aarch64, x86_64};

/// How many sets of two rules there are.
const SETS: usize = 1024;

/// A key of zero: empty.
#[derive(Clone, Copy, Debug, Default)]
struct Entry<R> {
    key: u64,
    rule: R,
}

/// Two rules, in one line of the CPU's cache, the newer one first. With one rule a set, a stack of 70 frames would have two
/// addresses that push each other out on every walk.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Set<R> {
    newer: Entry<R>,
    older: Entry<R>,
}

/// The rules of one architecture.
pub(crate) struct Rules<R>(Box<[Set<R>]>);

impl<R: Copy + Default> Rules<R> {
    fn new() -> Self {
        Self(vec![Set::default(); SETS].into_boxed_slice())
    }

    #[inline]
    pub(crate) fn get(&self, key: Key) -> Option<R> {
        let set = self.0.get(key.place())?;
        let entry = if set.newer.key == key.0 { &set.newer } else { &set.older };
        (entry.key == key.0).then_some(entry.rule)
    }

    pub(crate) fn put(&mut self, key: Key, rule: R) {
        if self.0.is_empty() {
            *self = Self::new();
        }
        if let Some(set) = self.0.get_mut(key.place()) {
            set.older = core::mem::replace(&mut set.newer, Entry { key: key.0, rule });
        }
    }
}

/// A table's number and a link-time address in one word; zero is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(u64);

/// Bits of a key that the address takes: images are linked at low addresses.
const ADDRESS_BITS: u32 = 40;

impl Key {
    /// No key where the address or the number is too large to fit; such rules are not cached.
    #[inline]
    pub(crate) const fn new(table: u32, address: u64) -> Option<Self> {
        if address >> ADDRESS_BITS == 0 && table >> (64 - ADDRESS_BITS) == 0 && table != 0 {
            Some(Self((table as u64) << ADDRESS_BITS | address))
        } else {
            None
        }
    }

    /// Neighbouring addresses differ in low bits; tables differ in what the multiplication brings down from the top.
    #[inline]
    const fn place(self) -> usize {
        let mixed = self.0 ^ (self.0 >> 13) ^ (self.0 >> ADDRESS_BITS).wrapping_mul(0x9e5);
        mixed as usize % SETS
    }
}

/// Rules by table and link-time address, and the memory that evaluating new ones takes.
///
/// Its size is fixed: 64 KiB for each architecture that is met, 2048 rules, two for each set of addresses. Hits survive from thread to thread and from process to process
/// that map the same file. One for each worker: it is handed over as `&mut`.
pub struct Cache {
    pub(crate) x86_64: Rules<x86_64::rule::Rule>,
    pub(crate) aarch64: Rules<aarch64::rule::Rule>,
    pub(crate) scratch: Scratch,
    hits: u64,
    misses: u64,
}

impl Cache {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self {
            x86_64: Rules::new(),
            aarch64: Rules(Box::default()),
            scratch: Scratch::new(),
            hits: 0,
            misses: 0,
        }
    }

    /// How many rules were found in it.
    #[must_use]
    pub const fn hits(&self) -> u64 {
        self.hits
    }

    /// How many were not: new ones, ones that had been pushed out, and those that are never kept.
    #[must_use]
    pub const fn misses(&self) -> u64 {
        self.misses
    }

    pub(crate) const fn hit(&mut self) {
        self.hits += 1;
    }

    pub(crate) const fn missed(&mut self) {
        self.misses += 1;
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Cache");
        debug.field("hits", &self.hits).field("misses", &self.misses).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86_64::rule::Rule;
    use alloc::vec::Vec;

    #[test]
    fn an_entry_takes_32_bytes_and_a_set_a_line() {
        assert_eq!((size_of::<Entry<Rule>>(), size_of::<Set<Rule>>(), align_of::<Set<Rule>>()), (32, 64, 64));
        assert_eq!(size_of::<Set<aarch64::rule::Rule>>(), 64);
    }

    #[test]
    fn of_three_rules_in_a_set_the_oldest_goes() {
        let mut cache = Rules(Box::default());
        let place = Key::new(1, 0).unwrap().place();
        let keys = (0..1 << 20).filter_map(|address| Key::new(1, address)).filter(|key| key.place() == place);
        let keys: Vec<Key> = keys.take(3).collect();
        let rule = |cfa_offset| Rule { cfa_offset, ..Rule::default() };
        for (key, offset) in keys.iter().zip(1..) {
            cache.put(*key, rule(offset));
        }
        let found: Vec<_> = keys.iter().map(|key| cache.get(*key)).collect();
        assert_eq!(found, [None, Some(rule(2)), Some(rule(3))]);
    }

    #[test]
    fn rules_come_back_for_their_table_and_address_only() {
        let mut cache = Rules(Box::default());
        let rule = Rule { cfa_offset: 16, ..Rule::default() };
        let key = |table, address| Key::new(table, address).unwrap();
        assert_eq!(cache.get(key(1, 0)), None);
        cache.put(key(1, 0x1234), rule);
        assert_eq!(cache.get(key(1, 0x1234)), Some(rule));
        assert_eq!((cache.get(key(2, 0x1234)), cache.get(key(1, 0x1235))), (None, None));
    }

    #[test]
    fn what_fits_no_key_is_not_cached() {
        assert_eq!(Key::new(1, 1 << 40), None);
        assert_eq!(Key::new(1 << 24, 1), None);
        assert_eq!(Key::new(0, 0), None);
        assert!(Key::new((1 << 24) - 1, (1 << 40) - 1).is_some());
    }
}
