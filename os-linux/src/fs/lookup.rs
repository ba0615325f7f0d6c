//! From a path to its file, by what the dentry cache has of the directories.
//!
//! Source: `include/linux/dcache.h` (children hang on `d_subdirs` by `d_child` until 6.7, on `d_children` by `d_sib` later),
//! `fs/mount.h` (what is mounted below a mount hangs on `mnt_mounts` by `mnt_child`).

use vmc::layout::Types;
use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::lists::ListWalk;
use crate::mm::CachedFile;
use crate::task::Task;

impl<'k, 'm> Task<'k, 'm> {
    /// The file at an absolute path without links, as the process sees it; nothing where the dentry cache has it not.
    pub(crate) fn cached_file(&self, path: &[u8]) -> Result<Option<CachedFile<'k, 'm>>, LinuxError> {
        let linux = self.linux;
        let space = linux.space();
        let fs = self.pointer(linux.task_fs()?.fs, "fs")?;
        let fields = linux.fs_struct()?;
        let read = LinuxError::read("a process' root directory");
        let mut mount = fields.root_mount.pointer(space, fs).map_err(&read)?;
        let mut at = fields.root_dentry.pointer(space, fs).map_err(&read)?;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let Some(child) = linux.child(at, name)? else { return Ok(None) };
            (mount, at) = linux.mounted_on(mount, child)?;
        }
        let inode = linux.dentry()?.inode.pointer(space, at).map_err(LinuxError::read("a dentry"))?;
        if inode.is_null() { Ok(None) } else { CachedFile::of_inode(linux, inode).map(Some) }
    }

    /// Its process' number as the process itself knows it.
    pub(crate) fn number_in_namespace(&self) -> Result<u32, LinuxError> {
        let space = self.linux.space();
        let fields = self.linux.task_fs()?;
        let leader = self.pointer(fields.group_leader, "group_leader")?;
        let pid = fields.thread_pid.pointer(space, leader).map_err(LinuxError::read("thread_pid"))?;
        let numbers = self.linux.pid()?;
        let read = LinuxError::read("a pid");
        let level = numbers.level.read(space, pid).map_err(&read)?;
        // MAX_PID_NS_LEVEL is 32.
        if level > 32 {
            return Err(LinuxError::Broken { what: "a pid", at: pid, reason: "its level is too high" });
        }
        let types = self.linux.types();
        let number = types.member("pid", "numbers")?.offset
            + u64::from(level) * types.size_of("upid")?
            + types.member("upid", "nr")?.offset;
        space.read_value(pid.wrapping_add(number)).map_err(read)
    }
}

impl Linux<'_> {
    /// The entry of a directory that has this name.
    fn child(&self, directory: VirtAddr, name: &[u8]) -> Result<Option<VirtAddr>, LinuxError> {
        let space = self.space();
        let children = self.dentry_children()?;
        let limit = self.limits().directory_entries;
        let is_it =
            |entry: VirtAddr| Ok::<_, LinuxError>(self.dentry_name(entry)? == name && !self.unlinked(entry)?);
        if let (Some(head), Some(link)) = (children.children, children.sibling) {
            let offset = link.address(VirtAddr::new(0)).get();
            let read = LinuxError::read("a directory");
            let mut at = head.pointer(space, directory).map_err(&read)?;
            for _ in 0..limit {
                let Some(entry) = at.checked_sub(offset).filter(|_| !at.is_null()) else { return Ok(None) };
                if is_it(entry)? {
                    return Ok(Some(entry));
                }
                at = space.read_pointer(at).map_err(&read)?;
            }
            return Err(LinuxError::Broken {
                what: "a directory",
                at: directory,
                reason: "it has more entries than the limit",
            });
        }
        let (Some(head), Some(link)) = (children.list, children.list_link) else {
            return Err(vmc::layout::LayoutError::NoMember {
                structure: "dentry".into(),
                member: "d_children".into(),
            }
            .into());
        };
        let offset = link.address(VirtAddr::new(0)).get();
        for entry in ListWalk::new(self, "a directory", head.address(directory), offset, limit) {
            // Cursors of open directories hang there too; they have names of no length.
            let entry = entry?;
            if is_it(entry)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Where a path goes on from a dentry of a mount (`struct vfsmount`): at the root of what is mounted there, if anything is.
    fn mounted_on(
        &self,
        mut vfsmount: VirtAddr,
        mut dentry: VirtAddr,
    ) -> Result<(VirtAddr, VirtAddr), LinuxError> {
        let space = self.space();
        let within = self.types().member("mount", "mnt")?.offset;
        let (mounts, children) = (self.mount()?, self.mount_children()?);
        let read = LinuxError::read("a mount");
        let offset = children.link.address(VirtAddr::new(0)).get();
        for _ in 0..self.limits().mount_depth {
            let broken = || LinuxError::Broken { what: "a mount", at: vfsmount, reason: "it is no address" };
            let mount = vfsmount.checked_sub(within).ok_or_else(broken)?;
            let head = children.list.address(mount);
            let mut on_it = None;
            for child in ListWalk::new(self, "the mounts below one", head, offset, self.limits().mounts) {
                let child = child?;
                if mounts.mountpoint.pointer(space, child).map_err(&read)? == dentry {
                    on_it = Some(child);
                }
            }
            let Some(child) = on_it else { return Ok((vfsmount, dentry)) };
            vfsmount = child.wrapping_add(within);
            dentry = mounts.root.pointer(space, child).map_err(&read)?;
        }
        Err(LinuxError::Broken { what: "a mount", at: vfsmount, reason: "more lie on it than the limit" })
    }
}

#[cfg(test)]
mod tests {
    use crate::Linux;
    extern crate std;

    /// On the sample guest, or the one that `VMC_GUEST` names: every process' program is found by its path.
    #[test]
    fn programs_are_found_by_their_paths() {
        let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../guests/sample/mem.elf.zst");
        let path = std::env::var("VMC_GUEST").unwrap_or_else(|_| sample.into());
        let image = vmc_dump::Image::open(&path).unwrap();
        let linux = Linux::open(&image, &image).unwrap();
        let mut found = 0;
        for task in linux.processes().unwrap().map(Result::unwrap) {
            let Some(exe) = task.process_row().exe.filter(|exe| !exe.contains('(')) else { continue };
            let file = task.cached_file(exe.as_bytes()).unwrap();
            assert!(file.is_some(), "{exe}");
            assert!(task.number_in_namespace().unwrap() > 0);
            assert!(task.cached_file(b"/no/such/file").unwrap().is_none());
            found += 1;
        }
        assert!(found > 3);
    }
}
