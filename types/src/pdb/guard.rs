//! What has to be true of a PDB's container before it is read: its streams are no larger than the file.
//!
//! Source: LLVM's "The MSF File Format". A stream is a list of blocks; nothing keeps a damaged file from naming one block a million
//! times, and who reads the stream would allocate as much.

use vmc::bytes::u32_at;

const MAGIC: &[u8] = b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0";
/// A stream that does not exist.
const NONE: u32 = u32::MAX;

/// What is wrong with the container.
pub(super) fn check(bytes: &[u8]) -> Result<(), &'static str> {
    const SHORT: &str = "it is cut short";
    if !bytes.starts_with(MAGIC) {
        return Err("it does not begin as one (MSF 7.00)");
    }
    let field = |at: usize| u32_at(bytes, at).ok_or(SHORT);
    let block = field(32)? as usize;
    if !matches!(block, 512 | 1024 | 2048 | 4096 | 8192 | 16384 | 32768 | 65536) {
        return Err("its block size is none");
    }
    let directory_bytes = field(44)? as usize;
    if directory_bytes > bytes.len() {
        return Err("its directory is larger than the file");
    }
    // The directory lies in blocks; which ones, lists of them say, whose own blocks stand in the header.
    let blocks = directory_bytes.div_ceil(block);
    let at_block = |number: u32| {
        let start = (number as usize).checked_mul(block)?;
        bytes.get(start..start.checked_add(block)?)
    };
    let lists = blocks.saturating_mul(4).div_ceil(block);
    let mut directory = alloc::vec::Vec::with_capacity(blocks.saturating_mul(block));
    for list in 0..lists {
        let list = at_block(field(52usize.saturating_add(list.saturating_mul(4)))?).ok_or(SHORT)?;
        let left = blocks.saturating_sub(directory.len() / block);
        for place in 0..left.min(block / 4) {
            let number = u32_at(list, place * 4).ok_or(SHORT)?;
            directory.extend_from_slice(at_block(number).ok_or("its directory lies outside the file")?);
        }
    }
    directory.truncate(directory_bytes);
    let count = u32_at(&directory, 0).ok_or("its directory is empty")? as usize;
    let mut sum = 0u64;
    for stream in 0..count {
        let size = u32_at(&directory, stream.saturating_mul(4).saturating_add(4))
            .ok_or("its directory is cut short")?;
        sum = sum.saturating_add(if size == NONE { 0 } else { u64::from(size) });
    }
    if sum > bytes.len() as u64 { Err("its streams together are larger than the file") } else { Ok(()) }
}
