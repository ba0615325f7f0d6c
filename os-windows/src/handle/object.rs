//! The object manager's headers: what type an object has, and what it is called.

use alloc::string::String;
use alloc::vec::Vec;

use vmc::layout::{Field, LayoutError, Types};
use vmc::{ReadExt, VirtAddr};

use super::names::{FileFields, KeyFields};
use crate::error::WindowsError;
use crate::text::unicode_string;
use crate::windows::Windows;

/// Bits of `OBJECT_HEADER.InfoMask`: what stands before the header, nearest last.
const CREATOR_INFO: u8 = 1;
const NAME_INFO: u8 = 2;

/// Where objects keep what is asked of them: asked of types and symbols once.
#[derive(Debug)]
pub(crate) struct ObjectFields {
    body: u64,
    type_index: Field<u8>,
    info_mask: Field<u8>,
    type_table: VirtAddr,
    /// What is mixed into the index of the type, since 10.
    cookie: Option<VirtAddr>,
    type_name: u64,
    mask_to_offset: Option<VirtAddr>,
    name_size: u64,
    creator_size: u64,
    directory: Field<u64>,
    name: u64,
    root: Option<VirtAddr>,
    pub(super) file: Result<FileFields, LayoutError>,
    pub(super) key: Result<KeyFields, LayoutError>,
}

impl ObjectFields {
    pub(crate) fn new(windows: &Windows<'_>) -> Result<Self, WindowsError> {
        const HEADER: &str = "_OBJECT_HEADER";
        const NAME: &str = "_OBJECT_HEADER_NAME_INFO";
        let types = windows.types();
        Ok(Self {
            body: types.member(HEADER, "Body")?.offset,
            type_index: Field::new(types, HEADER, "TypeIndex")?,
            info_mask: Field::new(types, HEADER, "InfoMask")?,
            type_table: windows.symbol("ObTypeIndexTable")?,
            cookie: windows.symbol("ObHeaderCookie").ok(),
            type_name: types.member("_OBJECT_TYPE", "Name")?.offset,
            mask_to_offset: windows.symbol("ObpInfoMaskToOffset").ok(),
            name_size: types.size_of(NAME)?,
            creator_size: types.size_of("_OBJECT_HEADER_CREATOR_INFO").unwrap_or(0x20),
            directory: Field::new(types, NAME, "Directory")?,
            name: types.member(NAME, "Name")?.offset,
            root: windows.symbol("ObpRootDirectoryObject").ok(),
            file: FileFields::new(types),
            key: KeyFields::new(types, windows.limits()),
        })
    }
}

/// The objects of a guest.
pub(crate) struct Objects<'w> {
    pub(super) windows: &'w Windows<'w>,
    pub(super) fields: &'w ObjectFields,
    cookie: Option<u8>,
    root: Option<VirtAddr>,
}

impl<'w> Objects<'w> {
    pub(crate) fn new(windows: &'w Windows<'w>) -> Result<Self, WindowsError> {
        let fields = windows.fields().object.as_ref().map_err(WindowsError::clone)?;
        let memory = windows.kernel();
        let cookie = fields.cookie.map(|at| memory.read_value(at)).transpose();
        Ok(Self {
            windows,
            fields,
            cookie: cookie.map_err(WindowsError::read("ObHeaderCookie"))?,
            root: fields.root.and_then(|at| memory.read_pointer(at).ok()).filter(|root| !root.is_null()),
        })
    }

    /// Where the object with the header at `header` begins.
    pub(crate) const fn body(&self, header: VirtAddr) -> VirtAddr {
        header.wrapping_add(self.fields.body)
    }

    const fn header(&self, body: VirtAddr) -> VirtAddr {
        VirtAddr::new(body.get().wrapping_sub(self.fields.body))
    }

    /// The name of the object's type.
    ///
    /// # Errors
    /// [`WindowsError`] where what leads to it is not to be had.
    pub(crate) fn kind(&self, header: VirtAddr) -> Result<String, WindowsError> {
        let memory = self.windows.kernel();
        let stored =
            self.fields.type_index.read(memory, header).map_err(WindowsError::read("an object's header"))?;
        let index = match self.cookie {
            Some(cookie) => stored ^ cookie ^ (header.get() >> 8) as u8,
            None => stored,
        };
        let place = self.fields.type_table.wrapping_add(8 * u64::from(index));
        let kind = memory.read_pointer(place).map_err(WindowsError::read("ObTypeIndexTable"))?;
        // The table's first places hold marks, not types.
        if kind.get() >> 47 != 0x1_ffff {
            let reason = "the number of its type is of none";
            return Err(WindowsError::Broken { what: "an object's header", at: header, reason });
        }
        unicode_string(memory, kind.wrapping_add(self.fields.type_name), self.windows.limits())
            .map_err(WindowsError::read("an object type's name"))
    }

    /// The name in front of the object's header, and the directory that it is in. Nothing where it has no name.
    fn own_name(&self, body: VirtAddr) -> Result<Option<(String, VirtAddr)>, WindowsError> {
        let (memory, header) = (self.windows.kernel(), self.header(body));
        let mask =
            self.fields.info_mask.read(memory, header).map_err(WindowsError::read("an object's header"))?;
        if mask & NAME_INFO == 0 {
            return Ok(None);
        }
        let before = mask & (NAME_INFO | CREATOR_INFO);
        let told = self.fields.mask_to_offset.and_then(|table| {
            memory.read_value::<u8>(table.wrapping_add(u64::from(before))).ok().filter(|offset| *offset != 0)
        });
        let computed =
            self.fields.name_size + if mask & CREATOR_INFO == 0 { 0 } else { self.fields.creator_size };
        let info = VirtAddr::new(header.get().wrapping_sub(told.map_or(computed, u64::from)));
        let read = WindowsError::read("an object's name");
        let directory = self.fields.directory.pointer(memory, info).map_err(&read)?;
        let name = unicode_string(memory, info.wrapping_add(self.fields.name), self.windows.limits())
            .map_err(read)?;
        Ok(Some((name, directory)).filter(|(name, _)| !name.is_empty()))
    }

    /// The path of an object in the object manager's directories: `\Device\HarddiskVolume3`.
    ///
    /// # Errors
    /// [`WindowsError`] where a part of it cannot be read.
    pub(super) fn path(&self, body: VirtAddr) -> Result<Option<String>, WindowsError> {
        let mut parts = Vec::new();
        let mut at = body;
        while !at.is_null() && Some(at) != self.root && parts.len() < self.windows.limits().directory_depth {
            let Some((name, directory)) = self.own_name(at)? else { break };
            // The root is called `\`.
            if name == "\\" {
                break;
            }
            parts.push(name);
            at = directory;
        }
        // What is in no directory is called as it is.
        let rooted = parts.len() > 1 || Some(at) == self.root;
        let mut path = String::new();
        for part in parts.iter().rev() {
            if rooted {
                path.push('\\');
            }
            path.push_str(part);
        }
        Ok(Some(path).filter(|path| !path.is_empty()))
    }
}
