//! The quick way to a rule against gimli's rows, over libc whole and damaged.

use super::*;
use alloc::vec;
use object::{Object, ObjectSection};

#[test]
fn the_quick_way_is_the_same_way() {
    agrees::<crate::x86_64::rule::Unfinished>("/lib/x86_64-linux-gnu/libc.so.6");
}

#[test]
fn the_quick_way_is_the_same_way_on_aarch64() {
    agrees::<crate::aarch64::rule::Unfinished>("/usr/aarch64-linux-gnu/lib/libc.so.6");
}

/// The quick way and gimli's agree, on what libc holds and on what is left of it after bits were flipped.
fn agrees<U: Unfinished<Rule: PartialEq>>(path: &str) {
    extern crate std;
    let Ok(file) = std::fs::read(path) else {
        assert!(std::env::var_os("VMC_REQUIRE_ALL").is_none(), "{path} is not there");
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            std::format_args!("skipped: {path} is not there\n"),
        );
        return;
    };
    let object = object::read::elf::ElfFile64::<object::LittleEndian>::parse(&*file).unwrap();
    let read = |name| {
        let section = object.section_by_name(name).unwrap();
        Section::new(section.address(), section.data().unwrap().to_vec())
    };
    let (eh_frame_hdr, eh_frame) = (read(".eh_frame_hdr"), read(".eh_frame"));
    let mut scratch = Scratch::new();
    let (mut quick, mut slow, mut wrong) = (0, 0, vec![]);
    for round in 0u64..4 {
        let mut eh_frame = eh_frame.clone();
        let mut at = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(round + 1);
        for _ in 0..round * 5000 {
            at = at.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let place = (at >> 20) as usize % eh_frame.bytes.len();
            eh_frame.bytes[place] ^= 1 << (at >> 60 & 7);
        }
        let table = UnwindTable::new(Sections {
            eh_frame_hdr: eh_frame_hdr.clone(),
            eh_frame,
            ..Sections::default()
        });
        let section = table.eh_section(AddressSize::Eight);
        for entry in eh_frame_hdr.bytes[12..].chunks_exact(8) {
            let start = i32::from_le_bytes(entry[..4].try_into().unwrap());
            let start = eh_frame_hdr.address.wrapping_add_signed(start.into());
            let Ok(fde) = table.fde_for(&section, start, &mut scratch) else { continue };
            for address in (start..fde.end_address()).step_by(13).take(200) {
                let row = table.raw_row(&section, &fde, address, &mut scratch);
                let expected =
                    row.ok().and_then(|row| from_row::<U>(row, fde.cie().return_address_register()));
                match quick_rule::<U, _>(&fde, &section, &table.bases, address) {
                    Some(rule) if Some(rule) == expected => quick += 1,
                    Some(_) => wrong.push(address),
                    None => slow += usize::from(expected.is_some() && round == 0),
                }
            }
        }
    }
    assert_eq!(wrong, []);
    assert!(quick > 100_000 && slow < 100, "{quick} quick, {slow} not");
}
