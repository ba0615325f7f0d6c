//! Mounts of a namespace, as `/proc/PID/mounts` shows them.
//!
//! Source: `show_vfsmnt()`, `show_sb_opts()` and `show_mnt_opts()` in `fs/proc_namespace.c`; `struct mnt_namespace` in
//! `fs/mount.h`; the flags in `include/linux/mount.h` and `include/linux/fs.h`. What only the file system itself knows
//! (`size=…`) is not told: it says so by a function of its own.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use vmc::layout::Field;
use vmc::text::lossless;
use vmc::view::{Mount, RowErrors};
use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::lists::ListWalk;
use crate::task::Task;
use crate::trees::Nodes;

const READ_ONLY: u32 = 0x40;
const SUPER_READ_ONLY: u64 = 1;
/// Not a mount but the place of somebody who reads the list.
const CURSOR: u32 = 0x1000_0000;
/// Options of a super block, in the order in which they are shown.
const SUPER_OPTIONS: [(u64, &str); 4] =
    [(1 << 4, "sync"), (1 << 7, "dirsync"), (1 << 6, "mand"), (1 << 25, "lazytime")];
/// Options of a mount, in the order in which they are shown.
const MOUNT_OPTIONS: [(u32, &str); 7] = [
    (0x01, "nosuid"),
    (0x02, "nodev"),
    (0x04, "noexec"),
    (0x08, "noatime"),
    (0x10, "nodiratime"),
    (0x20, "relatime"),
    (0x80, "nosymfollow"),
];

/// A mount's root as seen from a process: a `struct vfsmount` and a dentry.
type Root = (VirtAddr, VirtAddr);

impl<'k, 'm> Task<'k, 'm> {
    /// The mounts of its namespace that lie below its root, in the kernel's order, and why they are not all, where they are not.
    ///
    /// # Errors
    /// [`LinuxError`] where the namespace cannot be read; [`LinuxError::Gone`] for zombies.
    pub fn mounts(
        &self,
    ) -> Result<(impl Iterator<Item = Mount> + use<'k, 'm>, Option<LinuxError>), LinuxError> {
        let linux = self.linux;
        let fields = linux.task_files()?;
        let namespaces = self.pointer(fields.namespaces, "nsproxy")?;
        let fs = self.pointer(linux.task_fs()?.fs, "fs")?;
        if namespaces.is_null() || fs.is_null() {
            return Err(LinuxError::Gone { pid: self.pid()?, what: "mounts" });
        }
        let space = linux.space();
        let read = LinuxError::read("the mount namespace");
        let namespace = linux.namespaces()?.mount.pointer(space, namespaces).map_err(&read)?;
        let root_fields = linux.fs_struct()?;
        let root_mount = root_fields.root_mount.pointer(space, fs).map_err(&read)?;
        let root = (root_mount, root_fields.root_dentry.pointer(space, fs).map_err(&read)?);
        let (mounts, ended) = linux.mounts_of(namespace)?;
        Ok((mounts.into_iter().filter_map(move |at| linux.mount_row(at, root)), ended))
    }
}

impl Linux<'_> {
    /// The `struct mount`s of a namespace.
    fn mounts_of(&self, namespace: VirtAddr) -> Result<Nodes, LinuxError> {
        const WHAT: &str = "the list of mounts";
        let (namespaces, mounts) = (self.mount_namespace()?, self.mount_facts()?);
        let limit = self.limits().mounts;
        if let (Some(tree), Some(node)) = (namespaces.tree, mounts.node) {
            let root = tree.pointer(self.space(), namespace).map_err(LinuxError::read(WHAT))?;
            return self.tree_nodes(WHAT, root, node.address(VirtAddr::new(0)).get(), limit);
        }
        let missing = |member: &str| vmc::layout::LayoutError::NoMember {
            structure: "mnt_namespace".into(),
            member: member.into(),
        };
        let head = namespaces.list.ok_or_else(|| missing("list"))?.address(namespace);
        let offset = mounts.list.ok_or_else(|| missing("list"))?.address(VirtAddr::new(0)).get();
        let mut found = Vec::new();
        for at in ListWalk::new(self, WHAT, head, offset, limit) {
            match at {
                Ok(at) => found.push(at),
                Err(why) => return Ok((found, Some(why))),
            }
        }
        Ok((found, None))
    }

    /// A mount as a row; nothing for one that does not lie below the root.
    fn mount_row(&self, at: VirtAddr, root: Root) -> Option<Mount> {
        let (space, limits) = (self.space(), self.limits());
        let mut errors = RowErrors::default();
        let fields = errors.keep(limits, "mount", self.mount_facts());
        let flags = fields.and_then(|f| errors.keep(limits, "options", f.flags.read(space, at)));
        if flags.is_some_and(|flags| flags & CURSOR != 0) {
            return None;
        }
        let target = match self.mount_target(at, root) {
            Ok(None) => return None,
            target => errors.keep(limits, "target", target).flatten(),
        };
        let source = fields.and_then(|f| errors.keep(limits, "source", self.text_at(f.source, at)));
        let block = fields.and_then(|f| errors.keep(limits, "fstype", f.super_block.pointer(space, at)));
        let fstype = block.and_then(|block| errors.keep(limits, "fstype", self.file_system_name(block)));
        let block_flags = block.and_then(|block| errors.keep(limits, "options", self.block_flags(block)));
        let options = flags.zip(block_flags).map(|(mount, block)| options(mount, block));
        let source = source.map(|source| source.unwrap_or_else(|| Vec::from(*b"none")));
        Some(Mount {
            source: source.map(|source| escaped(&source, b" \t\n\\#")),
            target: target.map(|target| escaped(&target, b" \t\n\\")),
            fstype,
            options,
            object: at,
            errors,
        })
    }

    /// Where a mount's root is, as seen from `root`.
    fn mount_target(&self, at: VirtAddr, root: Root) -> Result<Option<Vec<u8>>, LinuxError> {
        let dentry =
            self.mount()?.root.pointer(self.space(), at).map_err(LinuxError::read("a mount's root"))?;
        let within = vmc::layout::Types::member(self.types(), "mount", "mnt")?.offset;
        self.path(at.wrapping_add(within), dentry, Some(root))
    }

    fn block_flags(&self, block: VirtAddr) -> Result<u64, LinuxError> {
        self.super_block_facts()?.flags.read(self.space(), block).map_err(LinuxError::read("s_flags"))
    }

    /// The name of a super block's file system, with the name that a program in user space gave it.
    fn file_system_name(&self, block: VirtAddr) -> Result<String, LinuxError> {
        let fields = self.super_block_facts()?;
        let kind = fields.kind.pointer(self.space(), block).map_err(LinuxError::read("s_type"))?;
        let name = self.text_at(self.file_system()?.name, kind)?.unwrap_or_default();
        let name = escaped(&name, b" \t\n\\#");
        Ok(match self.text_at(fields.subtype, block)? {
            Some(subtype) if !subtype.is_empty() => format!("{name}.{}", escaped(&subtype, b" \t\n\\#")),
            _ => name,
        })
    }

    /// The string that a member points to; nothing where it is null.
    pub(crate) fn text_at(&self, field: Field<u64>, base: VirtAddr) -> Result<Option<Vec<u8>>, LinuxError> {
        let read = LinuxError::read("a string");
        let at = field.pointer(self.space(), base).map_err(&read)?;
        if at.is_null() {
            return Ok(None);
        }
        self.space().read_cstr(at, self.limits().string_bytes).map(Some).map_err(&read)
    }
}

/// The options that flags tell.
fn options(mount: u32, block: u64) -> String {
    let read_only = mount & READ_ONLY != 0 || block & SUPER_READ_ONLY != 0;
    let mut text = String::from(if read_only { "ro" } else { "rw" });
    let of_block = SUPER_OPTIONS.iter().filter(|(bit, _)| block & bit != 0).map(|(_, name)| name);
    let of_mount = MOUNT_OPTIONS.iter().filter(|(bit, _)| mount & bit != 0).map(|(_, name)| name);
    for name in of_block.chain(of_mount) {
        text.push(',');
        text.push_str(name);
    }
    text
}

/// As the kernel writes it: what would break a line into other words in octal.
fn escaped(text: &[u8], special: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    for byte in text {
        if special.contains(byte) {
            bytes.extend_from_slice(format!("\\{byte:03o}").as_bytes());
        } else {
            bytes.push(*byte);
        }
    }
    lossless(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_in_the_kernels_order() {
        assert_eq!(options(0x27, 0), "rw,nosuid,nodev,noexec,relatime");
        assert_eq!(options(0x60, 1 << 25), "ro,lazytime,relatime");
        assert_eq!(options(0, 1), "ro");
    }

    #[test]
    fn a_name_cannot_forge_a_mount() {
        assert_eq!(escaped(b"a b\n/c\\", b" \t\n\\"), "a\\040b\\012/c\\134");
    }
}
