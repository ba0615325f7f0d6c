//! What Linux keeps in an x86_64 page-table entry that is not present.
//!
//! Source: `arch/x86/include/asm/pgtable_64.h`, `pgtable-invert.h`, `include/linux/swapops.h`. An entry with bit 8 is a page
//! that is there but may not be touched (`PROT_NONE`, NUMA balancing), its frame number inverted; any other that is not zero is
//! a swap entry: type in bits 59 to 63, inverted offset in bits 14 to 58.

use vmc::{Fault, PhysAddr};

use super::Absent;

const PROT_NONE: u64 = 1 << 8;
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// Swap devices have the numbers below; those above mean migration, poison, devices and markers.
const SWAP_TYPES: u64 = 23;

/// What `entry` at `level` means.
pub(super) fn absent(level: u8, entry: u64) -> Absent {
    if entry == 0 {
        return Absent::Empty;
    }
    if entry & PROT_NONE != 0 && level <= 2 {
        let base = !entry & FRAME;
        let size = if level == 2 { 2 << 20 } else { 4096 };
        return Absent::Page(PhysAddr::new(base).align_down(size));
    }
    let kind = entry >> 59;
    if kind < SWAP_TYPES {
        return Absent::Gone(Fault::Swapped { kind: kind as u8, offset: (!entry << 5) >> 14 });
    }
    Absent::Gone(Fault::Special { reason: "the page is being moved, is poisoned or belongs to a device" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_as_the_kernel_makes_them() {
        assert_eq!(absent(1, 0), Absent::Empty);
        // pfn 0x12345, PROT_NONE: the frame bits are inverted.
        let prot_none = (!(0x1_2345u64 << 12) & FRAME) | PROT_NONE;
        assert_eq!(absent(1, prot_none), Absent::Page(PhysAddr::new(0x1234_5000)));
        // __swp_entry(type 1, offset 0x42): (~offset << 14 >> 5) | type << 59
        let swap = ((!0x42u64) << 14 >> 5) & !PROT_NONE | 1 << 59;
        assert_eq!(absent(1, swap), Absent::Gone(Fault::Swapped { kind: 1, offset: 0x42 }));
        assert!(matches!(absent(1, 31 << 59), Absent::Gone(Fault::Special { .. })));
    }
}
