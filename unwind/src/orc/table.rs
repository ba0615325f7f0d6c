//! [`OrcTable`]: the two arrays of a kernel or of one of its modules.

use alloc::borrow::Cow;
use core::fmt;
use core::ops::Range;

use vmc::VirtAddr;
use vmc::bytes::u32_at;

use super::entry::OrcEntry;
use super::layout::OrcLayout;

/// The rules of a kernel's image, or of a module, as they lie in memory.
pub struct OrcTable<'t> {
    places: Cow<'t, [u8]>,
    places_at: VirtAddr,
    entries: Cow<'t, [u8]>,
    layout: OrcLayout,
    count: usize,
}

impl<'t> OrcTable<'t> {
    /// The table out of `places` (`.orc_unwind_ip`, which lies at `places_at`) and `entries` (`.orc_unwind`). Where one of
    /// them has more than the other, the rest does not count.
    #[must_use]
    pub fn new(
        places: impl Into<Cow<'t, [u8]>>,
        places_at: VirtAddr,
        entries: impl Into<Cow<'t, [u8]>>,
        layout: OrcLayout,
    ) -> Self {
        let (places, entries) = (places.into(), entries.into());
        let count = (places.len() / 4).min(entries.len() / layout.entry_bytes());
        Self { places, places_at, entries, layout, count }
    }

    /// How its rules are built.
    #[must_use]
    pub const fn layout(&self) -> OrcLayout {
        self.layout
    }

    /// How many rules there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Is there no rule?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Where rule number `index` begins to hold: its slot holds the distance from itself.
    fn place(&self, index: usize) -> Option<VirtAddr> {
        let distance = u32_at(&self.places, index.checked_mul(4)?)?.cast_signed();
        let slot = self.places_at.get().wrapping_add(index as u64 * 4);
        Some(VirtAddr::new(slot.wrapping_add_signed(i64::from(distance))))
    }

    /// The addresses for which there are rules. (The last one only marks the end.)
    #[must_use]
    pub fn range(&self) -> Range<VirtAddr> {
        let end = self.count.checked_sub(1).and_then(|last| self.place(last));
        match (self.place(0), end) {
            (Some(start), Some(end)) => start..end,
            _ => VirtAddr::new(0)..VirtAddr::new(0),
        }
    }

    /// The rule for `address`: of those that begin at or before it the last, of several at one place too. (The earlier ones
    /// mark where a source file ended.)
    #[must_use]
    pub fn find(&self, address: VirtAddr) -> Option<OrcEntry> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.place(middle)? <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let index = low.checked_sub(1)?;
        self.layout.decode(self.entries.get(index.checked_mul(self.layout.entry_bytes())?..)?)
    }
}

impl fmt::Debug for OrcTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrcTable").field("range", &self.range()).field("rules", &self.count).finish()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::orc::{OrcKind, OrcRegister};
    use alloc::vec::Vec;

    /// Where the tables of tests lie.
    pub(in crate::orc) const AT: u64 = 0xffff_ffff_8200_0000;

    /// A table of (place, stack pointer's offset, flags) since 6.4.
    pub(in crate::orc) fn table(rules: &[(u64, i16, i16, u16)]) -> OrcTable<'static> {
        let place = |(index, rule): (usize, &(u64, i16, i16, u16))| {
            (rule.0.wrapping_sub(AT + index as u64 * 4) as u32).to_le_bytes()
        };
        let places: Vec<u8> = rules.iter().enumerate().flat_map(place).collect();
        let entry = |rule: &(u64, i16, i16, u16)| {
            [rule.1.to_le_bytes(), rule.2.to_le_bytes(), rule.3.to_le_bytes()].concat()
        };
        let entries: Vec<u8> = rules.iter().flat_map(entry).collect();
        OrcTable::new(places, VirtAddr::new(AT), entries, OrcLayout::SINCE_6_4)
    }

    const CALL: u16 = 5 | 2 << 8;
    const TEXT: u64 = 0xffff_ffff_8100_0000;

    #[test]
    fn the_last_rule_at_or_before_an_address_holds() {
        let rules =
            [(TEXT, 8, 0, CALL), (TEXT + 4, 16, 0, CALL), (TEXT + 8, 0, 0, 0), (TEXT + 8, 24, 0, CALL)];
        let table = table(&rules);
        let offset = |at: u64| table.find(VirtAddr::new(TEXT + at)).map(|entry| entry.sp_offset);
        assert_eq!([0, 3, 4, 7, 8, 0x1000].map(offset), [8, 8, 16, 16, 24, 24].map(Some));
        assert_eq!(table.find(VirtAddr::new(TEXT - 1)), None);
        assert_eq!(table.range(), VirtAddr::new(TEXT)..VirtAddr::new(TEXT + 8));
        let entry = table.find(VirtAddr::new(TEXT)).unwrap();
        assert_eq!((entry.kind, entry.sp, entry.signal), (OrcKind::Call, OrcRegister::Sp, false));
    }

    #[test]
    fn cut_and_empty_tables_have_what_they_have() {
        let cut = OrcTable::new(&[0u8; 11][..], VirtAddr::new(TEXT), &[0u8; 7][..], OrcLayout::SINCE_6_4);
        assert_eq!(cut.len(), 1);
        let empty = OrcTable::new(&[][..], VirtAddr::new(TEXT), &[0u8; 60][..], OrcLayout::SINCE_6_4);
        assert!(empty.is_empty() && empty.range().is_empty());
        assert_eq!(empty.find(VirtAddr::new(TEXT)), None);
    }

    #[test]
    fn an_unsorted_table_gives_some_rule_or_none() {
        let rules: Vec<_> = (0..64u64).map(|n| (TEXT + (n * 37) % 64 * 16, n as i16, 0, CALL)).collect();
        let table = table(&rules);
        for at in 0..2048 {
            let _ = table.find(VirtAddr::new(TEXT.wrapping_add(at * 3).wrapping_sub(512)));
        }
    }
}
