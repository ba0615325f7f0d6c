//! What objects are called that keep their names themselves: files by their device, registry keys by their parents.

use alloc::string::String;
use alloc::vec::Vec;

use vmc::layout::{Field, Types};
use vmc::{ReadExt, VirtAddr};

use super::object::Objects;
use crate::error::WindowsError;
use crate::member_bits::MemberBits;
use crate::text::{unicode_string, utf16};
use crate::windows::Windows;

impl Objects<'_> {
    /// The name of an object; nothing where it has none.
    ///
    /// # Errors
    /// [`WindowsError`] where it has one that cannot be read.
    pub(super) fn name(&self, kind: Option<&str>, body: VirtAddr) -> Result<Option<String>, WindowsError> {
        match kind {
            Some("File") => {
                self.windows.file_path(body).map(Some).map(|path| path.filter(|path| !path.is_empty()))
            }
            Some("Key") => key_path(self.windows, body),
            _ => self.path(body),
        }
    }
}

impl Windows<'_> {
    /// The path of a file object: its device's, where that has a name, and its own.
    ///
    /// # Errors
    /// [`WindowsError`] where the file's own name is not to be had.
    pub(crate) fn file_path(&self, file: VirtAddr) -> Result<String, WindowsError> {
        const FILE: &str = "_FILE_OBJECT";
        let (types, memory) = (self.types(), self.kernel());
        let name = types.member(FILE, "FileName")?.offset;
        let name = unicode_string(memory, file.wrapping_add(name), self.limits())
            .map_err(WindowsError::read("a file's name"))?;
        let device: Field<u64> = Field::new(types, FILE, "DeviceObject")?;
        let device = device.pointer(memory, file).ok().filter(|device| !device.is_null());
        // A device without a name is no error: the file's own name stands for itself.
        let device = device.and_then(|device| Objects::new(self).ok()?.path(device).ok()?);
        Ok(device.unwrap_or_default() + &name)
    }
}

/// The path of a registry key, by the key control blocks from it up to the root.
fn key_path(windows: &Windows<'_>, body: VirtAddr) -> Result<Option<String>, WindowsError> {
    const BLOCK: &str = "_CM_KEY_CONTROL_BLOCK";
    const NAME: &str = "_CM_NAME_CONTROL_BLOCK";
    let (types, memory, limits) = (windows.types(), windows.kernel(), windows.limits());
    let control: Field<u64> = Field::new(types, "_CM_KEY_BODY", "KeyControlBlock")?;
    let parent: Field<u64> = Field::new(types, BLOCK, "ParentKcb")?;
    let name_block: Field<u64> = Field::new(types, BLOCK, "NameBlock")?;
    let length: Field<u16> = Field::new(types, NAME, "NameLength")?;
    let name = types.member(NAME, "Name")?.offset;
    let compressed = MemberBits::of(&types.layout(NAME, limits)?, "Compressed");
    let read = WindowsError::read("a registry key");
    let mut at = control.pointer(memory, body).map_err(&read)?;
    let mut parts: Vec<String> = Vec::new();
    while !at.is_null() {
        if parts.len() >= limits.directory_depth {
            let reason = "it has more parents than the limit";
            return Err(WindowsError::Broken { what: "a registry key", at, reason });
        }
        let block = name_block.pointer(memory, at).map_err(&read)?;
        let bytes = u64::from(length.read(memory, block).map_err(&read)?);
        let text = block.wrapping_add(name);
        // Names of Latin-1 characters only are kept a byte a character.
        parts.push(match compressed.map(|bits| bits.read(memory, block)).transpose().map_err(&read)? {
            Some(0) => utf16(memory, text, bytes, limits).map_err(&read)?,
            _ => {
                let bytes = memory.read_vec(text, bytes, limits.command_line_bytes).map_err(&read)?;
                bytes.into_iter().map(char::from).collect()
            }
        });
        at = parent.pointer(memory, at).map_err(&read)?;
    }
    let mut path = String::new();
    for part in parts.iter().rev() {
        path.push('\\');
        path.push_str(part);
    }
    Ok(Some(path).filter(|path| !path.is_empty()))
}
