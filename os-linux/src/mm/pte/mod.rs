//! What Linux keeps in a page-table entry that is not present, by architecture.

mod aarch64;
mod x86_64;

use vmc::{Fault, PageTables, PhysAddr};

/// What an absent entry means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// Never mapped: the file's or a zero page.
    Empty,
    /// The page is there; this is its first byte.
    Page(PhysAddr),
    /// It is elsewhere.
    Gone(Fault),
}

/// What `entry` at `level` of `tables` means.
pub(super) fn absent(tables: &PageTables, level: u8, entry: u64) -> Absent {
    match tables {
        PageTables::Aarch64(tables) => aarch64::absent(tables, level, entry),
        _ => x86_64::absent(level, entry),
    }
}
