//! `.gnu_debugdata` (MiniDebugInfo): an ELF file with the `.symtab` of functions that `.dynsym` lacks, packed by xz.
//!
//! Source: the chapter "MiniDebugInfo" of gdb's manual.

use alloc::string::String;
use alloc::vec::Vec;

use lzma_rust2::{Read, XzReader};
use object::elf::SHT_SYMTAB;
use vmc::symbols::SymbolTableBuilder;

use super::image::{ElfImage, Source};

impl ElfImage<'_, '_> {
    /// Adds the symbols of `.gnu_debugdata`, if there is one.
    pub(super) fn add_debug_data(&self, builder: &mut SymbolTableBuilder) {
        let Some(part) = self.section_named(b".gnu_debugdata") else { return };
        let limit = self.limits.debug_data_bytes;
        let Some(packed) = self.source.read_whole(part.offset, part.size, limit) else { return };
        let Some(bytes) = unpack(&packed, limit) else { return };
        if let Some(inner) = ElfImage::new(String::new(), Source::Bytes(bytes), self.limits) {
            inner.add_section(builder, SHT_SYMTAB.0);
        }
    }
}

/// What is packed in `packed`, if it is whole and no more than `limit` bytes; nor does unpacking take more memory.
fn unpack(packed: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut reader =
        XzReader::new_mem_limit(packed, false, u32::try_from(limit >> 10).unwrap_or(u32::MAX - 1));
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let len = reader.read(&mut chunk).ok()?;
        if len == 0 {
            return Some(bytes);
        }
        bytes.extend_from_slice(chunk.get(..len)?);
        if bytes.len() > limit {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::unpack;
    use alloc::vec;

    /// `head -c 100000 /dev/zero | xz -9`.
    const ZEROS: [u8; 148] = *include_bytes!("testdata/zeros.xz");

    #[test]
    fn unpacking_is_bounded() {
        assert!(unpack(&ZEROS, 66 << 20) == Some(vec![0; 100_000]));
        // Too much of it, or a dictionary (64 MiB by its header) that is too large.
        assert!(unpack(&ZEROS, 90_000).is_none());
        assert!(unpack(&ZEROS, 32 << 20).is_none());
    }

    #[test]
    fn damage_is_nothing_or_the_same() {
        for at in 0..ZEROS.len() {
            let mut bytes = ZEROS;
            bytes[at] ^= 0x20;
            let _ = unpack(&bytes, 66 << 20);
            assert!(unpack(&ZEROS[..at], 66 << 20).is_none());
        }
    }
}
