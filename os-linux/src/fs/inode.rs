//! What an inode says of its file: its kind, mode, owner, times and, of a symbolic link, where it leads.
//!
//! Source: `include/linux/fs.h`; `page_get_link()` and `readlink_copy()` in `fs/namei.c`. A link's target lies in the inode's
//! `i_link`, or in the first page of its cache.

use alloc::vec::Vec;

use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::mm::CachedFile;

/// `S_IFMT`: the kind of a file in its mode.
const KIND: u16 = 0o170_000;
pub(super) const DIRECTORY: u16 = 0o040_000;
pub(super) const REGULAR: u16 = 0o100_000;
pub(super) const LINK: u16 = 0o120_000;

impl Linux<'_> {
    /// A file's kind and mode.
    pub(super) fn mode(&self, inode: VirtAddr) -> Result<u16, LinuxError> {
        self.inode_details()?.mode.read(self.space(), inode).map_err(LinuxError::read("i_mode"))
    }

    /// Of what kind the file is: the bits of its mode.
    pub(super) fn kind(&self, inode: VirtAddr) -> Result<u16, LinuxError> {
        Ok(self.mode(inode)? & KIND)
    }

    /// When it was changed, in nanoseconds since 1970.
    pub(super) fn changed(&self, inode: VirtAddr) -> Result<Option<i128>, LinuxError> {
        let fields = self.inode_details()?;
        let space = self.space();
        let read = LinuxError::read("i_mtime");
        let (seconds, rest) =
            if let (Some(seconds), Some(rest)) = (fields.mtime_seconds, fields.mtime_nanoseconds) {
                let rest = rest.read(space, inode).map_err(&read)?;
                (seconds.read(space, inode).map_err(&read)?, u64::from(rest))
            } else if let Some(field) = fields.mtime {
                let [seconds, rest] = field.read(space, inode).map_err(&read)?;
                (seconds, rest)
            } else {
                return Ok(None);
            };
        // The upper bits of the nanoseconds are the kernel's own where it keeps finer times.
        Ok(Some(i128::from(seconds.cast_signed()) * 1_000_000_000 + i128::from(rest & 0x3fff_ffff)))
    }

    /// Where a symbolic link leads, if that is in memory.
    pub(super) fn link_target(&self, inode: VirtAddr) -> Result<Option<Vec<u8>>, LinuxError> {
        let space = self.space();
        let read = LinuxError::read("a symbolic link");
        let limit = self.limits().path_bytes;
        if let Some(field) = self.inode_details()?.link {
            let text = field.pointer(space, inode).map_err(&read)?;
            if !text.is_null() {
                return space.read_cstr(text, limit).map(Some).map_err(&read);
            }
        }
        let file = CachedFile::of_inode(self, inode)?;
        let len = file.size.min(limit as u64) as usize;
        let mut target = alloc::vec![0u8; len.min(4096)];
        if target.is_empty() || file.read_in_page(0, &mut target).is_err() {
            return Ok(None);
        }
        target.truncate(memchr::memchr(0, &target).unwrap_or(target.len()));
        Ok((!target.is_empty()).then_some(target))
    }

    /// The magic number of an inode's file system.
    pub(super) fn magic(&self, inode: VirtAddr) -> Result<u64, LinuxError> {
        let read = LinuxError::read("an inode's file system");
        let block = self.inode()?.super_block.pointer(self.space(), inode).map_err(&read)?;
        self.super_block_kind()?.magic.read(self.space(), block).map_err(&read)
    }
}
