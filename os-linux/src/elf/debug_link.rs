//! `.gnu_debuglink`: the name and the checksum of the file that an image's debug information was put into.
//!
//! Source: the chapter "Debugging Information in Separate Files" of gdb's manual: a name, a zero, zeros up to a multiple of
//! four, four bytes of CRC32.

use vmc::bytes::{cstr_at, u32_at};
use vmc::view::DebugLink;

use super::image::ElfImage;

/// Bytes of the section: file names have 255 at the most.
const LONGEST: usize = 512;

impl ElfImage<'_, '_> {
    pub(super) fn read_debug_link(&self) -> Option<DebugLink> {
        let part = self.section_named(b".gnu_debuglink")?;
        debug_link(&self.source.read_whole(part.offset, part.size, LONGEST)?)
    }
}

fn debug_link(section: &[u8]) -> Option<DebugLink> {
    let name: &[u8] = cstr_at(section, 0)?;
    let crc = u32_at(section, name.len().checked_add(1)?.checked_next_multiple_of(4)?)?;
    (!name.is_empty()).then(|| DebugLink { name: name.into(), crc })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_behind_the_padding() {
        let link = |section: &[u8]| debug_link(section).map(|link| (link.name.to_vec(), link.crc));
        assert_eq!(link(b"abc\0\x78\x56\x34\x12"), Some((b"abc".to_vec(), 0x1234_5678)));
        assert_eq!(link(b"abcd\0\0\0\0\x78\x56\x34\x12"), Some((b"abcd".to_vec(), 0x1234_5678)));
        for damaged in [&b""[..], b"\0\0\0\0\x78\x56\x34\x12", b"abc\0\x78\x56\x34", b"abcdefgh", b"abcd\0\0"]
        {
            assert_eq!(link(damaged), None);
        }
    }
}
