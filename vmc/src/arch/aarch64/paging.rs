//! aarch64 page tables (Arm ARM, D8.2 "Translation process").
//!
//! The address space has two halves with a root and a size each, told apart by bit 55. A page has 4, 16 or 64 KiB, and a table
//! is as large as a page.

use super::descriptor::{Allowed, address, is_table_or_page, is_valid};
use crate::addr::{PhysAddr, VirtAddr};
use crate::arch::present::{Entry, Shape};
use crate::arch::{TranslateError, Walk, WalkEntry};
use crate::memory::PhysMemory;
use crate::view::Space;

/// The size of the smallest page, and of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granule {
    /// 4 KiB.
    K4,
    /// 16 KiB.
    K16,
    /// 64 KiB.
    K64,
}

impl Granule {
    /// The granule of `bytes`, if there is one.
    #[must_use]
    pub const fn of_bytes(bytes: u64) -> Option<Self> {
        match bytes {
            0x1000 => Some(Self::K4),
            0x4000 => Some(Self::K16),
            0x1_0000 => Some(Self::K64),
            _ => None,
        }
    }

    /// The bits of an address within a page.
    const fn shift(self) -> u32 {
        match self {
            Self::K4 => 12,
            Self::K16 => 14,
            Self::K64 => 16,
        }
    }

    /// The bits of an address that a whole table resolves: an entry has 8 bytes.
    const fn stride(self) -> u32 {
        self.shift() - 3
    }

    /// Its size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.shift()
    }
}

/// One half of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Half {
    /// Where its top table lies.
    pub root: PhysAddr,
    /// How many bits of an address are translated: 64 less TCR_EL1.T0SZ or T1SZ.
    pub bits: u8,
}

impl Half {
    /// Sizes that Arm knows: 52 bits at the most; T0SZ and T1SZ are at most 48.
    const fn is_possible(self, granule: Granule) -> bool {
        self.bits <= 52 && self.bits >= 16 && self.bits as u32 > granule.shift()
    }

    /// How many levels its tables have.
    const fn levels(self, granule: Granule) -> u8 {
        (self.bits as u32).saturating_sub(granule.shift()).div_ceil(granule.stride()) as u8
    }
}

/// Page table roots of aarch64, and how they are walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aarch64PageTables {
    granule: Granule,
    lower: Option<Half>,
    upper: Option<Half>,
    /// TCR_EL1.DS: addresses of 52 bits with pages of 4 or 16 KiB.
    ds: bool,
}

impl Aarch64PageTables {
    /// Tables with pages of this size; neither half is there yet.
    #[must_use]
    pub const fn new(granule: Granule) -> Self {
        Self { granule, lower: None, upper: None, ds: false }
    }

    /// The same with this lower half: a process' (TTBR0_EL1).
    #[must_use]
    pub const fn with_lower(self, half: Half) -> Self {
        Self { lower: Some(half), ..self }
    }

    /// The same with this upper half: the kernel's (TTBR1_EL1).
    #[must_use]
    pub const fn with_upper(self, half: Half) -> Self {
        Self { upper: Some(half), ..self }
    }

    /// The same with TCR_EL1.DS: entries of 4 and 16 KiB tables hold addresses of 52 bits (FEAT_LPA2).
    #[must_use]
    pub const fn with_ds(self, ds: bool) -> Self {
        Self { ds, ..self }
    }

    /// The size of the smallest page.
    #[must_use]
    pub const fn granule(&self) -> Granule {
        self.granule
    }

    /// The lower half.
    #[must_use]
    pub const fn lower(&self) -> Option<Half> {
        self.lower
    }

    /// The upper half.
    #[must_use]
    pub const fn upper(&self) -> Option<Half> {
        self.upper
    }

    const fn main(&self) -> Option<Half> {
        match self.lower {
            Some(half) => Some(half),
            None => self.upper,
        }
    }

    /// Where the top table lies: a process' where there is one, else the kernel's.
    #[must_use]
    pub const fn root(&self) -> PhysAddr {
        match self.main() {
            Some(half) => half.root,
            None => PhysAddr::new(0),
        }
    }

    /// How many levels that half has.
    #[must_use]
    pub const fn levels(&self) -> u8 {
        match self.main() {
            Some(half) => half.levels(self.granule),
            None => 0,
        }
    }

    /// May an entry of this level (1 is the lowest) map a block? Arm ARM, table D8-20 and following.
    const fn has_blocks(&self, level: u8) -> bool {
        match self.granule {
            Granule::K4 => level <= 3 || (level == 4 && self.ds),
            Granule::K16 => level <= 2 || (level == 3 && self.ds),
            // Level 3: only with 52-bit physical addresses, which cannot be told from here.
            Granule::K64 => level <= 3,
        }
    }

    /// The address in an entry of `level` that maps a page or a block, be it valid or not.
    #[must_use]
    pub const fn entry_address(&self, level: u8, entry: u64) -> PhysAddr {
        let shift = self.granule.shift() + self.granule.stride() * (level as u32).saturating_sub(1);
        let size = if shift < 52 { 1 << shift } else { 1 << 52 };
        address(entry, size, self.granule, self.ds)
    }

    /// What the tables of one half look like; no entries where there is none.
    pub(in crate::arch) fn shape(&self, space: Space) -> Shape {
        let (half, first) = match space {
            Space::User => (self.lower, 0),
            Space::Kernel => (self.upper, u64::MAX),
        };
        let half = half.filter(|half| half.is_possible(self.granule));
        let (root, bits) = half.map_or((PhysAddr::new(0), 0), |half| (half.root, u32::from(half.bits)));
        let levels = half.map_or(1, |half| half.levels(self.granule));
        let (page_shift, stride) = (self.granule.shift(), self.granule.stride());
        let above = bits.saturating_sub(page_shift + stride * (u32::from(levels) - 1));
        let entries = if half.is_some() { 1 << above } else { 0 };
        Shape { root, levels, page_shift, stride, first: VirtAddr::new(first << bits), top: (0, entries) }
    }

    /// What an entry of a table of this level says.
    pub(in crate::arch) const fn entry(&self, level: u8, entry: u64) -> Entry {
        if !is_valid(entry) {
            return Entry::Absent;
        }
        match (level, is_table_or_page(entry)) {
            // At the lowest level a block is a reserved encoding.
            (1, true) => Entry::Page(self.entry_address(1, entry)),
            (1, false) => Entry::Malformed,
            (_, true) => Entry::Table(self.entry_address(1, entry)),
            (_, false) if self.has_blocks(level) => Entry::Page(self.entry_address(level, entry)),
            _ => Entry::Malformed,
        }
    }

    /// Where `va` lies, and by which entries. The top byte of an address of the lower half is ignored, as Linux has it.
    ///
    /// # Errors
    /// [`TranslateError`]: the level and entry at which the walk ended.
    pub fn walk(&self, memory: &dyn PhysMemory, va: VirtAddr) -> Result<Walk, TranslateError> {
        let upper = va.get() >> 55 & 1 == 1;
        let half = if upper { self.upper } else { self.lower };
        let half =
            half.filter(|half| half.is_possible(self.granule)).ok_or(TranslateError::NoTables { va })?;
        let (granule, bits, levels) = (self.granule, u32::from(half.bits), half.levels(self.granule));
        let rest = va.get() >> bits;
        let canonical =
            if upper { rest == u64::MAX >> bits } else { rest & (0x00ff_ffff_ffff_ffff >> bits) == 0 };
        if !canonical {
            return Err(TranslateError::NotCanonical { va, levels });
        }
        let mut entries = [WalkEntry::default(); 5];
        let mut allowed = Allowed::ALL;
        // A root that resolves few bits is smaller than a page, and only aligned to its size.
        let mut table = half.root;
        let mut level = levels;
        let mut above = bits;
        for (depth, slot) in (1u8..).zip(&mut entries) {
            let shift = granule.shift() + granule.stride() * (u32::from(level) - 1);
            let index = va.get() >> shift & ((1 << (above - shift)) - 1);
            let at = table.wrapping_add(index << 3);
            let entry = memory.read_u64(at).map_err(|source| TranslateError::Table { va, level, source })?;
            *slot = WalkEntry { level, at, value: entry };
            match self.entry(level, entry) {
                Entry::Absent => return Err(TranslateError::NotPresent { va, level, at, entry }),
                Entry::Malformed => return Err(TranslateError::Malformed { va, level, at, entry }),
                Entry::Table(next) => table = next,
                Entry::Page(base) => {
                    let page_size = 1u64 << shift;
                    let allowed = allowed.at(entry);
                    return Ok(Walk {
                        physical: base.wrapping_add(va.offset_in(page_size)),
                        page_size,
                        writable: allowed.writable,
                        user: allowed.user,
                        executable: if upper { allowed.kernel_code } else { allowed.user_code },
                        entries,
                        depth,
                    });
                }
            }
            allowed = allowed.below(entry);
            above = shift;
            level -= 1;
        }
        // 52 bits with the smallest pages take five levels, and the lowest level is always a leaf.
        Err(TranslateError::NotCanonical { va, levels })
    }
}

#[cfg(test)]
mod tests;
