//! Cores that guests are made of.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::common::{sample, scratch, skip, top};

/// The sample's core, unpacked once.
pub(crate) fn sample_core() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| unpack(Path::new(&sample()), "sample")).clone()
}

/// A core, unpacked into a file that stays for the next run: named after the packed one's length, too.
fn unpack(packed: &Path, name: &str) -> PathBuf {
    let path = scratch().join(format!("{name}-{}.elf", std::fs::metadata(packed).unwrap().len()));
    if path.exists() {
        return path;
    }
    let own = path.with_extension(std::process::id().to_string());
    let packed = BufReader::new(std::fs::File::open(packed).unwrap());
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(packed).unwrap();
    std::io::copy(&mut decoder, &mut std::fs::File::create(&own).unwrap()).unwrap();
    std::fs::rename(own, &path).unwrap();
    path
}

/// The folder of a guest whose state was saved.
pub(crate) fn saved() -> Option<PathBuf> {
    let shared =
        std::env::var_os("VMC_SHARED").map_or_else(|| top().parent().unwrap().join("shared"), PathBuf::from);
    let folder = shared.join("guests/x86_64-6.1-pti");
    if folder.join("state.mig.zst").exists() {
        return Some(folder);
    }
    skip(&format!("the guest x86_64-6.1-pti with its state.mig.zst is not in {}", shared.display()));
    None
}
