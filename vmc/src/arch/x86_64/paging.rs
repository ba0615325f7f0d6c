//! x86_64 page tables (Intel SDM volume 3, chapter 5; AMD APM volume 2, chapter 5).

use crate::addr::{PhysAddr, VirtAddr};
use crate::arch::present::{Entry, Shape};
use crate::arch::{TranslateError, Walk, WalkEntry};
use crate::memory::PhysMemory;
use crate::view::Space;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// Bits 12 to 51: where the next table or the page lies.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// How many levels the page tables have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Levels {
    /// 48-bit addresses.
    Four,
    /// 57-bit addresses (CR4.LA57).
    Five,
}

impl Levels {
    /// The number.
    #[must_use]
    pub const fn count(self) -> u8 {
        match self {
            Self::Four => 4,
            Self::Five => 5,
        }
    }
}

/// An x86_64 page table root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct X86PageTables {
    root: PhysAddr,
    levels: Levels,
    /// The bits of an entry that are an address: without those that mark encrypted memory.
    mask: u64,
}

impl X86PageTables {
    /// The tables whose top one lies at `root` (CR3 without its low twelve bits).
    #[must_use]
    pub const fn new(root: PhysAddr, levels: Levels) -> Self {
        Self { root: root.align_down(0x1000), levels, mask: ADDRESS }
    }

    /// The same tables, with `bits` of their entries taken for a mark (AMD's C-bit, Intel's shared bit), not an address.
    #[must_use]
    pub const fn without_address_bits(self, bits: u64) -> Self {
        Self { mask: ADDRESS & !bits, ..self }
    }

    /// Tables of the same kind whose top one lies at `root`: another process' of the same kernel.
    #[must_use]
    pub const fn with_root(self, root: PhysAddr) -> Self {
        Self { root: root.align_down(0x1000), ..self }
    }

    /// Where the top table lies.
    #[must_use]
    pub const fn root(&self) -> PhysAddr {
        self.root
    }

    /// How many levels there are.
    #[must_use]
    pub const fn levels(&self) -> Levels {
        self.levels
    }

    /// What the tables of one half look like: one top table serves both.
    pub(in crate::arch) fn shape(&self, space: Space) -> Shape {
        let levels = self.levels.count();
        let (first, top) = match space {
            Space::User => (VirtAddr::new(0), (0, 256)),
            Space::Kernel => (VirtAddr::new(u64::MAX << (12 + 9 * u32::from(levels))), (256, 512)),
        };
        Shape { root: self.root, levels, page_shift: 12, stride: 9, first, top }
    }

    /// What an entry of a table of this level says.
    pub(in crate::arch) fn entry(&self, level: u8, entry: u64) -> Entry {
        if entry & PRESENT == 0 {
            return Entry::Absent;
        }
        if level > 1 && entry & LARGE == 0 {
            return Entry::Table(PhysAddr::new(entry & self.mask));
        }
        self.page(level, entry).map_or(Entry::Malformed, Entry::Page)
    }

    /// Where the page lies that an entry of this level maps, if one can: bit 12 of a large page is its PAT bit, the others
    /// below the page's size have to be zero, and there are no large pages above level 3.
    fn page(&self, level: u8, entry: u64) -> Option<PhysAddr> {
        let below = (1u64 << (12 + 9 * (u32::from(level) - 1))) - 1;
        let reserved = entry & self.mask & below & !0x1fff;
        let fits = level == 1 || (level <= 3 && reserved == 0);
        fits.then_some(PhysAddr::new(entry & self.mask & !below))
    }

    /// Where `va` lies, and by which entries.
    ///
    /// # Errors
    /// [`TranslateError`]: the level and entry at which the walk ended.
    pub fn walk(&self, memory: &dyn PhysMemory, va: VirtAddr) -> Result<Walk, TranslateError> {
        let levels = self.levels.count();
        let unused = 64 - (12 + 9 * u32::from(levels));
        let sign_extended = ((va.get() << unused).cast_signed() >> unused).cast_unsigned();
        if sign_extended != va.get() {
            return Err(TranslateError::NotCanonical { va, levels });
        }
        let mut entries = [WalkEntry::default(); 5];
        let (mut writable, mut user, mut executable) = (true, true, true);
        let mut table = self.root;
        let mut level = levels;
        for (depth, slot) in (1u8..).zip(&mut entries) {
            let shift = 12 + 9 * (u32::from(level) - 1);
            let at = PhysAddr::new(table.get() | (((va.get() >> shift) & 0x1ff) << 3));
            let entry = memory.read_u64(at).map_err(|source| TranslateError::Table { va, level, source })?;
            *slot = WalkEntry { level, at, value: entry };
            if entry & PRESENT == 0 {
                return Err(TranslateError::NotPresent { va, level, at, entry });
            }
            writable &= entry & WRITABLE != 0;
            user &= entry & USER != 0;
            executable &= entry & NO_EXECUTE == 0;
            let leaf = level == 1 || entry & LARGE != 0;
            if leaf {
                let page_size = 1u64 << shift;
                let Some(base) = self.page(level, entry) else {
                    return Err(TranslateError::Malformed { va, level, at, entry });
                };
                let physical = PhysAddr::new(base.get() | va.offset_in(page_size));
                return Ok(Walk { physical, page_size, writable, user, executable, entries, depth });
            }
            table = PhysAddr::new(entry & self.mask);
            level -= 1;
        }
        // Five slots are as many as there are levels, and the lowest level is always a leaf.
        Err(TranslateError::NotCanonical { va, levels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::FlatMemory;
    use alloc::vec;
    use alloc::vec::Vec;

    fn memory_with(entries: &[(usize, u64)]) -> Vec<u8> {
        let mut ram = vec![0u8; 0x8000];
        for (at, value) in entries {
            ram[*at..*at + 8].copy_from_slice(&value.to_le_bytes());
        }
        ram
    }

    fn walk(ram: &[u8], levels: Levels, va: u64) -> Result<Walk, TranslateError> {
        let memory = FlatMemory::new(PhysAddr::new(0), ram);
        X86PageTables::new(PhysAddr::new(0x1000), levels).walk(&memory, VirtAddr::new(va))
    }

    #[test]
    fn four_levels_by_hand() {
        // va 0x7f12_3456_789a: indices 254, 72, 418, 359 (checked with a calculator).
        let ram = memory_with(&[
            (0x1000 + 254 * 8, 0x2007),
            (0x2000 + 72 * 8, 0x3007),
            (0x3000 + 418 * 8, 0x4007),
            (0x4000 + 359 * 8, NO_EXECUTE | 0x5005),
        ]);
        let found = walk(&ram, Levels::Four, 0x7f12_3456_789a).unwrap();
        assert_eq!(found.physical, PhysAddr::new(0x589a));
        assert_eq!(
            (found.page_size, found.writable, found.user, found.executable),
            (4096, false, true, false)
        );
        assert_eq!(found.entries().iter().map(|e| e.level).collect::<Vec<_>>(), [4, 3, 2, 1]);
    }

    #[test]
    fn five_levels_and_the_upper_half() {
        let ram = memory_with(&[
            (0x1000 + 511 * 8, 0x2003),
            (0x2000 + 511 * 8, 0x3003),
            (0x3000 + 510 * 8, 0x4003),
            (0x4000, 0x20_0083),
        ]);
        let found = walk(&ram, Levels::Five, 0xffff_ffff_8012_3456).unwrap();
        assert_eq!((found.physical, found.page_size), (PhysAddr::new(0x32_3456), 0x20_0000));
        assert_eq!(found.entries().len(), 4);
    }

    #[test]
    fn large_pages_of_1_gib() {
        let ram = memory_with(&[(0x1000, 0x2003), (0x2000 + 8, 0x4000_0083)]);
        let found = walk(&ram, Levels::Four, 0x7654_3210).unwrap();
        assert_eq!((found.physical, found.page_size), (PhysAddr::new(0x7654_3210), 1 << 30));
    }

    #[test]
    fn the_pat_bit_of_a_large_page_is_no_address() {
        let ram = memory_with(&[(0x1000, 0x2003), (0x2000, 0x3003), (0x3000, 0x20_1083)]);
        assert_eq!(walk(&ram, Levels::Four, 0x10).unwrap().physical, PhysAddr::new(0x20_0010));
    }

    #[test]
    fn each_failure_says_where() {
        let ram = memory_with(&[
            (0x1000, 0x2003),
            (0x2000, 0x3003),
            (0x2008, 0x10_0000_0003),
            (0x2010, 0x4000_4083),
            (0x3008, 0xdead_0002),
            (0x1008, 0x83),
        ]);
        let va = |n| VirtAddr::new(n);
        let at = |n| PhysAddr::new(n);
        assert_eq!(
            walk(&ram, Levels::Four, 0x20_0000),
            Err(TranslateError::NotPresent {
                va: va(0x20_0000),
                level: 2,
                at: at(0x3008),
                entry: 0xdead_0002
            })
        );
        assert!(matches!(walk(&ram, Levels::Four, 1 << 30), Err(TranslateError::Table { level: 2, .. })));
        assert!(matches!(walk(&ram, Levels::Four, 2 << 30), Err(TranslateError::Malformed { level: 3, .. })));
        assert!(matches!(walk(&ram, Levels::Four, 1 << 39), Err(TranslateError::Malformed { level: 4, .. })));
        assert_eq!(
            walk(&ram, Levels::Four, 1 << 47),
            Err(TranslateError::NotCanonical { va: va(1 << 47), levels: 4 })
        );
        assert!(matches!(walk(&ram, Levels::Five, 1 << 47), Err(TranslateError::NotPresent { .. })));
    }

    #[test]
    fn marks_of_encrypted_memory_are_taken_off() {
        let c_bit = 1 << 47;
        let ram = memory_with(&[
            (0x1000, c_bit | 0x2003),
            (0x2000, c_bit | 0x3003),
            (0x3000, c_bit | 0x4003),
            (0x4000, c_bit | 0x5003),
        ]);
        let memory = FlatMemory::new(PhysAddr::new(0), &ram);
        let tables = X86PageTables::new(PhysAddr::new(0x1000), Levels::Four).without_address_bits(c_bit);
        assert_eq!(tables.walk(&memory, VirtAddr::new(8)).unwrap().physical, PhysAddr::new(0x5008));
    }
}
