//! The entries of a directory, as the dentry cache has them.
//!
//! Source: `include/linux/dcache.h` (children hang on `d_subdirs` by `d_child` until 6.7, on `d_children` by `d_sib` later);
//! `simple_lookup()` in `fs/libfs.c`, the lookup of file systems whose directories are the dentry cache itself.

use alloc::boxed::Box;
use alloc::vec::Vec;

use vmc::VirtAddr;
use vmc::layout::LayoutError;

use crate::error::LinuxError;
use crate::fs::lookup::Steps;
use crate::kernel::Linux;
use crate::lists::{ChainWalk, ListWalk};

const WHAT: &str = "a directory";

impl Linux<'_> {
    /// The dentries below one, those of files that are gone or never were among them. An error is the last thing that comes.
    pub(crate) fn children(
        &self,
        directory: VirtAddr,
    ) -> Result<Box<dyn Iterator<Item = Result<VirtAddr, LinuxError>> + '_>, LinuxError> {
        let children = self.dentry_children()?;
        let limit = self.limits().directory_entries;
        if let (Some(head), Some(link)) = (children.children, children.sibling) {
            let first = head.pointer(self.space(), directory).map_err(LinuxError::read(WHAT))?;
            let offset = link.address(VirtAddr::new(0)).get();
            return Ok(Box::new(ChainWalk::new(self, WHAT, first, offset, limit)));
        }
        let (Some(head), Some(link)) = (children.list, children.list_link) else {
            let missing = LayoutError::NoMember { structure: "dentry".into(), member: "d_children".into() };
            return Err(missing.into());
        };
        let offset = link.address(VirtAddr::new(0)).get();
        Ok(Box::new(ListWalk::new(self, WHAT, head.address(directory), offset, limit)))
    }

    /// The entry of a directory that has this name; it may be a note that there is no such file.
    pub(super) fn child(
        &self,
        directory: VirtAddr,
        name: &[u8],
        steps: &mut Steps,
    ) -> Result<Option<VirtAddr>, LinuxError> {
        for entry in self.children(directory)? {
            // Cursors of open directories hang there too; they have names of no length.
            let entry = entry?;
            steps.take(entry)?;
            if self.dentry_name(entry)? == name && !self.unlinked(entry)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The names in a directory with their dentries, in the order of the names, and why they are not all.
    pub(super) fn named_children(
        &self,
        directory: VirtAddr,
        steps: &mut Steps,
    ) -> Result<(Vec<NamedChild>, Option<LinuxError>), LinuxError> {
        let inode = self.dentry()?.inode;
        let mut found = Vec::new();
        let mut ended = None;
        let child = |at: VirtAddr| -> Result<Option<NamedChild>, LinuxError> {
            let inode = inode.pointer(self.space(), at).map_err(LinuxError::read("a dentry"))?;
            if inode.is_null() || self.unlinked(at)? {
                return Ok(None);
            }
            Ok(Some(NamedChild { name: self.dentry_name(at)?, dentry: at }))
        };
        for at in self.children(directory)? {
            if let Err(why) = steps.take(directory) {
                ended = Some(why);
                break;
            }
            match at.and_then(child) {
                Ok(None) => {}
                Ok(Some(child)) => found.push(child),
                // One that cannot be read does not hide those behind it.
                Err(why) => ended = Some(why),
            }
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok((found, ended))
    }

    /// Does the dentry cache hold every entry of a directory, always?
    pub(super) fn holds_every_entry(&self, inode: VirtAddr) -> Result<bool, LinuxError> {
        let Some(simple) = self.known.simple_lookup else { return Ok(false) };
        let read = LinuxError::read("a directory's operations");
        let operations = self.inode_details()?.operations.pointer(self.space(), inode).map_err(&read)?;
        let lookup = self.inode_operations()?.lookup.pointer(self.space(), operations).map_err(&read)?;
        Ok(lookup == simple)
    }
}

/// An entry of a directory.
#[derive(Clone, Debug)]
pub(super) struct NamedChild {
    pub(super) name: Vec<u8>,
    pub(super) dentry: VirtAddr,
}
