//! Windows crash dumps, written here by the format's description: what they hold, and what comes of those that are cut, flipped or lie.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

mod common;

use std::io::Write;

use common::crash::{bitmap, full, header, list, page, put, triage};
use common::{Scratch, noise};
use vmc::{Architecture, PhysAddr, PhysError, PhysMemory, Registers, Vcpus, VirtAddr};
use vmc_dump::{BugCheck, Format, Image, OpenError, TriagePart};

fn open(dump: &[u8]) -> Result<Image, OpenError> {
    let scratch = Scratch::new();
    Image::open(scratch.file("dump", dump))
}

/// The line that says why it is not opened, without the file's name.
fn refused(dump: &[u8]) -> String {
    let line = open(dump).unwrap_err().to_string();
    assert!(!line.contains('\n'), "{line}");
    line.split_once(": ").unwrap().1.to_owned()
}

/// What there is no registers for is said in each of these dumps.
const NO_CONTEXT: &str = "the header's CONTEXT is not filled in: no registers";

fn warned(image: &Image) -> Vec<&str> {
    let lines = image.warnings().iter().map(String::as_str);
    lines.filter(|line| *line != NO_CONTEXT).collect()
}

fn holds(image: &Image, number: u64) -> bool {
    let lent = image.slice(PhysAddr::new(number << 12), 0x1000);
    lent.is_some_and(|bytes| bytes == page(number))
}

#[test]
fn runs_follow_one_another_in_a_full_dump() {
    let runs = [(0x100, 3), (1, 2), (0x10_0000, 4)];
    let image = open(&full(&runs)).unwrap();
    assert_eq!((image.format().name(), image.architecture()), ("crash-full", Some(Architecture::X86_64)));
    assert!(runs.iter().flat_map(|(first, count)| *first..first + count).all(|number| holds(&image, number)));
    assert_eq!((image.total(), image.ram_bytes(), image.count()), (9 << 12, 9 << 12, 0));
    assert_eq!((warned(&image), image.warnings()), (vec![], &[NO_CONTEXT.to_owned()][..]));
    let (addr, len) = (PhysAddr::new(0x3000), 1);
    assert_eq!(image.read(addr, &mut [0]), Err(PhysError::NoMemory { addr, len }));
    let facts = image.crash().unwrap();
    assert_eq!(
        (facts.directory_table_base, facts.page_table_root()),
        (0x1a_a002, Some(PhysAddr::new(0x1a_a000)))
    );
    assert_eq!((facts.build, facts.processors, facts.bug_check), (Some(22000), Some(2), None));
    // What else the header may say.
    let mut dump = full(&runs);
    put(&mut dump, 0x38, &0x50u32.to_le_bytes());
    (0..4).for_each(|index| put(&mut dump, 0x40 + index * 8, &(index as u64).to_le_bytes()));
    let record: Vec<u8> =
        [0x1_c000_0005u64, 0, 0xffff_f800_0000_1234, 2, 1, 0xdead].map(u64::to_le_bytes).concat();
    put(&mut dump, 0xf00, &record);
    // 2020-01-01 00:00:00 UTC: 18262 days since 1970, which is 134774 days behind 1601.
    put(&mut dump, 0xfa8, &((134_774 + 18_262) * 86_400 * 10_000_000u64).to_le_bytes());
    put(&mut dump, 0xfb0, b"taken\x1b by hand\0");
    put(&mut dump, 0x1030, &25_000_000u64.to_le_bytes());
    put(&mut dump, 0x1040, &3u32.to_le_bytes());
    let image = open(&dump).unwrap();
    let facts = image.crash().unwrap();
    assert_eq!(facts.bug_check, Some(BugCheck { code: 0x50, parameters: [0, 1, 2, 3] }));
    let exception = facts.exception.as_ref().unwrap();
    assert_eq!(
        (exception.code, exception.flags, exception.address.get()),
        (0xc000_0005, 1, 0xffff_f800_0000_1234)
    );
    assert_eq!(exception.parameters, [1, 0xdead]);
    assert_eq!(facts.system_time, Some(18_262 * 86_400 * 1_000_000_000));
    assert_eq!((facts.up_time, facts.product_type), (Some(std::time::Duration::from_millis(2500)), Some(3)));
    assert_eq!(facts.comment.as_deref(), Some(r"taken\x1b by hand"));
    // The runs are believed, whatever the count of pages says.
    let mut dump = full(&runs);
    put(&mut dump, 0x90, &8u64.to_le_bytes());
    let image = open(&dump).unwrap();
    assert_eq!(warned(&image), ["the header counts 8 pages, its runs have 9: the runs are believed"]);
}

#[test]
fn bitmaps_are_read_in_all_their_kinds() {
    let pages: Vec<u64> = (3..70)
        .chain([100, 4095])
        .chain(200..264)
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    for (kind, magic, bits) in [(5, b"SDMPDUMP", 4096), (5, b"FDMPDUMP", 4099), (6, b"SDMPDUMP", 4200)] {
        let image = open(&bitmap(kind, magic, bits, &pages)).unwrap();
        assert_eq!((image.format(), image.crash().unwrap().dump_type), (Format::CrashBitmap, kind));
        for number in 0..4200 {
            assert_eq!(holds(&image, number), pages.contains(&number), "{number}");
        }
        assert_eq!((image.total(), warned(&image)), ((pages.len() as u64) << 12, vec![]));
    }
    // What the machine had beyond the bitmap's pages was left out; where the header contradicts itself that is not known.
    let mut dump = bitmap(5, b"SDMPDUMP", 4096, &pages);
    list(&mut dump, &[(1, 0x80), (0x80_0000, 1)]);
    let image = open(&dump).unwrap();
    assert_eq!(
        image.ram_bytes(),
        (0x80 + 1 + pages.iter().filter(|number| **number > 0x80).count() as u64) << 12
    );
    let why = image.read(PhysAddr::new(0x2000), &mut [0]).unwrap_err();
    assert!(why.to_string().contains("made without it"), "{why}");
    list(&mut dump, &[(1, 0x80), (0x40, 1)]);
    let image = open(&dump).unwrap();
    assert_eq!(
        warned(&image),
        ["its runs of physical memory from pages 0x1 and 0x40 overlap: they are left out"]
    );
    assert!(pages.iter().all(|number| holds(&image, *number)));
}

#[test]
fn packed_dumps_are_the_same() {
    let dump = full(&[(1, 20)]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&dump).unwrap();
    let image = open(&gzip.finish().unwrap()).unwrap();
    assert!(
        image.compressed()
            && image.format() == Format::CrashFull
            && (1..21).all(|number| holds(&image, number))
    );
}

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
fn registers_are_those_of_the_context() {
    let mut dump = header(1, 0xaa64);
    list(&mut dump, &[(1, 1)]);
    put(&mut dump, 0x348, &0x40_0007u32.to_le_bytes());
    put(&mut dump, 0x348 + 4, &0x6000_0004u32.to_le_bytes());
    (0..33u64).for_each(|index| put(&mut dump, 0x348 + 8 + index as usize * 8, &(index + 1).to_le_bytes()));
    let image = open(&dump).unwrap();
    let Registers::Aarch64(registers) = image.registers(0).unwrap() else { panic!("not of aarch64") };
    // X0 to X28, Fp, Lr, then Sp and Pc.
    assert_eq!(registers.x, std::array::from_fn(|index| index as u64 + 1));
    assert_eq!((registers.fp(), registers.lr(), registers.sp, registers.pc), (30, 31, 32, 33));
    assert_eq!((registers.pstate, registers.ttbr1), (0x6000_0004, None));
    // One of x64 without its integer registers is none.
    let mut dump = full(&[(1, 1)]);
    put(&mut dump, 0x348 + 0x30, &0x10_0001u32.to_le_bytes());
    assert_eq!(open(&dump).unwrap().count(), 0);
    put(&mut dump, 0x348 + 0x30, &0x10_000bu32.to_le_bytes());
    let image = open(&dump).unwrap();
    let Registers::X86_64(registers) = image.registers(0).unwrap() else { panic!("not of x86_64") };
    assert_eq!((registers.cr3, registers.cr0, registers.kernel_gs_base), (0x1a_a002, 0, None));
}

#[test]
fn what_contradicts_itself_is_one_line() {
    for (runs, line) in [
        (vec![(1, 1); 43], "its header counts 43 runs of physical memory and has room for 42"),
        (vec![(1, 4), (4, 1)], "its runs of physical memory from pages 0x1 and 0x4 overlap"),
        (vec![(1 << 40, 1)], "a run of 0x1 pages from page 0x10000000000 is none that a machine has"),
        (vec![(2, u64::MAX)], "a run of 0xffffffffffffffff pages from page 0x2 is none that a machine has"),
    ] {
        let mut dump = header(1, 0x8664);
        list(&mut dump, &runs);
        assert_eq!(refused(&dump), format!("is a Windows crash dump that cannot be understood: {line}"));
    }
    let understood = |dump: &[u8]| refused(dump).rsplit_once("understood: ").unwrap().1.to_owned();
    assert_eq!(understood(&header(1, 0x8664)), "its header lists no physical memory");
    assert_eq!(understood(&header(5, 0x8664)), "no bitmap of pages (SDMP, FDMP) follows its header");
    assert_eq!(understood(&header(4, 0x8664)), "its triage header is cut off");
    assert_eq!(understood(&header(11, 0x8664)), "its type 0xb is none of those that are known (1 to 10)");
    assert_eq!(
        understood(&full(&[(1, 1)])[..0x1fff]),
        "its header of 0x2000 bytes is cut off: the file has 8191"
    );
    let with = |at: usize, word: u64| {
        let mut dump = bitmap(5, b"SDMPDUMP", 4096, &[1, 2]);
        put(&mut dump, at, &word.to_le_bytes());
        dump
    };
    assert_eq!(
        understood(&with(0x2020, 0x2040)),
        "its first page lies at 0x2040, within its bitmap, which ends at 0x2238"
    );
    assert_eq!(
        understood(&with(0x2030, 1 << 39)),
        "its first page lies at 0x3000, within its bitmap, which ends at 0x1000002038"
    );
    assert_eq!(understood(&with(0x2030, 0)), "a bitmap of 0x0 pages is none that a machine has");
    assert_eq!(
        understood(&with(0x2030, u64::MAX)),
        "a bitmap of 0xffffffffffffffff pages is none that a machine has"
    );
    let mut huge = with(0x2030, 1 << 39);
    put(&mut huge, 0x2020, &(1u64 << 60).to_le_bytes());
    assert_eq!(understood(&huge), "its bitmap of 68719476736 bytes is cut off");
    assert_eq!(
        warned(&open(&with(0x2028, 9)).unwrap()),
        ["the header counts 9 pages, its bitmap has 2: the bitmap is believed"]
    );
    for (kind, name) in [
        (2, "old kernel kind"),
        (3, "header alone"),
        (7, "automatic"),
        (8, "ranges of pages"),
        (10, "complete memory"),
    ] {
        let line = refused(&header(kind, 0x8664));
        assert!(
            line.contains(name) && line.contains("which is not read; take a complete memory dump"),
            "{line}"
        );
    }
    assert!(refused(&header(1, 0x200)).contains("another processor than x64 and ARM64"));
}

#[test]
fn what_is_cut_off_is_told_apart_from_holes() {
    let whole = full(&[(1, 4), (0x100, 4)]);
    for len in (0x2000..whole.len()).step_by(0x234) {
        let image = open(&whole[..len]).unwrap();
        assert_eq!(warned(&image).len(), 1);
        assert!(warned(&image)[0].starts_with("the image is cut short"));
        for (index, number) in (1..5).chain(0x100..0x104).enumerate() {
            let there = 0x2000 + (index + 1) * 0x1000 <= len;
            assert_eq!(holds(&image, number), there);
            let why = image.read(PhysAddr::new(number << 12), &mut [0; 0x1000]);
            assert!(there || matches!(why, Err(PhysError::CutOff { .. })), "{why:?}");
        }
        assert_eq!(image.total(), len as u64 - 0x2000);
    }
    // Every second page of 2^20, of which the file has two: what is cut off does not cost.
    let pages: Vec<u64> = (0..1 << 19).map(|number| number * 2 + 1).collect();
    let mut dump = bitmap(5, b"SDMPDUMP", 1 << 20, &pages[..2]);
    dump[0x2038..0x2038 + (1 << 17)].fill(0xaa);
    let image = open(&dump).unwrap();
    assert!(holds(&image, 1) && holds(&image, 3) && image.regions().len() == 2);
    assert!(matches!(image.read(PhysAddr::new(0x5000), &mut [0]), Err(PhysError::CutOff { .. })));
    assert_eq!(warned(&image).len(), 2);
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

#[test]
fn flipped_bits_never_panic() {
    let block = noise(0x40, 1);
    let dumps = [
        full(&[(1, 2), (8, 1)]),
        bitmap(5, b"SDMPDUMP", 64, &[1, 2, 9]),
        triage(0x8664, &[(0xffff_8000_0000_0000, &block)], &["a.sys", "b.sys"], 0x90),
    ];
    for dump in dumps {
        // Where the header says something, and what follows it.
        let places = [
            0..0xb8,
            0x378..0x380,
            0xf00..0xf20,
            0xf98..0xfa0,
            0x1030..0x1040,
            0x2000..0x2080,
            0x2080..0x2500,
        ];
        let scratch = Scratch::new();
        for at in places.into_iter().flatten().filter(|at| *at < dump.len()) {
            let mut flipped = dump.clone();
            flipped[at] ^= 1 << (at % 8);
            let Ok(image) = Image::open(scratch.file(&at.to_string(), &flipped)) else { continue };
            for region in image.regions() {
                assert!(image.slice(region.start, region.len as usize).is_some());
            }
            assert!(image.total() <= flipped.len() as u64);
        }
    }
}
