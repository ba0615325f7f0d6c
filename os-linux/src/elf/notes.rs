//! The build-id out of an image's notes.

use vmc::bytes::u32_at;
use vmc::view::BuildId;

use super::image::ElfImage;

const NT_GNU_BUILD_ID: u32 = 3;
/// Build-ids are hashes: 20 bytes of SHA-1, 16 of MD5, 32 at the most.
const LONGEST: usize = 64;

impl ElfImage<'_, '_> {
    pub(super) fn read_build_id(&self) -> Option<BuildId> {
        let limit = self.limits.note_bytes;
        self.headers.notes.iter().find_map(|note| {
            let bytes = self.source.read_whole(note.offset, note.size, limit)?;
            build_id(&bytes).map(|id| BuildId(id.into()))
        })
    }
}

/// The description of the note `GNU`, type 3.
pub(crate) fn build_id(notes: &[u8]) -> Option<&[u8]> {
    let mut rest = notes;
    loop {
        let name_len = u32_at(rest, 0)? as usize;
        let len = u32_at(rest, 4)? as usize;
        let kind = u32_at(rest, 8)?;
        let name_end = 12usize.checked_add(name_len)?;
        let start = name_end.checked_next_multiple_of(4)?;
        let end = start.checked_add(len)?;
        if kind == NT_GNU_BUILD_ID && rest.get(12..name_end)? == b"GNU\0" && len <= LONGEST {
            return rest.get(start..end);
        }
        rest = rest.get(end.checked_next_multiple_of(4)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::build_id;
    use alloc::vec::Vec;

    fn note(name: &[u8], kind: u32, description: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for word in [name.len() as u32, description.len() as u32, kind] {
            note.extend(word.to_le_bytes());
        }
        for part in [name, description] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    #[test]
    fn the_note_is_found_behind_others() {
        let notes =
            [note(b"GNU\0", 1, b"abi"), note(b"XYZ\0", 3, b"no"), note(b"GNU\0", 3, b"\x12\x34")].concat();
        assert_eq!(build_id(&notes), Some(&b"\x12\x34"[..]));
        assert_eq!(build_id(&notes[..notes.len() - 4]), None);
        assert_eq!(build_id(&[0xff; 64]), None);
        assert_eq!(build_id(&[]), None);
    }
}
