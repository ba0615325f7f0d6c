//! Compressed sections: `SHF_COMPRESSED` with its header, or the older `.zdebug_*`.
//!
//! Sources: "Section Compression" in the ELF gABI; for `.zdebug_*` binutils' `bfd/compress.c`: `ZLIB`, eight bytes of size,
//! most significant first, a zlib stream. Sections that are compressed by zstd are passed over: no decoder for them is
//! small enough to be worth what few programs are linked so.

use alloc::vec::Vec;

use object::elf::ELFCOMPRESS_ZLIB;
use vmc::bytes::{cstr_at, u32_at, u64_at};
use vmc_unwind::AddressSize;

use super::headers::SectionFacts;
use super::image::ElfImage;

/// `Elf64_Chdr`: type, nothing, size, alignment.
const HEADER: usize = 24;
/// `Elf32_Chdr`: type, size, alignment, four bytes each.
const HEADER_32: usize = 12;
const OLD_HEADER: usize = 12;

impl ElfImage<'_, '_> {
    /// The bytes of the compressed section `name`, or of the section `old_name`; only where they are all there, and no more
    /// than an unwind section may have.
    pub(super) fn unpacked(&self, name: &[u8], old_name: &[u8]) -> Option<Vec<u8>> {
        let limit = self.limits.unwind_bytes;
        let sections = self.headers.sections(&self.source, self.limits);
        let names = self.headers.section_names(&sections, &self.source, self.limits)?;
        let named = |section: &SectionFacts, name| cstr_at(&names, section.name as usize) == Some(name);
        let read =
            |section: &SectionFacts| self.source.read_whole(section.part.offset, section.part.size, limit);
        if let Some(section) = sections.iter().find(|section| section.compressed && named(section, name)) {
            return unpack(&read(section)?, self.headers.address_size, limit);
        }
        unpack_old(&read(sections.iter().find(|section| named(section, old_name))?)?, limit)
    }
}

/// What follows the header that the image's class has.
fn unpack(section: &[u8], class: AddressSize, limit: usize) -> Option<Vec<u8>> {
    let zlib = u32_at(section, 0)? == ELFCOMPRESS_ZLIB.0;
    let (size, header) = match class {
        AddressSize::Four => (u64::from(u32_at(section, 4)?), HEADER_32),
        AddressSize::Eight => (u64_at(section, 8)?, HEADER),
    };
    if zlib { inflate(section.get(header..)?, size, limit) } else { None }
}

/// What follows `ZLIB` and the size.
fn unpack_old(section: &[u8], limit: usize) -> Option<Vec<u8>> {
    let size = u64_at(section, 4)?.swap_bytes();
    if section.starts_with(b"ZLIB") { inflate(section.get(OLD_HEADER..)?, size, limit) } else { None }
}

/// The stream, if it has just the size that its header tells: room grows with what comes, not by the header's word.
#[cfg(feature = "zlib")]
fn inflate(packed: &[u8], size: u64, limit: usize) -> Option<Vec<u8>> {
    let limit = usize::try_from(size).ok().filter(|size| *size <= limit)?;
    let bytes = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(packed, limit).ok()?;
    (bytes.len() == limit).then_some(bytes)
}

#[cfg(not(feature = "zlib"))]
fn inflate(_: &[u8], _: u64, _: usize) -> Option<Vec<u8>> {
    None
}

#[cfg(all(test, feature = "zlib"))]
mod tests {
    use super::*;
    use alloc::vec;

    /// `python3 -c "import zlib, sys; sys.stdout.buffer.write(zlib.compress(bytes(1000), 9))"`.
    const ZEROS: [u8; 17] = *b"\x78\xda\x63\x60\x18\x05\xa3\x60\x14\x0c\x77\x00\x00\x03\xe8\x00\x01";

    fn sections(size: u64) -> [Vec<u8>; 2] {
        let mut new = vec![1, 0, 0, 0, 0, 0, 0, 0];
        new.extend(size.to_le_bytes());
        new.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        new.extend(ZEROS);
        let mut old = b"ZLIB".to_vec();
        old.extend(size.to_be_bytes());
        old.extend(ZEROS);
        [new, old]
    }

    #[test]
    fn both_forms_are_unpacked() {
        let [new, old] = sections(1000);
        assert_eq!(unpack(&new, AddressSize::Eight, 1000), Some(vec![0; 1000]));
        assert_eq!(unpack_old(&old, 1000), Some(vec![0; 1000]));
        // The header of a 32-bit image is shorter.
        let small = [&[1, 0, 0, 0][..], &1000u32.to_le_bytes(), &[1, 0, 0, 0], &ZEROS].concat();
        assert_eq!(unpack(&small, AddressSize::Four, 1000), Some(vec![0; 1000]));
        assert_eq!(unpack(&small, AddressSize::Eight, 1000), None);
        // zstd.
        let mut other = new;
        other[0] = 2;
        assert_eq!(unpack(&other, AddressSize::Eight, 1000), None);
    }

    #[test]
    fn a_size_is_not_believed() {
        for size in [0, 999, 1001, 1 << 30, u64::MAX] {
            let [new, old] = sections(size);
            assert_eq!(
                (unpack(&new, AddressSize::Eight, 128 << 20), unpack_old(&old, 128 << 20)),
                (None, None),
                "{size}"
            );
        }
        let [new, old] = sections(1000);
        assert_eq!((unpack(&new, AddressSize::Eight, 999), unpack_old(&old, 999)), (None, None));
    }

    #[test]
    fn damage_is_nothing_or_of_the_same_size() {
        let [new, old] = sections(1000);
        for at in 0..new.len() {
            assert_eq!(unpack(&new[..at], AddressSize::Eight, 4096), None);
            let mut damaged = new.clone();
            damaged[at] ^= 0x21;
            assert!(unpack(&damaged, AddressSize::Eight, 4096).is_none_or(|bytes| bytes.len() == 1000));
        }
        for at in 0..old.len() {
            assert_eq!(unpack_old(&old[..at], 4096), None);
        }
    }
}
