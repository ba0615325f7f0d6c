//! Walks by hand: each index was taken from the address' bits with a calculator.

use super::*;
use crate::arch::PageTables;
use crate::memory::FlatMemory;
use alloc::vec;
use alloc::vec::Vec;

/// A page that everybody may read, write and run.
const PAGE: u64 = 0x3 | 1 << 6 | 1 << 10;
const BLOCK: u64 = 0x1 | 1 << 6 | 1 << 10;
const TABLE: u64 = 3;

struct Machine {
    ram: Vec<u8>,
    tables: Aarch64PageTables,
}

fn machine(granule: Granule, bits: u8, entries: &[(usize, u64)]) -> Machine {
    let mut ram = vec![0u8; 0x8_0000];
    for (at, value) in entries {
        ram[*at..*at + 8].copy_from_slice(&value.to_le_bytes());
    }
    let half = Half { root: PhysAddr::new(0x1_0000), bits };
    Machine { ram, tables: Aarch64PageTables::new(granule).with_lower(half).with_upper(half) }
}

impl Machine {
    fn walk(&self, va: u64) -> Result<Walk, TranslateError> {
        self.tables.walk(&FlatMemory::new(PhysAddr::new(0), &self.ram), VirtAddr::new(va))
    }
}

fn levels(walk: &Walk) -> Vec<u8> {
    walk.entries().iter().map(|entry| entry.level).collect()
}

#[test]
fn pages_of_4_kib_and_48_bits() {
    // va 0x7f12_3456_789a: indices 254, 72, 418, 359.
    let machine = machine(
        Granule::K4,
        48,
        &[
            (0x1_0000 + 254 * 8, 0x2_0000 | TABLE),
            (0x2_0000 + 72 * 8, 0x3_0000 | TABLE),
            (0x3_0000 + 418 * 8, 0x4_0000 | TABLE),
            (0x4_0000 + 359 * 8, 0x5_0000 | PAGE | 1 << 7 | 1 << 54),
        ],
    );
    let found = machine.walk(0x7f12_3456_789a).unwrap();
    assert_eq!((found.physical, found.page_size), (PhysAddr::new(0x5_089a), 4096));
    assert_eq!((found.writable, found.user, found.executable), (false, true, false));
    assert_eq!(levels(&found), [4, 3, 2, 1]);
    // The top byte is a program's own.
    assert_eq!(machine.walk(0x3400_7f12_3456_789a).unwrap().physical, found.physical);
}

#[test]
fn the_upper_half_with_39_bits() {
    // va 0xffff_ffc0_8020_0010, 39 bits: indices 258, 1: a block of 2 MiB.
    let entries =
        [(0x1_0000 + 258 * 8, 0x2_0000 | TABLE), (0x2_0000 + 8, 0x4020_0000 | BLOCK & !(1 << 6) | 1 << 53)];
    let machine = machine(Granule::K4, 39, &entries);
    let found = machine.walk(0xffff_ffc0_8020_0010).unwrap();
    assert_eq!((found.physical, found.page_size), (PhysAddr::new(0x4020_0010), 2 << 20));
    assert_eq!((found.writable, found.user, found.executable), (true, false, false));
    assert_eq!(levels(&found), [3, 2]);
    assert!(matches!(
        machine.walk(0xffff_ff7f_8020_0010),
        Err(TranslateError::NotCanonical { levels: 3, .. })
    ));
    assert!(matches!(machine.walk(1 << 39), Err(TranslateError::NotCanonical { .. })));
}

#[test]
fn pages_of_16_kib() {
    // 47 bits: three levels of 11 bits. va 0x4000_5678_9abc: indices 0x400, 43, 0x1e2.
    let machine = machine(
        Granule::K16,
        47,
        &[
            (0x1_0000 + 0x400 * 8, 0x2_0000 | TABLE),
            (0x2_0000 + 43 * 8, 0x3_0000 | TABLE),
            (0x3_0000 + 0x1e2 * 8, 0x4_4000 | PAGE),
            (0x2_0000 + 44 * 8, 0x0a00_0000 | BLOCK),
        ],
    );
    let found = machine.walk(0x4000_5678_9abc).unwrap();
    assert_eq!((found.physical, found.page_size), (PhysAddr::new(0x4_5abc), 16 << 10));
    assert_eq!(levels(&found), [3, 2, 1]);
    // 32 MiB: 0x5800_0000 / 0x200_0000 = 44.
    let found = machine.walk(0x4000_5912_3456).unwrap();
    assert_eq!((found.physical, found.page_size), (PhysAddr::new(0x0b12_3456), 32 << 20));
}

#[test]
fn a_root_of_two_entries() {
    // 48 bits with 16 KiB: the top table resolves bit 47 alone.
    let machine = machine(
        Granule::K16,
        48,
        &[
            (0x1_0008, 0x2_0000 | TABLE),
            (0x2_0000, 0x3_0000 | TABLE),
            (0x3_0000, 0x4_0000 | TABLE),
            (0x4_0000, 0x5_0000 | PAGE),
        ],
    );
    let found = machine.walk(0x8000_0000_0123).unwrap();
    assert_eq!((found.physical, levels(&found)), (PhysAddr::new(0x5_0123), Vec::from([4, 3, 2, 1])));
}

#[test]
fn pages_of_64_kib_and_52_bits() {
    // va 0x000a_bc12_3456_789a: index 0x2af (bits 51 to 42), 0x91 (41 to 29), 0x1456 (28 to 16).
    let machine = machine(
        Granule::K64,
        52,
        &[
            (0x1_0000 + 0x2af * 8, 0x2_0000 | TABLE),
            (0x2_0000 + 0x91 * 8, 0x4_0000 | TABLE),
            // Bits 15 to 12 are the address' bits 51 to 48.
            (0x4_0000 + 0x1456 * 8, 0x7_0000 | 0xa << 12 | PAGE),
            (0x2_0000 + 0x92 * 8, 0x6000_0000 | BLOCK),
        ],
    );
    let found = machine.walk(0x000a_bc12_3456_789a).unwrap();
    assert_eq!((found.physical, found.page_size), (PhysAddr::new(0x000a_0000_0007_789a), 64 << 10));
    assert_eq!(levels(&found), [3, 2, 1]);
    let found = machine.walk(0x000a_bc12_5000_0001).unwrap();
    assert_eq!((found.physical, found.page_size), (PhysAddr::new(0x7000_0001), 512 << 20));
}

#[test]
fn five_levels_with_52_bit_addresses() {
    // va 0x000f_0000_0020_1000: index 15 (bits 51 to 48), then 0, 0, 1, 1.
    let mut machine = machine(
        Granule::K4,
        52,
        &[
            (0x1_0000 + 15 * 8, 0x2_0000 | TABLE),
            (0x2_0000, 0x3_0000 | TABLE),
            (0x3_0000, 0x4_0000 | TABLE),
            (0x4_0008, 0x5_0000 | TABLE),
            // Bits 9 and 8 are the address' bits 51 and 50, bits 49 and 48 their own.
            (0x5_0008, 1 << 49 | 0x6_0000 | 3 << 8 | PAGE),
        ],
    );
    machine.tables = machine.tables.with_ds(true);
    let found = machine.walk(0x000f_0000_0020_1234).unwrap();
    assert_eq!(found.physical, PhysAddr::new(0x000e_0000_0006_0234));
    assert_eq!(levels(&found), [5, 4, 3, 2, 1]);
    // Without DS those bits say how the page is shared.
    machine.tables = machine.tables.with_ds(false);
    assert_eq!(machine.walk(0x000f_0000_0020_1234).unwrap().physical, PhysAddr::new(0x6_0234));
}

#[test]
fn what_a_table_forbids_no_entry_allows() {
    let bits = [(59, "code of the kernel"), (60, "code of programs"), (61, "programs"), (62, "writing")];
    for (bit, what) in bits {
        let entries = [(0x1_0000, 0x2_0000 | TABLE | 1 << bit), (0x2_0000, 0x4000_0000 | BLOCK)];
        let machine = machine(Granule::K4, 39, &entries);
        let lower = machine.walk(0x1000).unwrap();
        let upper = machine.walk(0xffff_ff80_0000_1000).unwrap();
        assert_eq!(upper.executable, bit != 59, "{what}");
        assert_eq!(lower.executable, bit != 60, "{what}");
        assert_eq!(lower.user, bit != 61, "{what}");
        assert_eq!(lower.writable, bit != 62, "{what}");
    }
}

#[test]
fn each_failure_says_where() {
    let machine = machine(
        Granule::K4,
        48,
        &[
            (0x1_0000, 0x2_0000 | TABLE),
            (0x2_0000, 0x3_0000 | TABLE),
            (0x2_0008, 0x10_0000_0000 | TABLE),
            (0x3_0000, 0x4_0000 | TABLE),
            // A block at the lowest level; a swap entry; a block at the top level.
            (0x4_0000, 0x5_0000 | BLOCK),
            (0x4_0008, 0xabc00),
            (0x1_0008, BLOCK),
        ],
    );
    let va = VirtAddr::new;
    assert!(matches!(machine.walk(0), Err(TranslateError::Malformed { level: 1, .. })));
    let at = PhysAddr::new(0x4_0008);
    assert_eq!(
        machine.walk(0x1000),
        Err(TranslateError::NotPresent { va: va(0x1000), level: 1, at, entry: 0xabc00 })
    );
    assert!(matches!(machine.walk(1 << 30), Err(TranslateError::Table { level: 2, .. })));
    assert!(matches!(machine.walk(1 << 39), Err(TranslateError::Malformed { level: 4, .. })));
    let none = Aarch64PageTables::new(Granule::K4);
    let memory = FlatMemory::new(PhysAddr::new(0), &machine.ram);
    assert_eq!(none.walk(&memory, va(0)), Err(TranslateError::NoTables { va: va(0) }));
    let odd = none.with_lower(Half { root: PhysAddr::new(0), bits: 64 });
    assert_eq!(odd.walk(&memory, va(0)), Err(TranslateError::NoTables { va: va(0) }));
}

#[test]
fn all_pages_of_a_half_are_gone_through() {
    let machine = machine(
        Granule::K16,
        47,
        &[
            (0x1_0000 + 0x400 * 8, 0x2_0000 | TABLE),
            (0x2_0000 + 43 * 8, 0x3_0000 | TABLE),
            (0x3_0000 + 0x1e2 * 8, 0x4_4000 | PAGE),
            (0x2_0000 + 44 * 8, 0x0a00_0000 | BLOCK),
        ],
    );
    let memory = FlatMemory::new(PhysAddr::new(0), &machine.ram);
    let tables = PageTables::Aarch64(machine.tables);
    for (space, first) in [(Space::User, 0), (Space::Kernel, 0xffff_8000_0000_0000)] {
        let pages: Vec<_> = tables.present(&memory, space, 100).map(Result::unwrap).collect();
        let found: Vec<_> = pages.iter().map(|page| (page.start.get() - first, page.size)).collect();
        // Index 0x400 is bit 46; 43 and 44 are 32 MiB each, 0x1e2 is 16 KiB each.
        let large = 0x4000_0000_0000 + 44 * 0x200_0000;
        assert_eq!(
            found,
            [(0x4000_0000_0000 + 43 * 0x200_0000 + 0x1e2 * 0x4000, 16 << 10), (large, 32 << 20)]
        );
        for page in &pages {
            assert_eq!(machine.walk(page.start.get()).unwrap().physical, page.physical);
        }
    }
    let none = PageTables::Aarch64(Aarch64PageTables::new(Granule::K4));
    assert_eq!(none.present(&memory, Space::User, 100).count(), 0);
}
