//! The CodeView record of an image: which PDB belongs to it.

use alloc::string::String;

use vmc::bytes::{array_at, u32_at};
use vmc::{ReadError, ReadExt, VirtualMemory};

use super::Image;
use crate::identity::CodeView;

/// Entries of a debug directory: linkers write at most a dozen.
const ENTRIES: u32 = 64;
/// Bytes of a PDB's name: paths of up to `MAX_PATH` characters in UTF-8.
const NAME_BYTES: usize = 780;
/// `IMAGE_DEBUG_TYPE_CODEVIEW`.
const CODE_VIEW: u32 = 2;

impl Image {
    /// What the debug directory says of the PDB. The record has to lie in the image, to be as long as the directory says, and to
    /// name a file; none where there is no such record.
    ///
    /// # Errors
    /// [`ReadError`] where the directory or the record is not in memory.
    pub fn code_view<V: VirtualMemory + ?Sized>(&self, memory: &V) -> Result<Option<CodeView>, ReadError> {
        let Some((rva, bytes)) = self.directory(6) else { return Ok(None) };
        let mut missing = None;
        for index in 0..(bytes / 28).min(ENTRIES) {
            let at = self.base.wrapping_add(u64::from(rva) + u64::from(index) * 28);
            let entry = match super::bytes::<28, V>(memory, at) {
                Ok(entry) => entry,
                Err(error) => {
                    missing = Some(error);
                    continue;
                }
            };
            if u32_at(&entry, 12) != Some(CODE_VIEW) {
                continue;
            }
            match self.record(memory, &entry) {
                Ok(Some(record)) => return Ok(Some(record)),
                Ok(None) => {}
                Err(error) => missing = Some(error),
            }
        }
        missing.map_or(Ok(None), Err)
    }

    fn record<V: VirtualMemory + ?Sized>(
        &self,
        memory: &V,
        entry: &[u8],
    ) -> Result<Option<CodeView>, ReadError> {
        let (Some(bytes), Some(rva)) = (u32_at(entry, 16), u32_at(entry, 20)) else { return Ok(None) };
        let in_image = rva.checked_add(bytes).is_some_and(|end| end <= self.size);
        let Some(at) = self.address(rva).filter(|_| in_image && bytes > 25) else { return Ok(None) };
        let head: [u8; 24] = memory.read_value(at)?;
        let (Some(guid), Some(age)) = (array_at::<16>(&head, 4), u32_at(&head, 20)) else { return Ok(None) };
        if !head.starts_with(b"RSDS") || guid == [0; 16] {
            return Ok(None);
        }
        let most = NAME_BYTES.min(bytes as usize - 24);
        let name = memory.read_cstr(at.wrapping_add(24), most)?;
        // A name without its NUL was cut off, or is none.
        if name.is_empty() || name.len() == most {
            return Ok(None);
        }
        Ok(Some(CodeView { name: String::from_utf8_lossy(&name).into_owned(), guid, age }))
    }
}
