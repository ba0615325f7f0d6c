//! What a program opened, where the kernel maps another file in its place.
//!
//! A file of an overlay is mapped through a file of one of its layers, a `struct backing_file`. Since 6.7 that file's own
//! path and inode are the layer's; what the program opened is kept behind them, and `/proc/PID/maps` shows that.
//!
//! Source: `struct backing_file` in `fs/file_table.c`, `file_user_path()` and `file_user_inode()` in `include/linux/fs.h`.

use vmc::VirtAddr;

use crate::error::LinuxError;
use crate::kernel::Linux;

/// `FMODE_BACKING`, which moved from bit 25 to bit 24: the other one means something else, so neither alone is believed.
const MAY_BE_BACKING: u32 = 1 << 24 | 1 << 25;

/// A file's place: a mount (`struct vfsmount`) and a dentry.
pub(super) type Place = (VirtAddr, VirtAddr);

impl Linux<'_> {
    /// Where the `struct file` at `file` lies for the program that opened it.
    pub(super) fn opened_place(&self, file: VirtAddr) -> Result<Place, LinuxError> {
        let space = self.space();
        let fields = self.file()?;
        let read = LinuxError::read("f_path");
        let mount = fields.mount.pointer(space, file).map_err(&read)?;
        let dentry = fields.dentry.pointer(space, file).map_err(&read)?;
        Ok(self.place_behind(file, (mount, dentry)).unwrap_or((mount, dentry)))
    }

    /// The inode of the file at `file`, as the program that opened it sees it.
    pub(super) fn opened_inode(&self, file: VirtAddr) -> Result<VirtAddr, LinuxError> {
        let space = self.space();
        let fields = self.file()?;
        let read = LinuxError::read("f_inode");
        let own = || fields.inode.pointer(space, file).map_err(&read);
        if !self.may_be_backing(file) {
            return own();
        }
        let mount = fields.mount.pointer(space, file).map_err(&read)?;
        let dentry = fields.dentry.pointer(space, file).map_err(&read)?;
        match self.place_behind(file, (mount, dentry)) {
            Some((_, dentry)) => self.dentry()?.inode.pointer(space, dentry).map_err(read),
            None => own(),
        }
    }

    fn may_be_backing(&self, file: VirtAddr) -> bool {
        // Kernels whose backing files keep the layer's path behind their own need none of this.
        let mode = self.backing_file().ok().and(self.file().ok()).and_then(|fields| fields.mode);
        let mode = mode.and_then(|mode| mode.read(self.space(), file).ok());
        mode.is_some_and(|mode| mode & MAY_BE_BACKING != 0)
    }

    /// The place behind a backing file whose own is `own`; nothing where it is no backing file.
    fn place_behind(&self, file: VirtAddr, own: Place) -> Option<Place> {
        if !self.may_be_backing(file) {
            return None;
        }
        let (space, fields) = (self.space(), self.backing_file().ok()?);
        let mount = fields.mount.pointer(space, file).ok()?;
        let dentry = fields.dentry.pointer(space, file).ok()?;
        // Behind a file that is none lies something else: a place is one where mount and dentry are of one file system, and
        // the layer's is another.
        let (of_own, of_behind) = (self.system_of(own)?, self.system_of((mount, dentry))?);
        (of_own != of_behind).then_some((mount, dentry))
    }

    /// The super block of a place, if mount and dentry agree on it.
    fn system_of(&self, (mount, dentry): Place) -> Option<VirtAddr> {
        let space = self.space();
        let by_mount = self.vfsmount().ok()?.super_block.pointer(space, mount).ok()?;
        let inode = self.dentry().ok()?.inode.pointer(space, dentry).ok()?;
        let by_inode = self.inode().ok()?.super_block.pointer(space, inode).ok()?;
        (by_mount == by_inode && !by_mount.is_null()).then_some(by_mount)
    }
}
