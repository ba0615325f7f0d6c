//! The sample guest's memory in every image format, written by specification and by other tools: the same answers each time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use common::{sample, scratch, skip, vmc, vmc_with_cache};

/// The sample's ELF core, unpacked.
fn core() -> Vec<u8> {
    let packed = fs::File::open(sample()).unwrap();
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(std::io::BufReader::new(packed)).unwrap();
    let mut bytes = Vec::new();
    decoder.read_to_end(&mut bytes).unwrap();
    bytes
}

/// The loadable segments of a core: physical address and bytes.
fn segments(core: &[u8]) -> Vec<(u64, &[u8])> {
    let word = |at: usize| u64::from_le_bytes(core[at..at + 8].try_into().unwrap()) as usize;
    let headers = (0..usize::from(core[56])).map(|index| word(32) + index * 56);
    let loadable = headers.filter(|at| core[*at..at + 4] == 1u32.to_le_bytes());
    loadable
        .map(|at| (word(at + 24) as u64, &core[word(at + 8)..word(at + 8) + word(at + 32)]))
        .filter(|(_, bytes)| !bytes.is_empty())
        .collect()
}

fn header(magic: u32, version: u32, start: u64, len: usize) -> Vec<u8> {
    let ids = [magic.to_le_bytes(), version.to_le_bytes()].concat();
    let last = start + len as u64 - 1;
    [ids, start.to_le_bytes().to_vec(), last.to_le_bytes().to_vec(), vec![0; 8]].concat()
}

fn lime(core: &[u8]) -> Vec<u8> {
    let ranges = segments(core).into_iter();
    ranges
        .flat_map(|(start, bytes)| [header(0x4c69_4d45, 1, start, bytes.len()), bytes.to_vec()])
        .flatten()
        .collect()
}

fn avml(core: &[u8]) -> Vec<u8> {
    let mut image = Vec::new();
    for (start, bytes) in segments(core) {
        for (index, part) in bytes.chunks(16 << 20).enumerate() {
            if part.iter().all(|byte| *byte == 0) {
                continue;
            }
            image.extend(header(0x4c4d_5641, 2, start + ((index as u64) << 24), part.len()));
            let mut encoder = snap::write::FrameEncoder::new(Vec::new());
            encoder.write_all(part).unwrap();
            let stream = encoder.into_inner().unwrap();
            image.extend(&stream);
            image.extend((stream.len() as u64).to_le_bytes());
        }
    }
    image
}

/// A flat image: what LiME's padded form is, too.
fn raw(core: &[u8]) -> Vec<u8> {
    let mut image = Vec::new();
    for (start, bytes) in segments(core).into_iter().filter(|(start, _)| *start < 1 << 31) {
        let start = start as usize;
        image.resize(image.len().max(start + bytes.len()), 0);
        image[start..start + bytes.len()].copy_from_slice(bytes);
    }
    image
}

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch().join(format!("formats-{}-{name}", std::process::id()));
    fs::write(&path, bytes).unwrap();
    path
}

/// A cache that goes with the test.
struct Cache(PathBuf);

impl Cache {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(scratch().join(format!("cache-{}-{count}", std::process::id())))
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn same_answers(path: &Path, format: &str, questions: &[&[&str]]) {
    let image = path.to_str().unwrap();
    let cache = Cache::new();
    for words in questions {
        let words = |image| [&words[..1], &[image], &words[1..], &["--format", "json"]].concat();
        let told = vmc_with_cache(&words(image), &cache.0).succeeded();
        assert_eq!(
            told.stdout,
            vmc(&words(&sample())).succeeded().stdout,
            "{format}: {words:?}",
            words = words("…")
        );
        assert_eq!(told.stderr, "", "{format}");
    }
    let info = vmc_with_cache(&["info", image, "--format", "json"], &cache.0).succeeded().stdout;
    assert!(info.contains(&format!("\"format\": \"{format}\"")), "{info}");
}

#[test]
fn every_format_gives_the_same_answers() {
    let core = core();
    for (format, bytes) in [("lime", lime(&core)), ("avml", avml(&core)), ("raw", raw(&core))] {
        let path = file(format, &bytes);
        let questions = [
            &["ps"][..],
            &["modules"],
            &["lsof"],
            &["mounts"],
            &["maps", "--pid", "1"],
            &["env", "--pid", "1"],
        ];
        same_answers(&path, format, &questions);
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn every_packing_gives_the_same_answers() {
    let core = core();
    let path = file("core", &core);
    for (tool, level) in [("gzip", "-1"), ("xz", "-0")] {
        let output = Command::new(tool).arg("-c").arg(level).arg(&path).stderr(Stdio::inherit()).output();
        let Ok(output) = output else {
            skip(&format!("there is no {tool}"));
            continue;
        };
        assert!(output.status.success());
        let packed = file(tool, &output.stdout);
        same_answers(&packed, "elf-core", &[&["ps"]]);
        // Cut in the middle, it shows what came before, or says in one line why there is nothing.
        let cut = file("cut", &output.stdout[..output.stdout.len() / 2]);
        let answer = vmc(&["ps", cut.to_str().unwrap(), "--no-cache"]);
        assert!(answer.stderr.contains("cut short: it cannot be unpacked behind"), "{answer:?}");
        assert!(answer.status == 0 || answer.stdout.is_empty(), "{answer:?}");
        [packed, cut].iter().for_each(|path| fs::remove_file(path).unwrap());
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn raw_images_begin_where_they_are_said_to() {
    let core = core();
    let whole = raw(&core);
    let path = file("based", &whole[1 << 20..]);
    let image = path.to_str().unwrap();
    let based = vmc(&["ps", image, "--ram-base", "0x100000", "--format", "json"]).succeeded();
    assert_eq!(based.stdout, vmc(&["ps", &sample(), "--format", "json"]).succeeded().stdout);
    let info = vmc(&["info", image, "--ram-base", "0x100000"]).succeeded().stdout;
    assert!(info.contains("offset 0 is physical 0x100000"), "{info}");
    let answer = vmc(&["ps", image]);
    assert!(answer.status == 1 && answer.stderr.contains("give --ram-base"), "{answer:?}");
    let answer = vmc(&["ps", &sample(), "--ram-base", "0x100000"]);
    assert!(answer.status == 1 && answer.stderr.contains("is no raw image but elf-core"), "{answer:?}");
    let answer = vmc(&["ps", &sample(), "--no-cache", "--unpacked-limit", "1M"]);
    assert!(answer.status == 1 && answer.stderr.contains("more than 1048576 bytes"), "{answer:?}");
    assert_eq!(vmc(&["ps", image, "--unpacked-limit", "1X"]).status, 2);
    fs::remove_file(path).unwrap();
}
