//! A file's bytes, unpacked where it is compressed; what it is, its first bytes say.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;

/// Bytes of a file, packed or not: a `vmlinux` with debug information has up to 1 GiB.
pub(super) const BYTES: u64 = 4 << 30;
/// KiB of memory that unpacking xz may take besides.
const XZ_KIB: u32 = 256 << 10;
/// What packed files begin with.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const XZ: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The whole of a file, up to `most` bytes.
pub(in crate::debug) fn whole(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let facts = fs::metadata(path).map_err(|why| why.to_string())?;
    if !facts.is_file() {
        return Err("it is no file".into());
    }
    let file = File::open(path).map_err(|why| why.to_string())?;
    let bytes = bounded(file, facts.len(), most)?;
    let packed: &[u8] = &bytes;
    let size = (packed.len() as u64).saturating_mul(4);
    if packed.starts_with(&GZIP) {
        bounded(flate2::read::MultiGzDecoder::new(packed), size, most)
    } else if packed.starts_with(&XZ) {
        if let Some(unpacked) = super::xz::unpack(packed, most) {
            return Ok(unpacked);
        }
        bounded(Xz(XzReader::new_mem_limit(packed, true, XZ_KIB)), size, most)
    } else if packed.starts_with(&ZSTD) {
        bounded(StreamingDecoder::new(packed).map_err(|why| why.to_string())?, size, most)
    } else {
        Ok(bytes)
    }
}

/// All that comes, up to the bound; `expected` is what is likely.
fn bounded(from: impl Read, expected: u64, most: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(usize::try_from(expected.min(most).min(512 << 20)).unwrap_or(0));
    from.take(most.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|why| format!("it cannot be unpacked: {why}"))?;
    if bytes.len() as u64 > most {
        return Err(format!("it has more than {most} bytes"));
    }
    Ok(bytes)
}

/// A reader of xz without std, as one with it.
struct Xz<'p>(XzReader<&'p [u8]>);

impl Read for Xz<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        lzma_rust2::Read::read(&mut self.0, buf).map_err(|_| std::io::Error::other("the xz data is damaged"))
    }
}
