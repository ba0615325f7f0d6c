//! Files: their paths through mounts, their devices and inodes.

mod backing;
mod children;
mod contents;
mod directory;
mod inode;
mod kinds;
mod lookup;
mod mounts;
mod open_files;
mod overlay;
mod path;

pub use contents::FileContents;
pub use directory::{Listing, mode_text};
pub(crate) use overlay::{LowerDirectories, OverlayFields};

use crate::error::LinuxError;
use crate::kernel::Linux;
use vmc::VirtAddr;

/// Which file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileFacts {
    /// Major and minor number.
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
}

impl Linux<'_> {
    /// Which file the `struct file` at `file` is open on.
    pub(crate) fn file_facts(&self, file: VirtAddr) -> Result<FileFacts, LinuxError> {
        let space = self.space();
        let inode = self.opened_inode(file)?;
        let fields = self.inode()?;
        let read = LinuxError::read("an inode");
        let number = fields.number.read(space, inode).map_err(&read)?;
        let super_block = fields.super_block.pointer(space, inode).map_err(&read)?;
        let device =
            self.super_block()?.device.read(space, super_block).map_err(LinuxError::read("s_dev"))?;
        // dev_t: twelve bits of major, twenty of minor number (include/linux/kdev_t.h).
        Ok(FileFacts { device: (device >> 20, device & 0xf_ffff), inode: number })
    }
}
