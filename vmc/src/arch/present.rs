//! Going through all that a page table maps, without asking for each address.

use alloc::vec::Vec;

use super::{PageTables, TranslateError};
use crate::addr::{PhysAddr, VirtAddr};
use crate::bytes::u64_at;
use crate::memory::PhysMemory;

/// No architecture has more levels.
const MOST_LEVELS: usize = 5;

/// A page that page tables map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresentPage {
    /// Its virtual address.
    pub start: VirtAddr,
    /// Where it lies in physical memory.
    pub physical: PhysAddr,
    /// Its size in bytes: the smallest page's, or that of a large one.
    pub size: u64,
}

/// What the tables of one half of an address space look like: all that differs by architecture, with [`Entry`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) root: PhysAddr,
    pub(super) levels: u8,
    /// The bits of an address within the smallest page, and those that a table of each level resolves.
    pub(super) page_shift: u32,
    pub(super) stride: u32,
    /// The address that entry 0 of the top table would have, and the entries of that table that are this half's.
    pub(super) first: VirtAddr,
    pub(super) top: (u64, u64),
}

/// What an entry says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry {
    Absent,
    Table(PhysAddr),
    Page(PhysAddr),
    Malformed,
}

/// A table on the way down.
#[derive(Clone, Copy, Default)]
struct Place<'m> {
    table: PhysAddr,
    lent: Option<&'m [u8]>,
    next: u64,
    end: u64,
    /// The address that its entry 0 has.
    first: VirtAddr,
}

/// Goes through the pages that page tables map, ascending; see [`PageTables::present`].
///
/// An entry or a table that cannot be used is told and passed over.
pub struct PresentPages<'m> {
    memory: &'m dyn PhysMemory,
    tables: PageTables,
    shape: Shape,
    path: [Place<'m>; MOST_LEVELS],
    /// Tables of the path that memory does not lend, copied whole; empty where that failed.
    copies: [Vec<u8>; MOST_LEVELS],
    depth: usize,
    left: usize,
    exhausted: bool,
}

impl core::fmt::Debug for PresentPages<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PresentPages").field("tables", &self.tables).finish_non_exhaustive()
    }
}

impl<'m> PresentPages<'m> {
    pub(super) fn new(
        memory: &'m dyn PhysMemory,
        tables: PageTables,
        shape: Shape,
        most_tables: usize,
    ) -> Self {
        let mut pages = Self {
            memory,
            tables,
            shape,
            path: [Place::default(); MOST_LEVELS],
            copies: Default::default(),
            depth: 0,
            left: most_tables,
            exhausted: false,
        };
        pages.enter(shape.root, shape.top.0, shape.top.1, shape.first);
        pages
    }

    /// Did the bound on tables end it?
    #[must_use]
    pub const fn exhausted(&self) -> bool {
        self.exhausted
    }

    /// How many more tables it may read.
    #[must_use]
    pub const fn tables_left(&self) -> usize {
        self.left
    }

    /// The level of the table at the end of the path.
    fn level(&self) -> u8 {
        self.shape.levels.saturating_add(1).saturating_sub(self.depth as u8)
    }

    fn enter(&mut self, table: PhysAddr, next: u64, end: u64, first: VirtAddr) {
        let Some(left) = self.left.checked_sub(1) else {
            self.exhausted = true;
            return;
        };
        let Some(place) = self.path.get_mut(self.depth) else { return };
        self.left = left;
        let size = 8 << self.shape.stride;
        let lent = self.memory.slice(table, size);
        if lent.is_none()
            && let Some(copy) = self.copies.get_mut(self.depth)
        {
            copy.resize(size, 0);
            if self.memory.read(table, copy).is_err() {
                // Its entries are read one by one, up to the one that is not there.
                copy.clear();
            }
        }
        *place = Place { table, lent, next, end, first };
        self.depth += 1;
    }

    /// What the entry says, and where it lies.
    fn entry(&self, place: &Place<'m>, va: VirtAddr, level: u8) -> Result<(u64, PhysAddr), TranslateError> {
        let at = place.table.wrapping_add(place.next * 8);
        let copy = || self.copies.get(self.depth.checked_sub(1)?).map(Vec::as_slice);
        let whole = place.lent.or_else(copy);
        let lent = whole.and_then(|table| u64_at(table, usize::try_from(place.next * 8).ok()?));
        let value = lent.map_or_else(|| self.memory.read_u64(at), Ok);
        value.map(|value| (value, at)).map_err(|source| TranslateError::Table { va, level, source })
    }
}

impl Iterator for PresentPages<'_> {
    type Item = Result<PresentPage, TranslateError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.exhausted {
            let level = self.level();
            let place = *self.path.get(self.depth.checked_sub(1)?)?;
            if place.next >= place.end {
                self.depth -= 1;
                continue;
            }
            let shift = self.shape.page_shift + self.shape.stride * u32::from(level.saturating_sub(1));
            let va = place.first.wrapping_add(place.next << shift);
            let entry = self.entry(&place, va, level);
            if let Some(place) = self.path.get_mut(self.depth - 1) {
                // A table that cannot be read is told once.
                place.next = if entry.is_ok() { place.next + 1 } else { place.end };
            }
            let (value, at) = match entry {
                Ok(entry) => entry,
                Err(why) => return Some(Err(why)),
            };
            match self.tables.entry(level, value) {
                Entry::Absent => {}
                Entry::Table(table) => self.enter(table, 0, 1 << self.shape.stride, va),
                Entry::Page(physical) => {
                    return Some(Ok(PresentPage { start: va, physical, size: 1 << shift }));
                }
                Entry::Malformed => {
                    return Some(Err(TranslateError::Malformed { va, level, at, entry: value }));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::x86_64::{Levels, X86PageTables};
    use crate::memory::FlatMemory;
    use crate::view::Space;
    use alloc::vec;

    fn memory_with(entries: &[(usize, u64)]) -> Vec<u8> {
        let mut ram = vec![0u8; 0x6000];
        for (at, entry) in entries {
            ram[*at..at + 8].copy_from_slice(&entry.to_le_bytes());
        }
        ram
    }

    fn present(ram: &[u8], levels: Levels, space: Space, most: usize) -> (Vec<(u64, u64, u64)>, usize, bool) {
        let memory = FlatMemory::new(PhysAddr::new(0), ram);
        let tables = PageTables::X86_64(X86PageTables::new(PhysAddr::new(0x1000), levels));
        let mut pages = tables.present(&memory, space, most);
        let (mut found, mut errors) = (Vec::new(), 0);
        for page in pages.by_ref() {
            match page {
                Ok(page) => found.push((page.start.get(), page.physical.get(), page.size)),
                Err(_) => errors += 1,
            }
        }
        (found, errors, pages.exhausted())
    }

    #[test]
    fn pages_of_all_sizes_in_both_halves() {
        let ram = memory_with(&[
            (0x1000, 0x2007),
            (0x1ff8, 0x2003),
            (0x2000, 0x3007),
            (0x2008, 0x4000_0087),
            (0x3000, 0x4007),
            (0x3008, 0x20_1087),
            (0x4010, 0x5007),
            (0x4ff8, 1 << 63 | 0x7005),
        ]);
        let user = [
            (0x2000, 0x5000, 0x1000),
            (0x1f_f000, 0x7000, 0x1000),
            (0x20_0000, 0x20_0000, 0x20_0000),
            (0x4000_0000, 0x4000_0000, 0x4000_0000),
        ];
        assert_eq!(present(&ram, Levels::Four, Space::User, 100), (user.to_vec(), 0, false));
        // The same table, as the last entry of the top one.
        let kernel = user.map(|(va, pa, size)| (0xffff_ff80_0000_0000 + va, pa, size));
        assert_eq!(present(&ram, Levels::Four, Space::Kernel, 100), (kernel.to_vec(), 0, false));
        // What is found by going through is what a walk to it finds.
        let memory = FlatMemory::new(PhysAddr::new(0), &ram);
        let tables = PageTables::X86_64(X86PageTables::new(PhysAddr::new(0x1000), Levels::Four));
        for (va, pa, size) in kernel {
            let walk = tables.walk(&memory, VirtAddr::new(va)).unwrap();
            assert_eq!((walk.physical.get(), walk.page_size), (pa, size));
        }
    }

    #[test]
    fn tables_that_lead_in_a_circle_end_at_the_bound() {
        let ram = memory_with(&[(0x1000, 0x1007), (0x1008, 0x1007)]);
        let (found, _, exhausted) = present(&ram, Levels::Five, Space::User, 10);
        assert!(exhausted && found.len() < 10 * 512, "{}", found.len());
    }

    #[test]
    fn what_cannot_be_used_is_told_and_passed_over() {
        let ram = memory_with(&[
            (0x1000, 0x2007),
            (0x2000, 0x10_0000_0007),
            (0x2008, 0x3007),
            (0x3000, 0x20_4087),
            (0x3008, 0x20_0087),
        ]);
        let (found, errors, _) = present(&ram, Levels::Four, Space::User, 100);
        assert_eq!((found, errors), (vec![(0x4020_0000, 0x20_0000, 0x20_0000)], 2));
    }
}
