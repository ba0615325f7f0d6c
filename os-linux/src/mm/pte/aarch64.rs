//! What Linux keeps in an aarch64 page-table entry that is not valid.
//!
//! Source: `arch/arm64/include/asm/pgtable.h`, `pgtable-prot.h`, `include/linux/swapops.h`. A page that is there but may not be
//! touched (`PROT_NONE`, NUMA balancing, a huge page that is being split) keeps its attributes: it is not global (bit 11) and never
//! executable by anybody (bits 53 and 54). In swap entries those are bits of the offset that no device is large enough to
//! set: the type stands in bits 2 to 7 (until 5.18), 3 to 7, or 6 to 10 (since 6.11), the offset in bits 8 to 57 or 12 to 61.

use vmc::Fault;
use vmc::arch::aarch64::Aarch64PageTables;

use super::Absent;

const NOT_GLOBAL: u64 = 1 << 11;
const NEVER_EXECUTABLE: u64 = 3 << 53;
/// Swap devices have the numbers below; those above mean migration, poison, devices and markers.
const SWAP_TYPES: u64 = 23;
const OFFSET: u64 = (1 << 50) - 1;
const UNUSED_LATER: u64 = 1 << 4 | 1 << 5 | 1 << 11;
const FEW_DEVICES: u64 = 4;

/// What `entry` at `level` means.
pub(super) fn absent(tables: &Aarch64PageTables, level: u8, entry: u64) -> Absent {
    if entry == 0 {
        return Absent::Empty;
    }
    if entry & NOT_GLOBAL != 0 && entry & NEVER_EXECUTABLE == NEVER_EXECUTABLE && level <= 2 {
        return Absent::Page(tables.entry_address(level, entry));
    }
    // Since 6.11 bits 4, 5 and 11 of a swap entry are zero, and devices' numbers mostly small. Where the offset begins at bit 8,
    // one of sixteen entries looks like that.
    let later = entry >> 6 & 0x1f;
    let plausible = later < FEW_DEVICES || (later >= SWAP_TYPES && later & 3 != 0);
    let (kind, offset) = if entry & UNUSED_LATER == 0 && plausible {
        (later, entry >> 12 & OFFSET)
    } else {
        (entry >> 3 & 0x1f, entry >> 8 & OFFSET)
    };
    if kind < SWAP_TYPES {
        return Absent::Gone(Fault::Swapped { kind: kind as u8, offset });
    }
    Absent::Gone(Fault::Special { reason: "the page is being moved, is poisoned or belongs to a device" })
}

#[cfg(test)]
mod tests {
    use vmc::PhysAddr;
    use vmc::arch::aarch64::Granule;

    use super::*;

    #[test]
    fn entries_as_the_kernel_makes_them() {
        let tables = Aarch64PageTables::new(Granule::K4);
        let absent = |level, entry| absent(&tables, level, entry);
        assert_eq!(absent(1, 0), Absent::Empty);
        // PAGE_NONE at 0x4123_4000 until 6.10: PROT_NONE (58), UXN, PXN, NG, AF, SH, AP[2], page.
        let attributes = 3 << 53 | 1 << 11 | 1 << 10 | 3 << 8 | 1 << 7 | 2;
        assert_eq!(absent(1, 1 << 58 | 0x4123_4000 | attributes), Absent::Page(PhysAddr::new(0x4123_4000)));
        // Since then bit 58 is not set; a huge page.
        assert_eq!(absent(2, 0x4120_0000 | attributes & !2), Absent::Page(PhysAddr::new(0x4120_0000)));
        // Until 6.10: type 1, offset 0x42; since 6.11 the same, and one that is a migration (type 30).
        assert_eq!(absent(1, 0x42 << 8 | 1 << 3), Absent::Gone(Fault::Swapped { kind: 1, offset: 0x42 }));
        assert_eq!(absent(1, 0x42 << 12 | 1 << 6), Absent::Gone(Fault::Swapped { kind: 1, offset: 0x42 }));
        assert!(matches!(absent(1, 0x1234 << 12 | 30 << 6), Absent::Gone(Fault::Special { .. })));
        assert!(matches!(absent(1, 31 << 3), Absent::Gone(Fault::Special { .. })));
    }
}
