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

use common::crash::{NO_CONTEXT, bitmap, full, header, list, open, page, put, triage, warned};
use common::{Scratch, noise};
use vmc::{Architecture, PhysAddr, PhysError, PhysMemory, Registers, Vcpus};
use vmc_dump::{BugCheck, Format, Image};

/// The line that says why it is not opened, without the file's name.
fn refused(dump: &[u8]) -> String {
    let line = open(dump).unwrap_err().to_string();
    assert!(!line.contains('\n'), "{line}");
    line.split_once(": ").unwrap().1.to_owned()
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
