//! From a path to its file, by what the dentry cache has of the directories.
//!
//! Source: `link_path_walk()`, `follow_dotdot()` and `__follow_mount()` in `fs/namei.c`; `fs/mount.h` (what is mounted below a
//! mount hangs on `mnt_mounts` by `mnt_child`).

use alloc::vec::Vec;

use hashbrown::HashMap;
use vmc::VirtAddr;
use vmc::layout::Types;
use vmc::text::lossless;

use crate::error::LinuxError;
use crate::fs::inode::{DIRECTORY, LINK};
use crate::fs::kinds::Backing;
use crate::kernel::Linux;
use crate::lists::ListWalk;
use crate::mm::CachedFile;
use crate::task::Task;

/// A place in the tree of files: a mount (`struct vfsmount`) and a dentry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) mount: VirtAddr,
    pub(crate) dentry: VirtAddr,
}

/// How many dentries and mounts may still be gone by (many short lists must not make up for the bound of one long one), and
/// what was learned of mounts on the way.
#[derive(Clone, Debug)]
pub(super) struct Steps {
    left: usize,
    /// What is mounted below a mount, by the dentries that it is mounted on.
    mounts: HashMap<VirtAddr, HashMap<VirtAddr, VirtAddr>>,
}

impl Steps {
    pub(super) fn new(linux: &Linux<'_>) -> Self {
        Self { left: linux.limits().path_steps, mounts: HashMap::new() }
    }

    /// One step, at `at`.
    pub(super) fn take(&mut self, at: VirtAddr) -> Result<(), LinuxError> {
        let reason = "it takes more steps than the limit";
        self.left = self.left.checked_sub(1).ok_or(LinuxError::Broken { what: "a path", at, reason })?;
        Ok(())
    }

    /// What is mounted on `dentry` of the `struct mount` at `mount`; of several the one that was mounted last.
    fn mounted(
        &mut self,
        linux: &Linux<'_>,
        mount: VirtAddr,
        dentry: VirtAddr,
    ) -> Result<Option<VirtAddr>, LinuxError> {
        if let Some(known) = self.mounts.get(&mount) {
            return Ok(known.get(&dentry).copied());
        }
        let (mounts, children) = (linux.mount()?, linux.mount_children()?);
        let (head, offset) = (children.list.address(mount), children.link.address(VirtAddr::new(0)).get());
        let mut below = HashMap::new();
        for child in ListWalk::new(linux, "the mounts below one", head, offset, linux.limits().mounts) {
            let child = child?;
            self.take(child)?;
            let on = mounts.mountpoint.pointer(linux.space(), child).map_err(LinuxError::read("a mount"))?;
            below.insert(on, child);
        }
        let found = below.get(&dentry).copied();
        self.mounts.insert(mount, below);
        Ok(found)
    }
}

impl<'k, 'm> Task<'k, 'm> {
    /// The root directory of its process, and the directory that it stands in.
    pub(crate) fn directories(&self) -> Result<(Place, Place), LinuxError> {
        let linux = self.linux;
        let space = linux.space();
        let fs = self.pointer(linux.task_fs()?.fs, "fs")?;
        if fs.is_null() {
            return Err(LinuxError::Gone { pid: self.pid()?, what: "directories" });
        }
        let (root, working) = (linux.fs_struct()?, linux.working_directory()?);
        let read = LinuxError::read("a process' directories");
        Ok((
            Place {
                mount: root.root_mount.pointer(space, fs).map_err(&read)?,
                dentry: root.root_dentry.pointer(space, fs).map_err(&read)?,
            },
            Place {
                mount: working.mount.pointer(space, fs).map_err(&read)?,
                dentry: working.dentry.pointer(space, fs).map_err(&read)?,
            },
        ))
    }

    /// Where `path` leads as the process sees it: an absolute one from its root, any other from the directory it stands in.
    /// Symbolic links are followed, the last one only where `follow` says so.
    pub(super) fn place(&self, path: &[u8], follow: bool) -> Result<Place, LinuxError> {
        let (root, working) = self.directories()?;
        PathWalk { linux: self.linux, root, links: 0, steps: Steps::new(self.linux) }
            .walk(working, path, follow)
    }

    /// The file at a path, as the process sees it; nothing where the dentry cache has it not.
    pub(crate) fn cached_file(&self, path: &[u8]) -> Result<Option<CachedFile<'k, 'm>>, LinuxError> {
        match self.place(path, true) {
            Ok(place) => {
                let inode = self.linux.dentry()?.inode.pointer(self.linux.space(), place.dentry);
                let inode = self.linux.real_inode(inode.map_err(LinuxError::read("a dentry"))?)?;
                CachedFile::of_inode(self.linux, inode).map(Some)
            }
            Err(LinuxError::NoFile { .. }) => Ok(None),
            Err(why) => Err(why),
        }
    }
}

/// A walk along a path.
struct PathWalk<'k, 'm> {
    linux: &'k Linux<'m>,
    root: Place,
    /// How many links were followed.
    links: usize,
    steps: Steps,
}

impl PathWalk<'_, '_> {
    fn walk(&mut self, from: Place, path: &[u8], follow: bool) -> Result<Place, LinuxError> {
        let linux = self.linux;
        let absolute = path.starts_with(b"/");
        let mut at = if absolute { self.root } else { from };
        // What is still to be gone, the next part last.
        let mut rest: Vec<Vec<u8>> = parts(path);
        // What was gone, for messages.
        let mut gone: Vec<u8> = Vec::new();
        let must_be_directory = path.ends_with(b"/");
        while let Some(name) = rest.pop() {
            if gone.len() < linux.limits().path_bytes && (absolute || !gone.is_empty()) {
                gone.push(b'/');
            }
            gone.extend_from_slice(&name);
            let no_file = |reason| LinuxError::NoFile { path: lossless(&gone), reason };
            let directory = self.inode(at)?;
            if linux.kind(directory)? != DIRECTORY {
                return Err(no_file("what stands before it is not a directory"));
            }
            match name.as_slice() {
                b"." => continue,
                b".." => {
                    at = self.parent(at)?;
                    continue;
                }
                _ => {}
            }
            let child = linux.child(at.dentry, &name, &mut self.steps)?;
            let found = match child {
                Some(child) => linux.dentry()?.inode.pointer(linux.space(), child),
                None if linux.holds_every_entry(directory)? => return Err(no_file("there is no such file")),
                None if Backing::of(linux.magic(directory)?) == Backing::Virtual => {
                    return Err(no_file("it lies on a file system that the kernel makes up as it is read"));
                }
                None => {
                    return Err(no_file(
                        "it is not in the dentry cache: whether there is such a file is not known",
                    ));
                }
            };
            let inode = found.map_err(LinuxError::read("a dentry"))?;
            let Some(child) = child.filter(|_| !inode.is_null()) else {
                return Err(no_file("there is no such file"));
            };
            let is_last = rest.is_empty();
            if linux.kind(inode)? == LINK && (!is_last || follow || must_be_directory) {
                self.links += 1;
                if self.links > linux.limits().symbolic_links {
                    return Err(no_file("the way to it follows more symbolic links than the limit"));
                }
                let target = linux.link_target(linux.real_inode(inode)?)?;
                let made_up = Backing::of(linux.magic(inode)?) == Backing::Virtual;
                let target = target.ok_or_else(|| {
                    no_file(if made_up {
                        "it is a symbolic link that the kernel makes up as it is read"
                    } else {
                        "it is a symbolic link whose target is not in memory"
                    })
                })?;
                rest.extend(parts(&target));
                if rest.len() > linux.limits().path_components {
                    return Err(no_file("the way to it is longer than the limit"));
                }
                if target.starts_with(b"/") {
                    at = self.root;
                    gone.clear();
                } else {
                    gone.truncate(gone.len().saturating_sub(name.len() + 1));
                }
                continue;
            }
            at = linux.mounted_on(Place { mount: at.mount, dentry: child }, &mut self.steps)?;
        }
        let inode = self.inode(at)?;
        if must_be_directory && linux.kind(inode)? != DIRECTORY {
            return Err(LinuxError::NoFile { path: lossless(&gone), reason: "it is not a directory" });
        }
        Ok(at)
    }

    fn inode(&self, at: Place) -> Result<VirtAddr, LinuxError> {
        let inode = self.linux.dentry()?.inode.pointer(self.linux.space(), at.dentry);
        inode.map_err(LinuxError::read("a dentry"))
    }

    /// The directory above: that of the mount point at a mount's root; the root has none.
    fn parent(&mut self, mut at: Place) -> Result<Place, LinuxError> {
        let linux = self.linux;
        let space = linux.space();
        let (mounts, within) = (linux.mount()?, linux.types().member("mount", "mnt")?.offset);
        let read = LinuxError::read("a mount");
        for _ in 0..linux.limits().mount_depth {
            if at == self.root {
                return Ok(at);
            }
            let mount = at.mount.wrapping_add(within.wrapping_neg());
            if mounts.root.pointer(space, mount).map_err(&read)? != at.dentry {
                let dentry = linux.dentry()?.parent.pointer(space, at.dentry);
                let dentry = dentry.map_err(LinuxError::read("a dentry"))?;
                return linux.mounted_on(Place { mount: at.mount, dentry }, &mut self.steps);
            }
            let above = mounts.parent.pointer(space, mount).map_err(&read)?;
            if above == mount {
                return Ok(at);
            }
            let dentry = mounts.mountpoint.pointer(space, mount).map_err(&read)?;
            at = Place { mount: above.wrapping_add(within), dentry };
        }
        Err(LinuxError::Broken { what: "a mount", at: at.mount, reason: "more lie on it than the limit" })
    }
}

/// The parts of a path, the first one last.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    let mut names: Vec<Vec<u8>> = names.map(Vec::from).collect();
    names.reverse();
    names
}

impl Linux<'_> {
    /// Where a path goes on from a dentry: at the root of what is mounted there, if anything is.
    pub(super) fn mounted_on(&self, mut at: Place, steps: &mut Steps) -> Result<Place, LinuxError> {
        let space = self.space();
        let within = self.types().member("mount", "mnt")?.offset;
        for _ in 0..self.limits().mount_depth {
            let broken = || LinuxError::Broken { what: "a mount", at: at.mount, reason: "it is no address" };
            let mount = at.mount.checked_sub(within).ok_or_else(broken)?;
            let Some(child) = steps.mounted(self, mount, at.dentry)? else { return Ok(at) };
            let root = self.mount()?.root.pointer(space, child).map_err(LinuxError::read("a mount"))?;
            at = Place { mount: child.wrapping_add(within), dentry: root };
        }
        Err(LinuxError::Broken { what: "a mount", at: at.mount, reason: "more lie on it than the limit" })
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
