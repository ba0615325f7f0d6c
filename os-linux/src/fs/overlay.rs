//! overlayfs: a file's bytes lie in the page cache of the real file, above or below.
//!
//! Source: `struct ovl_inode`, `ovl_inode_real()` and `ovl_has_upperdata()` in `fs/overlayfs/ovl_entry.h` and `util.c`. Lower
//! files are named by `lower` until 6.0, by `lowerpath` until 6.4 (each with `lowerdata`), by a stack behind `oe` later. The
//! types are the kernel's where overlayfs is built in, else those of its module.

use vmc::VirtAddr;
use vmc::layout::{Field, LayoutError, Types};

use crate::error::LinuxError;
use crate::fs::kinds::Backing;
use crate::kernel::Linux;

/// `FILESYSTEM_MAX_STACK_DEPTH` is 2: a real file lies on an overlay again at most once.
const STACKED: usize = 3;
/// `OVL_UPPERDATA` of `enum ovl_inode_flag`: the upper file has the data, not the attributes alone.
const UPPER_DATA: u64 = 1 << 3;
/// Bytes of a pointer.
const WORD: u64 = 8;
/// Layers of one file.
const LAYERS: u32 = 512;

/// The members of overlayfs' own structures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OverlayFields {
    /// The place of the VFS' inode in the overlay's.
    within: u64,
    upper: Field<u64>,
    flags: Field<u64>,
    lower: Lower,
    pub(crate) config: Option<ConfigFields>,
}

/// What an overlay was mounted with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConfigFields {
    pub(crate) upper: Field<u64>,
    pub(crate) work: Field<u64>,
    pub(crate) lower: LowerDirectories,
}

/// How an overlay knows the names of its lower directories.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LowerDirectories {
    /// As they were given, separated by colons.
    Text(Field<u64>),
    /// A list, and how many layers there are, the upper one counted.
    List { list: Field<u64>, layers: Field<u32> },
}

/// How an overlay inode knows its lower files.
#[derive(Clone, Copy, Debug)]
enum Lower {
    /// Inodes: the uppermost lower one, and the one with the data where it is another.
    Inodes { first: Field<u64>, data: Option<Field<u64>> },
    /// A dentry, and the inode with the data where it is another.
    Dentry { first: Field<u64>, data: Option<Field<u64>> },
    /// An array of layers and dentries behind a count.
    Stack { entry: Field<u64>, count: Field<u32>, stack: u64, size: u64, dentry: u64 },
}

impl OverlayFields {
    pub(crate) fn resolve(types: &impl Types) -> Result<Self, LayoutError> {
        const FILE_SYSTEM: &str = "ovl_fs";
        const INODE: &str = "ovl_inode";
        let data = Field::new(types, INODE, "lowerdata").ok();
        let lower = if let Ok(entry) = Field::new(types, INODE, "oe") {
            Lower::Stack {
                entry,
                count: Field::first(types, "ovl_entry", &["__numlower", "numlower"])?,
                stack: types
                    .member("ovl_entry", "__lowerstack")
                    .or_else(|_| types.member("ovl_entry", "lowerstack"))?
                    .offset,
                size: types.size_of("ovl_path")?,
                dentry: types.member("ovl_path", "dentry")?.offset,
            }
        } else if let Ok(first) = Field::new(types, INODE, "lowerpath.dentry") {
            Lower::Dentry { first, data }
        } else {
            Lower::Inodes { first: Field::new(types, INODE, "lower")?, data }
        };
        Ok(Self {
            within: types.member(INODE, "vfs_inode")?.offset,
            upper: Field::new(types, INODE, "__upperdentry")?,
            flags: Field::new(types, INODE, "flags")?,
            lower,
            config: Some(ConfigFields {
                upper: Field::new(types, FILE_SYSTEM, "config.upperdir")?,
                work: Field::new(types, FILE_SYSTEM, "config.workdir")?,
                lower: match Field::new(types, FILE_SYSTEM, "config.lowerdirs") {
                    Ok(list) => LowerDirectories::List {
                        list,
                        layers: Field::first(types, FILE_SYSTEM, &["numlayer", "numlower"])?,
                    },
                    Err(_) => LowerDirectories::Text(Field::new(types, FILE_SYSTEM, "config.lowerdir")?),
                },
            }),
        })
    }

    /// May the upper file have the attributes alone (since 4.19)? Kernels that cannot tell where the data is never part them.
    fn splits_data(&self) -> bool {
        let told = self.config.is_some();
        !matches!(self.lower, Lower::Inodes { data: None, .. } | Lower::Dentry { data: None, .. } if told)
    }

    /// Where modules bring no types (until 5.11): the order of `struct ovl_inode` from 4.19 to 6.0, four words before the
    /// VFS' inode, the upper dentry and the lower inode behind it. What is found so is held against the file's kind.
    pub(crate) fn by_order(types: &impl Types) -> Result<Self, LayoutError> {
        let within = 4 * WORD;
        let behind = within + types.size_of("inode")?;
        Ok(Self {
            within,
            upper: Field::at(behind),
            flags: Field::at(within - WORD),
            // The first word is a directory's cache, or a regular file's lower data.
            lower: Lower::Inodes { first: Field::at(behind + WORD), data: None },
            config: None,
        })
    }
}

impl Linux<'_> {
    /// The inode that has a file's bytes: the real one below overlays, else the inode itself.
    pub(crate) fn real_inode(&self, inode: VirtAddr) -> Result<VirtAddr, LinuxError> {
        let mut at = inode;
        for _ in 0..STACKED {
            if at.is_null() || Backing::of(self.magic(at)?) != Backing::Overlay {
                return Ok(at);
            }
            let below = self.below(at)?;
            if self.kind(below)? != self.kind(at)? {
                let reason = "the file below it is of another kind";
                return Err(LinuxError::Broken { what: "an overlay's inode", at, reason });
            }
            at = below;
        }
        Err(LinuxError::Broken {
            what: "an overlay's inode",
            at: inode,
            reason: "overlays lie on one another deeper than the kernel allows",
        })
    }

    /// The real inode of an overlay's.
    fn below(&self, inode: VirtAddr) -> Result<VirtAddr, LinuxError> {
        let space = self.space();
        let fields = self.overlay()?;
        let read = LinuxError::read("an overlay's inode");
        let own = inode.wrapping_add(fields.within.wrapping_neg());
        let upper = fields.upper.pointer(space, own).map_err(&read)?;
        let inode_of = |dentry: VirtAddr| self.dentry()?.inode.pointer(space, dentry).map_err(&read);
        if !upper.is_null() {
            let flags = fields.flags.read(space, own).map_err(&read)?;
            if flags & UPPER_DATA != 0 || !fields.splits_data() || self.kind(inode)? != super::inode::REGULAR
            {
                return inode_of(upper);
            }
        }
        let found = match fields.lower {
            Lower::Inodes { first, data } => {
                self.data_or(data, inode, own, first.pointer(space, own).map_err(&read)?)?
            }
            Lower::Dentry { first, data } => {
                let dentry = first.pointer(space, own).map_err(&read)?;
                let first = if dentry.is_null() { dentry } else { inode_of(dentry)? };
                self.data_or(data, inode, own, first)?
            }
            Lower::Stack { entry, count, stack, size, dentry } => {
                let entry = entry.pointer(space, own).map_err(&read)?;
                let layers = if entry.is_null() { 0 } else { count.read(space, entry).map_err(&read)? };
                if layers > LAYERS {
                    let reason = "it has more layers than the kernel allows";
                    return Err(LinuxError::Broken { what: "an overlay's inode", at: inode, reason });
                }
                // A file's data is in the lowest of its layers: those above may have its attributes alone.
                let regular = self.kind(inode)? == super::inode::REGULAR;
                let index = if regular { layers.saturating_sub(1) } else { 0 };
                let place = entry.wrapping_add(stack + u64::from(index) * size + dentry);
                let dentry = if layers == 0 {
                    VirtAddr::new(0)
                } else {
                    vmc::ReadExt::read_pointer(space, place).map_err(&read)?
                };
                if dentry.is_null() { dentry } else { inode_of(dentry)? }
            }
        };
        // Attributes alone above, and nothing known below: what the upper file has is all there is.
        let found = if found.is_null() && !upper.is_null() { inode_of(upper)? } else { found };
        if found.is_null() {
            let reason = "it has neither an upper nor a lower file in memory";
            return Err(LinuxError::Broken { what: "an overlay's inode", at: inode, reason });
        }
        Ok(found)
    }

    /// The inode with the data where it is another than `first`.
    fn data_or(
        &self,
        data: Option<Field<u64>>,
        inode: VirtAddr,
        own: VirtAddr,
        first: VirtAddr,
    ) -> Result<VirtAddr, LinuxError> {
        let Some(data) = data else { return Ok(first) };
        // A directory has its cache in the same place.
        if self.kind(inode)? != super::inode::REGULAR {
            return Ok(first);
        }
        let data = data.pointer(self.space(), own).map_err(LinuxError::read("an overlay's inode"))?;
        Ok(if data.is_null() { first } else { data })
    }
}
