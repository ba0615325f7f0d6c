//! Sections and stacks that were tampered with: nothing panics, nothing hangs.

#![allow(clippy::indexing_slicing, reason = "a test may panic, and so may its helpers")]

mod common;

use std::sync::Arc;

use common::{Random, Words, functions, libc, libc_aarch64, times};
use vmc::{Limits, VirtAddr};
use vmc_unwind::x86_64::Registers;
use vmc_unwind::{
    Cache, Module, ModuleMap, RowError, Scratch, Section, Sections, UnwindTable, Unwinder, aarch64,
};

/// Looks up some addresses and walks a stack of noise from each.
fn exercise(
    sections: Sections,
    functions: &[std::ops::Range<u64>],
    random: &mut Random,
    scratch: &mut Scratch,
) {
    let table = Arc::new(UnwindTable::new(sections));
    let range = VirtAddr::new(0)..VirtAddr::new(1 << 32);
    let modules = ModuleMap::new(vec![Module { range, bias: 0, table: Some(table.clone()), index: 0 }]);
    let limits = Limits { frames: 40, expression_steps: 100, ..Limits::default() };
    let mut cache = Cache::new();
    for _ in 0..8 {
        let mut address = || {
            let function = &functions[random.below(functions.len())];
            function.start + random.next() % (function.end - function.start).max(1)
        };
        let ip = address();
        let stack = (0..256).map(|n| if n % 3 == 0 { 0x1000 + n * 8 } else { address() }).collect();
        let _ = table.row_for(ip, scratch);
        let memory = Words(0x1000, stack);
        let general = core::array::from_fn(|n| 0x1000 + 8 * n as u64);
        let unwinder = Unwinder::new(&modules, &memory, &limits);
        let mut walk = unwinder.walk(Registers::with_all(VirtAddr::new(ip), general), &mut cache);
        assert!(walk.by_ref().count() <= limits.frames);
        let _ = walk.stop();
        let general =
            core::array::from_fn(
                |n| if n == 30 { ip ^ 0x5500_0000_0000_0040 } else { 0x1000 + 8 * n as u64 },
            );
        let registers = aarch64::Registers::with_all(VirtAddr::new(ip), VirtAddr::new(0x1000), general);
        let mut walk = unwinder.walk_aarch64(registers, &mut cache);
        assert!(walk.by_ref().count() <= limits.frames);
        let _ = walk.stop();
    }
}

#[test]
fn flipped_bits() {
    for original in [libc(), libc_aarch64()].into_iter().flatten() {
        flip_bits(&original);
    }
}

fn flip_bits(original: &Sections) {
    let functions = functions(original);
    assert!(functions.len() > 1000);
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut scratch = Scratch::new();
    for round in times(300) {
        let mut sections = original.clone();
        for _ in 0..1 << (round % 14) {
            let bytes = &mut sections.eh_frame.bytes;
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << (random.next() % 8);
            let bytes = &mut sections.eh_frame_hdr.bytes;
            let at = if round % 5 == 0 { random.below(12) } else { random.below(bytes.len()) };
            bytes[at] ^= 1 << (random.next() % 8);
        }
        exercise(sections, &functions, &mut random, &mut scratch);
    }
}

/// Whole entries of noise behind a CIE that is believed.
#[test]
fn noise_for_instructions() {
    for original in [libc(), libc_aarch64()].into_iter().flatten() {
        put_noise(&original);
    }
}

fn put_noise(original: &Sections) {
    let functions = functions(original);
    let mut random = Random(0xfeed_beef);
    let mut scratch = Scratch::new();
    for _ in times(300) {
        let mut sections = original.clone();
        let bytes = &mut sections.eh_frame.bytes;
        let mut at = 0;
        // Every entry keeps its length, its CIE and its addresses.
        while let Some(length) = bytes.get(at..at + 4) {
            let length = length.try_into().map_or(0, u32::from_le_bytes) as usize;
            if length == 0 {
                break;
            }
            for byte in &mut bytes[at + 17..at + 4 + length] {
                // Operations with low numbers are the interesting ones.
                *byte = (random.next() as u8) & if random.below(2) == 0 { 0x3f } else { 0xff };
            }
            at += 4 + length;
        }
        exercise(sections, &functions, &mut random, &mut scratch);
    }
}

#[test]
fn truncated_sections() {
    let Some(original) = libc() else { return };
    let functions = functions(&original);
    let mut random = Random(0xabcd_ef01);
    let mut scratch = Scratch::new();
    for round in times(200) {
        let mut sections = original.clone();
        let header_len = if round < 40 { round } else { random.below(sections.eh_frame_hdr.bytes.len()) };
        sections.eh_frame_hdr.bytes.truncate(header_len);
        let len =
            if round % 2 == 0 { random.below(200) } else { random.below(sections.eh_frame.bytes.len()) };
        sections.eh_frame.bytes.truncate(len);
        exercise(sections, &functions, &mut random, &mut scratch);
    }
}

#[test]
fn holes_are_never_read() {
    let Some(original) = libc() else { return };
    let functions = functions(&original);
    let whole = UnwindTable::new(original.clone());
    let mut random = Random(0x0dd_ba11);
    let mut scratch = Scratch::new();
    for round in times(20) {
        let mut sections = original.clone();
        if round % 2 == 0 {
            sections.eh_frame_hdr = Section::default();
        }
        for section in [&mut sections.eh_frame_hdr, &mut sections.eh_frame] {
            // Pages at random, filled with what must not be believed.
            for page in (0..section.bytes.len()).step_by(4096) {
                if page > 0 && random.below(4) == 0 {
                    let end = (page + 4096).min(section.bytes.len());
                    section.bytes[page..end].fill(if round % 3 == 0 { 0 } else { 0xa5 });
                    section.missing.push(page as u64..end as u64);
                }
            }
        }
        let holed = UnwindTable::new(sections);
        let (mut same, mut missing) = (0, 0);
        for function in functions.iter().step_by(7) {
            match holed.row_for(function.start, &mut scratch) {
                Err(RowError::NotResident { .. }) => missing += 1,
                other => {
                    same += 1;
                    assert_eq!(other, whole.row_for(function.start, &mut scratch), "{:#x}", function.start);
                }
            }
        }
        assert!(same + missing > 100);
    }
}

#[test]
fn noise() {
    let mut random = Random(0x600d_f00d);
    let mut scratch = Scratch::new();
    let functions = [0x1000..0x2000, 0x2000..u64::from(u32::MAX)];
    for round in times(2000) {
        let mut bytes: Vec<u8> = (0..random.below(400) + 1).map(|_| (random.next() as u8) & 0x1f).collect();
        let mut header = bytes.clone();
        if round % 2 == 0 {
            header = [&[1, 0x1b, 0x03, 0x3b, 0, 0, 0, 0, 255, 255, 255, 255][..], &header].concat();
        }
        if round % 3 == 0 && bytes.len() > 8 {
            // A length that holds, and then a length of 64 bits that does not.
            let length = bytes.len() as u32 - 4;
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            bytes[4..8].copy_from_slice(&[0; 4]);
            bytes.extend([0xff; 12]);
        }
        let sections = Sections {
            eh_frame_hdr: Section::new(0, header),
            eh_frame: Section::new(u64::MAX - 64, bytes),
            ..Sections::default()
        };
        exercise(sections, &functions, &mut random, &mut scratch);
    }
}
