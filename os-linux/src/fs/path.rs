//! Paths: from a file's dentry up to its mount's root, and on where that is mounted.
//!
//! Source: `d_path()`, `prepend_path()` and `simple_dname()` in `fs/d_path.c`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use vmc::layout::Types;
use vmc::text::lossless;
use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;

impl Linux<'_> {
    /// The path of the `struct file` at `file`, as the guest's `readlink /proc/PID/exe` shows it.
    ///
    /// # Errors
    /// [`LinuxError`] where a part of it cannot be read, or it leads in a circle.
    pub fn file_path(&self, file: VirtAddr) -> Result<String, LinuxError> {
        let (mount, dentry) = self.opened_place(file)?;
        if let Some(name) = self.made_name(mount, dentry)? {
            return Ok(name);
        }
        let path = self.path(mount, dentry, None)?;
        let mut path = lossless(path.as_deref().unwrap_or_default());
        if self.unlinked(dentry)? {
            path.push_str(" (deleted)");
        }
        Ok(path)
    }

    /// The path of a dentry of a mount (`struct vfsmount`), as seen from `root` (a mount and a dentry too), or from the
    /// outermost mount. Nothing where it does not lie below the root.
    pub(crate) fn path(
        &self,
        vfsmount: VirtAddr,
        dentry: VirtAddr,
        root: Option<(VirtAddr, VirtAddr)>,
    ) -> Result<Option<Vec<u8>>, LinuxError> {
        let space = self.space();
        let dentries = self.dentry()?;
        let mounts = self.mount()?;
        let read = LinuxError::read("a path");
        let broken = |at, reason| LinuxError::Broken { what: "a path", at, reason };
        let within = self.types().member("mount", "mnt")?.offset;
        let mut mount =
            vfsmount.checked_sub(within).ok_or_else(|| broken(vfsmount, "its mount is no address"))?;
        let seen_from = root.map(|(vfsmount, dentry)| (vfsmount.wrapping_add(within.wrapping_neg()), dentry));
        let mut at = dentry;
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut bytes = 0usize;
        let mut crossed = 0usize;
        // A root's own mount is left by its dentry: what stands above is not seen.
        while seen_from != Some((mount, at)) {
            let root = mounts.root.pointer(space, mount).map_err(&read)?;
            let parent = dentries.parent.pointer(space, at).map_err(&read)?;
            if at == root || parent == at {
                let below = mounts.parent.pointer(space, mount).map_err(&read)?;
                // The root of all, or a tree that is not mounted.
                if below == mount || at != root {
                    if seen_from.is_some() {
                        return Ok(None);
                    }
                    break;
                }
                crossed += 1;
                if crossed > self.limits().mount_depth {
                    return Err(broken(mount, "it crosses more mounts than the limit"));
                }
                at = mounts.mountpoint.pointer(space, mount).map_err(&read)?;
                mount = below;
                continue;
            }
            let name = self.dentry_name(at)?;
            bytes = bytes.saturating_add(name.len() + 1);
            if names.len() >= self.limits().path_components || bytes > self.limits().path_bytes {
                return Err(broken(at, "it is longer than the limit"));
            }
            names.push(name);
            at = parent;
        }
        let mut path = Vec::with_capacity(bytes.max(1));
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        Ok(Some(path))
    }

    pub(super) fn dentry_name(&self, dentry: VirtAddr) -> Result<Vec<u8>, LinuxError> {
        let space = self.space();
        let fields = self.dentry()?;
        let read = LinuxError::read("a file name");
        let text = fields.name.pointer(space, dentry).map_err(&read)?;
        let len = fields.name_len.read(space, dentry).map_err(&read)?;
        // NAME_MAX is 255; names of anonymous files may be somewhat longer.
        let len = u64::from(len).min(self.limits().path_bytes as u64);
        space.read_vec(text, len, self.limits().path_bytes).map_err(&read)
    }

    /// Is the dentry out of its directory? A root never is.
    pub(super) fn unlinked(&self, dentry: VirtAddr) -> Result<bool, LinuxError> {
        let fields = self.dentry()?;
        let read = LinuxError::read("a dentry");
        let hashed = fields.hashed.pointer(self.space(), dentry).map_err(&read)?;
        let parent = fields.parent.pointer(self.space(), dentry).map_err(&read)?;
        Ok(hashed.is_null() && parent != dentry)
    }

    /// The name of a file that is in no directory: a memfd, shared memory, a pipe, a socket, an anonymous inode.
    fn made_name(&self, vfsmount: VirtAddr, dentry: VirtAddr) -> Result<Option<String>, LinuxError> {
        let space = self.space();
        let fields = self.dentry()?;
        let read = LinuxError::read("a dentry");
        let operations = fields.operations.pointer(space, dentry).map_err(&read)?;
        if operations.is_null() {
            return Ok(None);
        }
        let function = self.dentry_operations()?.made_name.pointer(space, operations).map_err(&read)?;
        if function.is_null() {
            return Ok(None);
        }
        let parent = fields.parent.pointer(space, dentry).map_err(&read)?;
        let root = self.vfsmount()?.root.pointer(space, vfsmount).map_err(&read)?;
        if parent == dentry && root == dentry {
            return Ok(None);
        }
        let name = || self.dentry_name(dentry).map(|name| lossless(&name));
        if Some(function) == self.known.simple_dname {
            return Ok(Some(format!("/{} (deleted)", name()?)));
        }
        let inode_number = || -> Result<u64, LinuxError> {
            let inode = fields.inode.pointer(space, dentry).map_err(&read)?;
            self.inode()?.number.read(space, inode).map_err(LinuxError::read("an inode"))
        };
        let function = self.symbols().at(function.get()).map(|symbol| symbol.name);
        Ok(Some(match function {
            Some(b"pipefs_dname") => format!("pipe:[{}]", inode_number()?),
            Some(b"sockfs_dname") => format!("socket:[{}]", inode_number()?),
            Some(b"ns_dname") => format!("{}:[{}]", self.namespace_kind(dentry)?, inode_number()?),
            Some(b"pidfs_dname") => "anon_inode:[pidfd]".into(),
            Some(b"anon_inodefs_dname") => format!("anon_inode:{}", name()?),
            Some(b"simple_dname") => format!("/{} (deleted)", name()?),
            _ => format!("/{}", name()?),
        }))
    }

    /// What kind of namespace a file of `/proc/PID/ns` is, by its operations (`ns_dname()` in `fs/nsfs.c`).
    fn namespace_kind(&self, dentry: VirtAddr) -> Result<String, LinuxError> {
        let space = self.space();
        let read = LinuxError::read("a namespace's file");
        let inode = self.dentry()?.inode.pointer(space, dentry).map_err(&read)?;
        let namespace = self.inode_facts()?.private.pointer(space, inode).map_err(&read)?;
        let operations = self.any_namespace()?.operations.pointer(space, namespace).map_err(&read)?;
        let name = self.namespace_operations()?.name.pointer(space, operations).map_err(&read)?;
        Ok(lossless(&space.read_cstr(name, self.limits().string_bytes).map_err(&read)?))
    }
}
