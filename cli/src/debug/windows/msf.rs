//! Which PDB a file is: the GUID in its second stream.
//!
//! Source: the MSF container and the PDB info stream as LLVM's "The PDB File Format" describes them. Only the words that lead
//! to the GUID are read, however large the file is.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// What such a file begins with.
const MAGIC: &[u8; 32] = b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0";
/// Where the header has its words: the size of a block, that of the directory in bytes, the block with the list of the directory's blocks.
const BLOCK_SIZE: u64 = 32;
const DIRECTORY_BYTES: u64 = 44;
const BLOCK_MAP: u64 = 52;
/// Sizes that a block may have.
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 512..=1 << 16;
/// Streams that a directory may have.
const STREAMS: u32 = 1 << 20;
/// The GUID's place in the info stream: behind version, signature and age.
const GUID: u64 = 12;
/// The size of a stream that is none.
const NONE: u32 = u32::MAX;

/// An MSF file.
struct Msf<'f> {
    file: &'f File,
    block_size: u64,
    directory_bytes: u64,
    block_map: u64,
}

impl Msf<'_> {
    fn u32(&self, at: u64) -> Option<u32> {
        let mut word = [0; 4];
        self.file.read_exact_at(&mut word, at).ok()?;
        Some(u32::from_le_bytes(word))
    }

    /// A word of the directory.
    fn directory(&self, index: u64) -> Option<u32> {
        let offset = index.checked_mul(4).filter(|offset| *offset < self.directory_bytes)?;
        let block = self.u32(self.block_map.checked_add(offset / self.block_size * 4)?)?;
        self.u32(u64::from(block).checked_mul(self.block_size)? + offset % self.block_size)
    }
}

/// The GUID of a PDB, as it lies in memory; nothing where the file is none.
pub(super) fn guid(file: &File) -> Option<[u8; 16]> {
    let mut magic = [0; MAGIC.len()];
    file.read_exact_at(&mut magic, 0).ok()?;
    if magic != *MAGIC {
        return None;
    }
    let mut msf = Msf { file, block_size: 4, directory_bytes: 0, block_map: 0 };
    msf.block_size =
        msf.u32(BLOCK_SIZE).filter(|size| size.is_power_of_two() && BLOCK_SIZES.contains(size))?.into();
    msf.directory_bytes = msf.u32(DIRECTORY_BYTES)?.into();
    msf.block_map = u64::from(msf.u32(BLOCK_MAP)?).checked_mul(msf.block_size)?;
    // The number of streams, the size of each, then the blocks of each in turn.
    let streams = msf.directory(0).filter(|streams| (2..STREAMS).contains(streams))?;
    let first = match msf.directory(1)? {
        NONE => 0,
        size => u64::from(size).div_ceil(msf.block_size),
    };
    msf.directory(2).filter(|size| *size != NONE && u64::from(*size) >= GUID + 16)?;
    let block = msf.directory(1 + u64::from(streams) + first)?;
    let mut guid = [0; 16];
    file.read_exact_at(&mut guid, u64::from(block).checked_mul(msf.block_size)?.checked_add(GUID)?).ok()?;
    Some(guid)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Write;

    /// A PDB with nothing but its GUID, laid out by hand: blocks of 512 bytes; the directory in block 3, its list in block 2, the info
    /// stream in block 5; the old directory (stream 0) has two blocks.
    pub(crate) fn pdb(guid: [u8; 16]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for word in [512u32, 1, 6, 24, 0, 2] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.resize(2 * 512, 0);
        bytes.extend(3u32.to_le_bytes());
        bytes.resize(3 * 512, 0);
        for word in [2u32, 513, 28, 4, 4, 5] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.resize(5 * 512, 0);
        for word in [20_000_404u32, 7, 1] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(guid);
        bytes.resize(6 * 512, 0);
        bytes
    }

    fn guid_of(name: &str, bytes: &[u8]) -> Option<[u8; 16]> {
        let path = std::env::temp_dir().join(format!("vmc-msf-{name}-{}", std::process::id()));
        File::create(&path).unwrap().write_all(bytes).unwrap();
        let found = guid(&File::open(&path).unwrap());
        std::fs::remove_file(path).unwrap();
        found
    }

    #[test]
    fn the_guid_is_found_and_nothing_is_taken_for_one() {
        let wanted = *b"0123456789abcdef";
        let whole = pdb(wanted);
        assert_eq!(guid_of("whole", &whole), Some(wanted));
        assert_eq!(guid_of("empty", &[]), None);
        for cut in [31, 60, 1024, 1540, 5 * 512 + 20] {
            assert_eq!(guid_of("cut", &whole[..cut]), None, "{cut}");
        }
        // The block size, the directory's list, its block, the number of streams, the size of the first, the second's block.
        for at in [33, 55, 1025, 1536, 1542, 1557] {
            let mut wild = whole.clone();
            wild[at] ^= 0xff;
            assert_eq!(guid_of("wild", &wild), None, "{at}");
        }
    }

    #[test]
    fn real_files_tell_their_own() {
        // `seh/` of the shared data: each program names the PDB that lies beside it.
        let shared = std::env::var_os("VMC_SHARED").map_or_else(
            || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
            std::path::PathBuf::from,
        );
        let folder = shared.join("windows/seh/x64");
        let Ok(entries) = std::fs::read_dir(&folder) else {
            return crate::skipped::skip("the shared data's windows/seh is not there");
        };
        let mut seen = 0;
        for path in entries.flatten().map(|entry| entry.path()) {
            let pdb = path.with_extension("pdb");
            if path.extension().is_none_or(|ending| ending == "pdb") || !pdb.is_file() {
                continue;
            }
            // The RSDS record: the magic, the GUID, the age, the name.
            let bytes = std::fs::read(&path).unwrap();
            let Some(at) = memchr::memmem::find(&bytes, b"RSDS") else { continue };
            assert_eq!(
                guid(&File::open(&pdb).unwrap()).unwrap(),
                bytes[at + 4..at + 20],
                "{}",
                pdb.display()
            );
            seen += 1;
        }
        assert!(seen > 0, "no PDB in {}", folder.display());
    }
}
