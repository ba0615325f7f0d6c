//! Writers of image formats, by their specifications alone.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper of tests may panic, and not every test uses every helper"
)]

pub(crate) mod crash;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that goes with the test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("dump-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Says that something is skipped; where everything has to run (`VMC_REQUIRE_ALL`) that is a failure.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("VMC_REQUIRE_ALL").is_none(), "cannot be skipped here: {why}");
    let thread = std::thread::current();
    let _ = writeln!(std::io::stderr(), "test {} skipped: {why}", thread.name().unwrap_or("?"));
}

/// Bytes that no compressor makes much of (xorshift).
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// An ELF core as QEMU writes it: program headers, no section but that which counts them where they are many.
pub(crate) fn core(memory: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let count = memory.len() as u64;
    let many = count >= 0xffff;
    let mut image = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // ET_CORE, EM_X86_64, version, entry, program headers, section headers, flags, sizes.
    image.extend(4u16.to_le_bytes());
    image.extend(62u16.to_le_bytes());
    image.extend(1u32.to_le_bytes());
    let sections = if many { 64 + count * 56 } else { 0 };
    [0, 64, sections].iter().for_each(|word: &u64| image.extend(word.to_le_bytes()));
    image.extend(0u32.to_le_bytes());
    let counts = if many { [64, 56, 0xffff, 64, 1, 0] } else { [64, 56, count as u16, 0, 0, 0] };
    counts.iter().for_each(|half: &u16| image.extend(half.to_le_bytes()));
    let mut offset = 64 + count * 56 + if many { 64 } else { 0 };
    for (start, bytes) in memory {
        let len = bytes.len() as u64;
        image.extend(1u32.to_le_bytes());
        image.extend(0u32.to_le_bytes());
        // Offset, virtual address, physical address, sizes in the file and in memory, alignment.
        [offset, 0, *start, len, len, 0].iter().for_each(|word| image.extend(word.to_le_bytes()));
        offset += len;
    }
    if many {
        let mut section = [0u8; 64];
        section[44..48].copy_from_slice(&(count as u32).to_le_bytes());
        image.extend(section);
    }
    memory.iter().for_each(|(_, bytes)| image.extend(bytes));
    image
}

fn header(magic: u32, version: u32, start: u64, len: usize) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(magic.to_le_bytes());
    header.extend(version.to_le_bytes());
    header.extend(start.to_le_bytes());
    header.extend((start + len as u64 - 1).to_le_bytes());
    header.extend([0; 8]);
    header
}

/// A LiME image.
pub(crate) fn lime(memory: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let ranges =
        memory.iter().flat_map(|(start, bytes)| [header(0x4c69_4d45, 1, *start, bytes.len()), bytes.clone()]);
    ranges.collect::<Vec<_>>().concat()
}

/// An AVML image of blocks of at most `block` bytes; those that are all zeros are left out, as AVML does it.
pub(crate) fn avml(memory: &[(u64, Vec<u8>)], block: usize) -> Vec<u8> {
    let mut image = Vec::new();
    for (start, bytes) in memory {
        for (index, part) in bytes.chunks(block.min(bytes.len())).enumerate() {
            if part.len() <= 16 << 20 && part.iter().all(|byte| *byte == 0) {
                continue;
            }
            image.extend(header(0x4c4d_5641, 2, start + (index * block.min(bytes.len())) as u64, part.len()));
            let mut encoder = snap::write::FrameEncoder::new(Vec::new());
            encoder.write_all(part).unwrap();
            let stream = encoder.into_inner().unwrap();
            let size = stream.len() as u64;
            image.extend(stream);
            image.extend(size.to_le_bytes());
        }
    }
    image
}
