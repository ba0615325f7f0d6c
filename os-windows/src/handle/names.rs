//! What objects are called that keep their names themselves: files by their device, registry keys by their parents.

use alloc::string::String;
use alloc::vec::Vec;

use vmc::layout::{Field, LayoutError, Types};
use vmc::{Limits, ReadExt, VirtAddr};

use super::object::Objects;
use crate::bits::Bits;
use crate::error::WindowsError;
use crate::text::{unicode_string, utf16};
use crate::types::KernelTypes;
use crate::windows::Windows;

/// Members of `_FILE_OBJECT`.
#[derive(Debug)]
pub(crate) struct FileFields {
    name: u64,
    device: Field<u64>,
}

impl FileFields {
    pub(super) fn new(types: &KernelTypes) -> Result<Self, LayoutError> {
        const FILE: &str = "_FILE_OBJECT";
        Ok(Self {
            name: types.member(FILE, "FileName")?.offset,
            device: Field::new(types, FILE, "DeviceObject")?,
        })
    }
}

/// Members of `_CM_KEY_BODY`, `_CM_KEY_CONTROL_BLOCK` and `_CM_NAME_CONTROL_BLOCK`.
#[derive(Debug)]
pub(crate) struct KeyFields {
    control: Field<u64>,
    parent: Field<u64>,
    name_block: Field<u64>,
    length: Field<u16>,
    name: u64,
    compressed: Option<Bits>,
}

impl KeyFields {
    pub(super) fn new(types: &KernelTypes, limits: &Limits) -> Result<Self, LayoutError> {
        const BLOCK: &str = "_CM_KEY_CONTROL_BLOCK";
        const NAME: &str = "_CM_NAME_CONTROL_BLOCK";
        Ok(Self {
            control: Field::new(types, "_CM_KEY_BODY", "KeyControlBlock")?,
            parent: Field::new(types, BLOCK, "ParentKcb")?,
            name_block: Field::new(types, BLOCK, "NameBlock")?,
            length: Field::new(types, NAME, "NameLength")?,
            name: types.member(NAME, "Name")?.offset,
            compressed: Bits::of(&types.layout(NAME, limits)?, "Compressed"),
        })
    }
}

impl Objects<'_> {
    /// The name of an object; nothing where it has none.
    ///
    /// # Errors
    /// [`WindowsError`] where it has one that cannot be read.
    pub(super) fn name(&self, kind: Option<&str>, body: VirtAddr) -> Result<Option<String>, WindowsError> {
        match kind {
            Some("File") => self.file_path(body).map(|path| Some(path).filter(|path| !path.is_empty())),
            Some("Key") => self.key_path(body),
            _ => self.path(body),
        }
    }

    /// The path of a file object: its device's, where that has a name, and its own.
    fn file_path(&self, file: VirtAddr) -> Result<String, WindowsError> {
        let fields = self.fields.file.as_ref().map_err(LayoutError::clone)?;
        let memory = self.windows.kernel();
        let name = unicode_string(memory, file.wrapping_add(fields.name), self.windows.limits())
            .map_err(WindowsError::read("a file's name"))?;
        let device = fields.device.pointer(memory, file).ok().filter(|device| !device.is_null());
        // A device without a name is no error: the file's own name stands for itself.
        let device = device.and_then(|device| self.path(device).ok()?);
        Ok(device.unwrap_or_default() + &name)
    }

    /// The path of a registry key, by the key control blocks from it up to the root.
    fn key_path(&self, body: VirtAddr) -> Result<Option<String>, WindowsError> {
        let fields = self.fields.key.as_ref().map_err(LayoutError::clone)?;
        let (memory, limits) = (self.windows.kernel(), self.windows.limits());
        let read = WindowsError::read("a registry key");
        let mut at = fields.control.pointer(memory, body).map_err(&read)?;
        let mut parts: Vec<String> = Vec::new();
        while !at.is_null() {
            if parts.len() >= limits.directory_depth {
                let reason = "it has more parents than the limit";
                return Err(WindowsError::Broken { what: "a registry key", at, reason });
            }
            let block = fields.name_block.pointer(memory, at).map_err(&read)?;
            let bytes = u64::from(fields.length.read(memory, block).map_err(&read)?);
            let text = block.wrapping_add(fields.name);
            let compressed =
                fields.compressed.map(|bits| bits.read(memory, block)).transpose().map_err(&read)?;
            // Names of Latin-1 characters only are kept a byte a character.
            parts.push(if compressed == Some(0) {
                utf16(memory, text, bytes, limits).map_err(&read)?
            } else {
                let bytes = memory.read_vec(text, bytes, limits.command_line_bytes).map_err(&read)?;
                bytes.into_iter().map(char::from).collect()
            });
            at = fields.parent.pointer(memory, at).map_err(&read)?;
        }
        let mut path = String::new();
        for part in parts.iter().rev() {
            path.push('\\');
            path.push_str(part);
        }
        Ok(Some(path).filter(|path| !path.is_empty()))
    }
}

impl Windows<'_> {
    /// The path of a file object, with its device's name where it has one.
    ///
    /// # Errors
    /// [`WindowsError`] where the file's own name is not to be had.
    pub(crate) fn file_path(&self, file: VirtAddr) -> Result<String, WindowsError> {
        Objects::new(self)?.file_path(file)
    }
}
