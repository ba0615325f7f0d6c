//! What differs by architecture: registers, and how page tables are walked.

pub mod aarch64;
mod present;
pub mod x86_64;

use core::fmt;

use crate::addr::{PhysAddr, VirtAddr};
use crate::memory::{PhysError, PhysMemory};
use crate::view::Space;
use present::{Entry, Shape};

pub use present::{PresentPage, PresentPages};

/// A guest's architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// 64-bit x86, also called AMD64.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl Architecture {
    /// The name `uname -m` has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A vCPU's registers, by architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Registers {
    /// Those of an x86_64 vCPU.
    X86_64(x86_64::Registers),
    /// Those of an aarch64 vCPU.
    Aarch64(aarch64::Registers),
}

impl Registers {
    /// The architecture whose registers these are.
    #[must_use]
    pub const fn architecture(&self) -> Architecture {
        match self {
            Self::X86_64(_) => Architecture::X86_64,
            Self::Aarch64(_) => Architecture::Aarch64,
        }
    }

    /// Is the vCPU in user mode?
    #[must_use]
    pub const fn in_user_mode(&self) -> bool {
        match self {
            Self::X86_64(registers) => registers.in_user_mode(),
            Self::Aarch64(registers) => registers.in_user_mode(),
        }
    }

    /// The instruction pointer: the program counter on aarch64.
    #[must_use]
    pub const fn instruction_pointer(&self) -> VirtAddr {
        match self {
            Self::X86_64(registers) => VirtAddr::new(registers.rip),
            Self::Aarch64(registers) => VirtAddr::new(registers.pc),
        }
    }

    /// The stack pointer of the mode that the vCPU is in.
    #[must_use]
    pub const fn stack_pointer(&self) -> VirtAddr {
        match self {
            Self::X86_64(registers) => VirtAddr::new(registers.rsp()),
            Self::Aarch64(registers) => VirtAddr::new(registers.sp),
        }
    }
}

/// A page table root and how to walk it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageTables {
    /// x86_64, 4 or 5 levels.
    X86_64(x86_64::X86PageTables),
    /// aarch64, both halves.
    Aarch64(aarch64::Aarch64PageTables),
}

impl PageTables {
    /// The architecture whose page tables these are.
    #[must_use]
    pub const fn architecture(&self) -> Architecture {
        match self {
            Self::X86_64(_) => Architecture::X86_64,
            Self::Aarch64(_) => Architecture::Aarch64,
        }
    }

    /// Where the top table lies.
    #[must_use]
    pub const fn root(&self) -> PhysAddr {
        match self {
            Self::X86_64(tables) => tables.root(),
            Self::Aarch64(tables) => tables.root(),
        }
    }

    /// How many levels there are.
    #[must_use]
    pub const fn levels(&self) -> u8 {
        match self {
            Self::X86_64(tables) => tables.levels().count(),
            Self::Aarch64(tables) => tables.levels(),
        }
    }

    /// The size of the smallest page in bytes: the unit of the OS' own bookkeeping.
    #[must_use]
    pub const fn page_size(&self) -> u64 {
        match self {
            Self::X86_64(_) => crate::addr::PAGE_SIZE,
            Self::Aarch64(tables) => tables.granule().bytes(),
        }
    }

    /// How many bytes an entry of `level` covers; 1 is the lowest.
    #[must_use]
    pub const fn entry_span(&self, level: u8) -> u64 {
        let (page, stride) = match self {
            Self::X86_64(_) => (12, 9),
            Self::Aarch64(tables) => {
                let shift = tables.granule().bytes().trailing_zeros();
                (shift, shift - 3)
            }
        };
        let shift = page + stride * (level as u32).saturating_sub(1);
        if shift < 64 { 1 << shift } else { u64::MAX }
    }

    /// Where `va` lies, and by which entries.
    ///
    /// # Errors
    /// [`TranslateError`]: the level and entry at which the walk ended.
    pub fn walk(&self, memory: &dyn PhysMemory, va: VirtAddr) -> Result<Walk, TranslateError> {
        match self {
            Self::X86_64(tables) => tables.walk(memory, va),
            Self::Aarch64(tables) => tables.walk(memory, va),
        }
    }

    /// The pages that they map for user programs or for the kernel, ascending, by reading no more than `most_tables` tables:
    /// a guest may have its tables lead to one another in circles.
    #[must_use]
    pub fn present<'m>(
        &self,
        memory: &'m dyn PhysMemory,
        space: Space,
        most_tables: usize,
    ) -> PresentPages<'m> {
        PresentPages::new(memory, *self, self.shape(space), most_tables)
    }

    /// What the tables of this half look like.
    fn shape(&self, space: Space) -> Shape {
        match self {
            Self::X86_64(tables) => tables.shape(space),
            Self::Aarch64(tables) => tables.shape(space),
        }
    }

    /// What an entry of a table of this level says.
    fn entry(&self, level: u8, entry: u64) -> Entry {
        match self {
            Self::X86_64(tables) => tables.entry(level, entry),
            Self::Aarch64(tables) => tables.entry(level, entry),
        }
    }
}

/// One entry that a walk went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct WalkEntry {
    /// Its level: 1 is the lowest, the one that maps the smallest pages.
    pub level: u8,
    /// Where the entry lies in physical memory.
    pub at: PhysAddr,
    /// What stands in it.
    pub value: u64,
}

/// A translation that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The physical address of the very byte that was asked for.
    pub physical: PhysAddr,
    /// The size of the page it lies in, in bytes.
    pub page_size: u64,
    /// May the page be written, by all levels?
    pub writable: bool,
    /// May user mode reach the page, by all levels?
    pub user: bool,
    /// May code be fetched from the page, by all levels?
    pub executable: bool,
    entries: [WalkEntry; 5],
    depth: u8,
}

impl Walk {
    /// The entries, from the top table down.
    #[must_use]
    pub fn entries(&self) -> &[WalkEntry] {
        self.entries.get(..usize::from(self.depth)).unwrap_or(&[])
    }
}

/// Why an address has no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranslateError {
    /// The bits above the highest translated one are not a copy of it.
    #[error("{va} is not canonical for {levels}-level page tables")]
    NotCanonical {
        /// The address.
        va: VirtAddr,
        /// The levels of the page tables.
        levels: u8,
    },
    /// The half of the address space that the address lies in has no page table, or none is known.
    #[error("no page table is known for {va}")]
    NoTables {
        /// The address.
        va: VirtAddr,
    },
    /// An entry says: not present. What else stands in it is the OS' own (swap, file, migration).
    #[error("page table level {level} has entry {entry:#x} at physical {at}, not present")]
    NotPresent {
        /// The address.
        va: VirtAddr,
        /// The level of the entry; 1 is the lowest.
        level: u8,
        /// Where the entry lies.
        at: PhysAddr,
        /// What stands in it.
        entry: u64,
    },
    /// An entry has a bit set that the architecture keeps zero there.
    #[error("page table level {level} has entry {entry:#x} at physical {at}, which no page table can hold")]
    Malformed {
        /// The address.
        va: VirtAddr,
        /// The level of the entry.
        level: u8,
        /// Where the entry lies.
        at: PhysAddr,
        /// What stands in it.
        entry: u64,
    },
    /// The table that an entry points at is not in memory.
    #[error("the page table of level {level} could not be read: {source}")]
    Table {
        /// The address.
        va: VirtAddr,
        /// The level of the table.
        level: u8,
        /// Why not.
        source: PhysError,
    },
}

impl TranslateError {
    /// The address that was to be translated.
    #[must_use]
    pub const fn address(&self) -> VirtAddr {
        match self {
            Self::NotCanonical { va, .. }
            | Self::NoTables { va }
            | Self::NotPresent { va, .. }
            | Self::Malformed { va, .. }
            | Self::Table { va, .. } => *va,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aarch64::{Aarch64PageTables, Granule};

    #[test]
    fn an_entry_covers_a_table_of_the_level_below() {
        let tables = |granule| PageTables::Aarch64(Aarch64PageTables::new(granule));
        assert_eq!(tables(Granule::K4).entry_span(2), 2 << 20);
        assert_eq!(tables(Granule::K16).entry_span(2), 32 << 20);
        assert_eq!(tables(Granule::K64).entry_span(3), 4 << 40);
        assert_eq!(tables(Granule::K64).entry_span(9), u64::MAX);
    }
}
