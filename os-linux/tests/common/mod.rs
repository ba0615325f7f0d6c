//! The sample guest and its own word on itself.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper of tests may panic, and not every test uses every helper"
)]

pub(crate) mod copied;
pub(crate) mod patched;

use std::path::PathBuf;

use serde_json::Value;
use vmc_dump::{Image, OpenOptions};

/// The folder of the sample guest.
pub(crate) fn sample() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../guests/sample"))
}

/// Its memory, unpacked once for all tests of this crate.
pub(crate) fn image() -> Image {
    let cache_dir = Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    let mut options = OpenOptions { cache_dir, ..OpenOptions::default() };
    Image::open_with(sample().join("mem.elf.zst"), &mut options).unwrap()
}

/// What it said of itself while it ran.
pub(crate) fn truth() -> Value {
    serde_json::from_slice(&std::fs::read(sample().join("truth.json")).unwrap()).unwrap()
}

/// A number that stands as `"0x…"`, or as it is.
pub(crate) fn number(value: &Value) -> u64 {
    match value.as_str() {
        Some(text) => u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap(),
        None => value.as_u64().unwrap(),
    }
}

/// Says that something is skipped and why; where everything has to run (`VMC_REQUIRE_ALL`) that is a failure.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("VMC_REQUIRE_ALL").is_none(), "cannot be skipped here: {why}");
    // Past the runner's capture, which shows nothing of a test that passes.
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("?");
    let _ =
        std::io::Write::write_all(&mut std::io::stderr(), format!("test {name} skipped: {why}\n").as_bytes());
}
