//! What slots are, on slots as monitors make them.

use super::*;
use crate::maps;

const HOST: u64 = 0x7f00_0000_0000;
const MIB: u64 = 1 << 20;

fn slot(guest: u64, len: u64, host: u64, flags: u32) -> Memslot {
    Memslot { id: 0, guest: PhysAddr::new(guest), len, host, flags, kind: SlotKind::Ram }
}

fn maps() -> Vec<Map> {
    let text = "\
7e0000000000-7e0000100000 rw-s 00000000 00:0f 9   anon_inode:[vfio-device]
7f0000000000-7f0200000000 rw-p 00000000 00:00 0
7f1000000000-7f1001100000 rw-p 00000000 00:00 0
";
    maps::parse(1, text).unwrap()
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_pc_has_ram_shadows_firmware_and_devices() {
    use SlotKind::{Device, Other, Ram, ReadOnly};
    // A `pc` of 6 GiB: its low MiB in parts, some protected; a graphics card, a device of the host, firmware.
    let wanted = [
        (slot(0, 0xc_3000, HOST, 0), Ram),
        (slot(0xc_3000, 0x2_5000, HOST + 0xc_3000, READ_ONLY), Ram),
        (slot(0xe_8000, 0x8000, HOST + 0xe_8000, 0), Ram),
        (slot(0xf_0000, 0x1_0000, HOST + 0xf_0000, READ_ONLY), Ram),
        (slot(MIB, 3071 * MIB, HOST + MIB, 0), Ram),
        (slot(0xfd00_0000, 16 * MIB, 0x7f10_0000_0000, 1), Other),
        (slot(0xfe00_0000, MIB, 0x7e00_0000_0000, 0), Device),
        (slot(0xfffc_0000, 0x4_0000, 0x7f10_0100_0000, READ_ONLY), ReadOnly),
        (slot(4 << 30, 3072 * MIB, HOST + (3 << 30), 0), Ram),
    ];
    let mut slots: Vec<_> = wanted.iter().map(|(slot, _)| *slot).collect();
    mark(&mut slots, &maps()).unwrap();
    for (found, (_, kind)) in slots.iter().zip(wanted) {
        assert_eq!(found.kind, kind, "{}", found.guest);
    }
}

#[test]
fn firmware_over_ram_is_none() {
    // microvm: another block where the last part of the first MiB is.
    let mut slots = [
        slot(0, 0xf_0000, HOST, 0),
        slot(0xf_0000, 0x1_0000, 0x7f10_0000_0000, READ_ONLY),
        slot(MIB, 63 * MIB, HOST + MIB, 0),
    ];
    mark(&mut slots, &maps()).unwrap();
    assert_eq!(slots.map(|slot| slot.kind), [SlotKind::Ram, SlotKind::ReadOnly, SlotKind::Ram]);
}

#[test]
fn a_slot_of_nothing_is_refused() {
    assert!(mark(&mut [slot(0, MIB, 0x1000, 0)], &maps()).is_err());
}
