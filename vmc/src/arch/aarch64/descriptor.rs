//! What stands in an aarch64 page table (Arm ARM, D8.3 "Translation table descriptor formats").

use super::Granule;
use crate::addr::PhysAddr;

const VALID: u64 = 1;
/// A table, or at the lowest level a page; else a block.
const TABLE: u64 = 1 << 1;
/// AP\[1\]: EL0 may reach it. AP\[2\]: nobody may write it.
const EL0: u64 = 1 << 6;
const READ_ONLY: u64 = 1 << 7;
const PRIVILEGED_EXECUTE_NEVER: u64 = 1 << 53;
const USER_EXECUTE_NEVER: u64 = 1 << 54;
/// The same for everything below a table.
const TABLE_PRIVILEGED_EXECUTE_NEVER: u64 = 1 << 59;
const TABLE_USER_EXECUTE_NEVER: u64 = 1 << 60;
const TABLE_NOT_EL0: u64 = 1 << 61;
const TABLE_READ_ONLY: u64 = 1 << 62;

/// What all levels of a walk allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowed {
    pub(super) writable: bool,
    pub(super) user: bool,
    /// Code may be fetched by EL0, by EL1.
    pub(super) user_code: bool,
    pub(super) kernel_code: bool,
}

impl Allowed {
    pub(super) const ALL: Self = Self { writable: true, user: true, user_code: true, kernel_code: true };

    /// What is left below the table that `entry` leads to.
    pub(super) const fn below(self, entry: u64) -> Self {
        Self {
            writable: self.writable && entry & TABLE_READ_ONLY == 0,
            user: self.user && entry & TABLE_NOT_EL0 == 0,
            user_code: self.user_code && entry & TABLE_USER_EXECUTE_NEVER == 0,
            kernel_code: self.kernel_code && entry & TABLE_PRIVILEGED_EXECUTE_NEVER == 0,
        }
    }

    /// What is left for the page or block that `entry` maps.
    pub(super) const fn at(self, entry: u64) -> Self {
        Self {
            writable: self.writable && entry & READ_ONLY == 0,
            user: self.user && entry & EL0 != 0,
            user_code: self.user_code && entry & USER_EXECUTE_NEVER == 0,
            kernel_code: self.kernel_code && entry & PRIVILEGED_EXECUTE_NEVER == 0,
        }
    }
}

pub(super) const fn is_valid(entry: u64) -> bool {
    entry & VALID != 0
}

pub(super) const fn is_table_or_page(entry: u64) -> bool {
    entry & TABLE != 0
}

/// The address that `entry` holds, of what is aligned to `size` bytes.
///
/// Bits 47 down to the size's; with 64 KiB pages bits 15 to 12 hold bits 51 to 48 (FEAT_LPA); with smaller ones and
/// TCR_EL1.DS (FEAT_LPA2) bits 49 and 48 are their own and bits 9 and 8 hold bits 51 and 50.
pub(super) const fn address(entry: u64, size: u64, granule: Granule, ds: bool) -> PhysAddr {
    const BELOW_48: u64 = (1 << 48) - 1;
    const BELOW_50: u64 = (1 << 50) - 1;
    let aligned = entry & !(size - 1);
    PhysAddr::new(match (granule, ds) {
        (Granule::K64, _) => aligned & BELOW_48 | (entry >> 12 & 0xf) << 48,
        (_, true) => aligned & BELOW_50 | (entry >> 8 & 3) << 50,
        (_, false) => aligned & BELOW_48,
    })
}
