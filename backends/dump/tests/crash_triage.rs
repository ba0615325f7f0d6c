//! Triage dumps, written here by the format's description: the pieces of the kernel's memory that they lend, and headers that lie.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use common::crash::{open, put, triage, warned};
use common::noise;
use vmc::{PhysMemory, VirtAddr};
use vmc_dump::TriagePart;

/// Blocks of memory of which two overlap with others, one touches another, and one would pass the end of memory.
fn blocks() -> Vec<(u64, Vec<u8>)> {
    let at = 0xffff_8000_0000_0000;
    vec![
        (at + 0x3000, noise(0x100, 1)),
        (at + 0x1000, noise(0x200, 2)),
        (at + 0x1100, noise(0x300, 3)),
        (at + 0x1400, noise(0x10, 4)),
        (at + 0x2f80, noise(0x300, 5)),
        (u64::MAX - 0x10, noise(0x20, 6)),
    ]
}

#[test]
fn a_triage_dump_lends_its_ranges() {
    let blocks = blocks();
    let lent: Vec<(u64, &[u8])> = blocks.iter().map(|(at, bytes)| (*at, &bytes[..])).collect();
    for (machine, entry) in [(0x8664, 0x90), (0xaa64, 0xa8), (0x8664, 0x98)] {
        let names = [r"\SystemRoot\system32\ntoskrnl.exe", "", "ü🦀.sys"];
        let image = open(&triage(machine, &lent, &names, entry)).unwrap();
        assert_eq!((image.format().name(), image.regions()), ("crash-triage", &[][..]));
        assert_eq!(warned(&image), ["blocks that pass the end of memory are left out: 1"]);
        let memory = image.virtual_memory().unwrap();
        // Of overlapping ones the first counts, byte by byte.
        let expected = |addr: u64| {
            let own = blocks.iter().take(5).find(|(at, bytes)| addr.wrapping_sub(*at) < bytes.len() as u64);
            own.map(|(at, bytes)| bytes[(addr - at) as usize])
        };
        let base = 0xffff_8000_0000_0000;
        for addr in base + 0xf00..base + 0x3400 {
            let mut byte = [0];
            let read = memory.read(VirtAddr::new(addr), &mut byte).is_ok().then_some(byte[0]);
            assert_eq!(read, expected(addr), "{addr:#x}");
        }
        // Across borders: as far as it goes, and why no further.
        let mut buf = vec![0; 0x500];
        let why = memory.read(VirtAddr::new(base + 0x1000), &mut buf).unwrap_err();
        assert_eq!((why.done, why.addr.get()), (0x410, base + 0x1410));
        assert!((0..0x410).all(|at| Some(buf[at]) == expected(base + 0x1000 + at as u64)));
        assert!(why.to_string().contains("not in the triage dump"), "{why}");
        assert!(memory.read(VirtAddr::new(u64::MAX), &mut [0; 2]).is_err());
        // The saved stack and the debugger's data are memory too.
        let stack = image.triage_part(TriagePart::CallStack).unwrap();
        let mut bytes = vec![0; 0x100];
        memory.read(VirtAddr::new(0xffff_a000_0000_1f80), &mut bytes).unwrap();
        assert!(bytes == stack && stack == noise(0x100, 7));
        assert_eq!(
            memory.read_u64(VirtAddr::new(0xffff_f800_0000_0b20)).unwrap(),
            u64::from_le_bytes([0xdb; 8])
        );
        let facts = image.crash().unwrap().triage.as_ref().unwrap();
        assert_eq!((facts.data_blocks, facts.process, facts.thread), (6, None, None));
        let drivers: Vec<_> = facts
            .drivers
            .iter()
            .map(|driver| (driver.name.as_str(), driver.size, driver.timestamp))
            .collect();
        assert_eq!(drivers, [(names[0], 0x1000, 0x22), ("", 0x2000, 0x23), (names[2], 0x3000, 0x24)]);
        for (part, byte, len) in [
            (TriagePart::Prcb, 0x1c, 0x30),
            (TriagePart::Process, 0x20, 0x40),
            (TriagePart::Thread, 0x24, 0x50),
        ] {
            assert_eq!(image.triage_part(part), Some(&vec![byte; len][..]));
        }
    }
}

#[test]
fn hostile_triage_headers_cost_nothing() {
    let block = noise(0x40, 1);
    let whole = triage(0x8664, &[(0xffff_8000_0000_0000, &block)], &["a.sys"], 0x90);
    // Every field of the header at every extreme: no panic, no allocation by its say-so; what the file has is still bounded.
    for at in (0x2000..0x2080).step_by(4) {
        for value in [0, 1, 0x1fff, 0x2000, whole.len() as u32 - 1, whole.len() as u32, 0x7fff_ffff, u32::MAX]
        {
            let mut dump = whole.clone();
            put(&mut dump, at, &value.to_le_bytes());
            let image = open(&dump).unwrap();
            let triage = image.crash().unwrap().triage.as_ref().unwrap();
            assert!(triage.drivers.len() <= dump.len() / 0x90 && triage.data_blocks <= dump.len() / 16);
            let _ =
                image.virtual_memory().unwrap().read(VirtAddr::new(0xffff_8000_0000_0000), &mut [0; 0x40]);
        }
    }
    let field = |at: usize, value: u32| {
        let mut dump = whole.clone();
        put(&mut dump, 0x2000 + at, &value.to_le_bytes());
        open(&dump).unwrap().warnings().join("; ")
    };
    assert!(field(0x34, u32::MAX).contains("of the 4294967295 drivers that the dump counts"));
    assert!(field(0x7c, u32::MAX).contains("of the 4294967295 blocks of memory that the dump counts"));
    assert!(field(0x8, 0).contains("lacks its end mark"));
    // Cut anywhere: what is cut off is told, and what is there is read.
    for len in (0x2080..whole.len()).step_by(7) {
        let image = open(&whole[..len]).unwrap();
        assert!(warned(&image)[0].starts_with("the image is cut short"), "{len:#x}");
    }
    let cut = open(&whole[..whole.len() - 0x24]).unwrap();
    let mut bytes = [0; 0x40];
    let why =
        cut.virtual_memory().unwrap().read(VirtAddr::new(0xffff_8000_0000_0000), &mut bytes).unwrap_err();
    assert_eq!((why.done, &bytes[..0x20]), (0x20, &block[..0x20]));
    assert!(why.to_string().contains("the triage dump ends before it"), "{why}");
}
