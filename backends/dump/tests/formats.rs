//! Images in each format, written here by arithmetic and by other tools: the same memory has to come out of all.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

mod common;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use common::{Scratch, avml, core, lime, noise, skip};
use vmc::{PhysAddr, PhysError, PhysMemory};
use vmc_dump::{Format, Image, OpenError, OpenOptions};

const MIB: usize = 1 << 20;

/// Two runs of memory with a hole between them; the second has a block of AVML's that is all zeros.
fn memory() -> Vec<(u64, Vec<u8>)> {
    let mut high = noise(20 * MIB, 2);
    high.resize(64 * MIB, 0);
    high.extend(noise(3 * MIB, 3));
    vec![(0x1000, noise(MIB, 1)), (1 << 32, high)]
}

/// Is this the image's memory, also across the borders of blocks?
fn holds(image: &Image, memory: &[(u64, Vec<u8>)]) {
    let regions: Vec<(u64, u64)> = image.regions().iter().map(|r| (r.start.get(), r.len)).collect();
    let told: Vec<(u64, u64)> = memory.iter().map(|(start, bytes)| (*start, bytes.len() as u64)).collect();
    assert_eq!(regions, told);
    for (start, bytes) in memory {
        let mut buf = vec![0xaa; bytes.len()];
        image.read(PhysAddr::new(*start), &mut buf).unwrap();
        assert!(buf == *bytes, "the memory at {start:#x} differs");
        let mut word = [0; 8];
        assert!(image.read(PhysAddr::new(start + bytes.len() as u64 - 4), &mut word).is_err());
    }
    assert_eq!(image.warnings(), &[] as &[String]);
}

#[test]
fn lime_and_avml_hold_what_the_core_holds() {
    let scratch = Scratch::new();
    let memory = memory();
    holds(&Image::open(scratch.file("core", &core(&memory))).unwrap(), &memory);
    let image = Image::open(scratch.file("lime", &lime(&memory))).unwrap();
    assert_eq!((image.format(), image.compressed()), (Format::Lime, false));
    holds(&image, &memory);
    let packed = avml(&memory, 16 * MIB);
    let image = Image::open(scratch.file("avml", &packed)).unwrap();
    assert_eq!((image.format(), image.compressed()), (Format::Avml, true));
    holds(&image, &memory);
    // Older versions write a range as one block.
    holds(&Image::open(scratch.file("avml-whole", &avml(&memory, usize::MAX))).unwrap(), &memory);
    // Kept in the cache, it is opened as the same again.
    let open = || {
        let cache_dir = Some(scratch.path("cache"));
        Image::open_with(scratch.path("avml"), &mut OpenOptions { cache_dir, ..OpenOptions::default() })
    };
    for _ in 0..2 {
        let image = open().unwrap();
        assert_eq!(image.format(), Format::Avml);
        holds(&image, &memory);
    }
    assert_eq!(fs::read_dir(scratch.path("cache")).unwrap().count(), 1);
}

#[test]
fn other_tools_packings_unpack_to_the_same() {
    let scratch = Scratch::new();
    let memory = vec![(0x1000, noise(MIB / 2, 1)), (1 << 32, [noise(MIB, 2), vec![0; 3 * MIB]].concat())];
    for (tool, words) in [("gzip", &["-c"][..]), ("xz", &["-c", "-0"]), ("zstd", &["-c", "-q"])] {
        for (inside, bytes) in
            [("core", core(&memory)), ("lime", lime(&memory)), ("avml", avml(&memory, 16 * MIB))]
        {
            let Some(packed) = piped(tool, words, &bytes) else {
                skip(&format!("there is no {tool}"));
                continue;
            };
            let path = scratch.file(&format!("{inside}.{tool}"), &packed);
            let image = Image::open(&path).unwrap();
            assert!(image.compressed());
            holds(&image, &memory);
            // Two members, streams or frames make one file.
            let (one, two) = bytes.split_at(bytes.len() / 3);
            let parts = [piped(tool, words, one).unwrap(), piped(tool, words, two).unwrap()].concat();
            holds(&Image::open(scratch.file("parts", &parts)).unwrap(), &memory);
            // What is packed twice is named.
            let twice = piped(tool, words, &packed).unwrap();
            let why = Image::open(scratch.file("twice", &twice)).unwrap_err();
            assert!(why.to_string().contains("compressed twice"), "{why}");
        }
    }
}

/// What `tool` makes of `bytes`; nothing where there is no such tool.
fn piped(tool: &str, words: &[&str], bytes: &[u8]) -> Option<Vec<u8>> {
    let mut child =
        Command::new(tool).args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    Some(output.stdout)
}

#[test]
fn zeros_take_no_room_and_bombs_are_refused() {
    let scratch = Scratch::new();
    let zeros = vec![0u8; 64 * MIB];
    let image = vec![(0u64, zeros)];
    let Some(packed) = piped("gzip", &["-c"], &lime(&image)) else { return skip("there is no gzip") };
    let path = scratch.file("zeros.gz", &packed);
    let cache_dir = Some(scratch.path("cache"));
    let mut options = OpenOptions { cache_dir, ..OpenOptions::default() };
    holds(&Image::open_with(&path, &mut options).unwrap(), &image);
    let kept = fs::read_dir(scratch.path("cache")).unwrap().next().unwrap().unwrap();
    let blocks = std::os::unix::fs::MetadataExt::blocks(&kept.metadata().unwrap());
    assert!(blocks * 512 < MIB as u64, "{blocks} blocks");
    let limit = 63 * MIB as u64;
    let mut options = OpenOptions {
        cache_dir: Some(scratch.path("other")),
        unpacked_limit: Some(limit),
        ..OpenOptions::default()
    };
    let why = Image::open_with(&path, &mut options).unwrap_err();
    assert!(matches!(why, OpenError::TooLarge { limit: told, .. } if told == limit), "{why}");
    // A gap in an AVML image is no way around the limit, and takes no room.
    let gap = [(0, noise(16 * MIB, 1)), (2 << 30, noise(MIB, 2))];
    let path = scratch.file("gap.avml", &avml(&gap, 16 * MIB));
    let mut options = OpenOptions { unpacked_limit: Some(limit), ..OpenOptions::default() };
    assert!(matches!(Image::open_with(path, &mut options), Err(OpenError::TooLarge { .. })));
    assert_eq!(fs::read_dir(scratch.path("other")).unwrap().count(), 0);
}

#[test]
fn raw_images_begin_where_they_are_said_to() {
    let scratch = Scratch::new();
    let bytes = noise(2 * MIB, 5);
    let path = scratch.file("raw", &bytes);
    let base = PhysAddr::new(0x4000_0000);
    let open =
        |path, ram_base| Image::open_with(path, &mut OpenOptions { ram_base, ..OpenOptions::default() });
    let image = open(&path, Some(base)).unwrap();
    assert_eq!((image.format(), image.ram_base()), (Format::Raw, base));
    holds(&image, &[(base.get(), bytes.clone())]);
    holds(&open(&path, None).unwrap(), &[(0, bytes)]);
    // The end of the address space is no way to more.
    let image = open(&path, Some(PhysAddr::new(u64::MAX - 100))).unwrap();
    assert!(image.read(PhysAddr::new(u64::MAX - 50), &mut [0; 100]).is_err());
    let core = scratch.file("core", &core(&memory()));
    assert!(matches!(open(&core, Some(base)), Err(OpenError::BaseNotRaw { .. })));
}

#[test]
fn what_a_core_leaves_out_is_neither_zero_nor_a_hole() {
    let scratch = Scratch::new();
    let mut bytes = core(&[(0, vec![7; MIB]), (1 << 30, vec![8; MIB])]);
    // p_memsz of the first program header.
    bytes[64 + 40..64 + 48].copy_from_slice(&(2 * MIB as u64).to_le_bytes());
    let image = Image::open(scratch.file("core", &bytes)).unwrap();
    assert_eq!(image.ram_bytes(), 3 * MIB as u64);
    let why = image.read(PhysAddr::new(MIB as u64 - 1), &mut [0; 2]).unwrap_err();
    assert!(matches!(why, PhysError::Failed { .. }), "{why}");
    let why = image.read(PhysAddr::new(2 * MIB as u64), &mut [0; 2]).unwrap_err();
    assert!(matches!(why, PhysError::NoMemory { .. }), "{why}");
}

#[test]
fn cores_of_more_segments_than_their_header_can_count() {
    let scratch = Scratch::new();
    // Every other page, so that no segment touches the next.
    let memory: Vec<(u64, Vec<u8>)> = (0..70_000u64).map(|n| (n * 8192, n.to_le_bytes().to_vec())).collect();
    let image = Image::open(scratch.file("core", &core(&memory))).unwrap();
    assert_eq!(image.regions().len(), memory.len());
    assert_eq!(image.read_u64(PhysAddr::new(69_999 * 8192)), Ok(69_999));
}
