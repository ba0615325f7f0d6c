//! Modules: kernel modules, libraries of processes, and what ties either to its debugging information.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::RowErrors;
use crate::addr::VirtAddr;

/// A kernel module, or a library of a process.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Its path, where it has one.
    pub path: Option<String>,
    /// Where it begins.
    pub base: VirtAddr,
    /// Its size in bytes.
    pub size: u64,
    /// Kernel modules: `Live`, `Loading` or `Unloading`.
    pub state: Option<&'static str>,
    /// Its build-id.
    pub build_id: Option<BuildId>,
    /// The kernel's own object for it.
    pub object: VirtAddr,
    /// What could not be read.
    pub errors: RowErrors,
}

/// A section of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleSection {
    /// Its name.
    pub name: String,
    /// Where it was loaded; sections of the initialisation are freed when that is done.
    pub address: VirtAddr,
}

/// What is known of a kernel module beside its [row](super::Module).
#[derive(Clone, Debug, Default)]
pub struct ModuleDetails {
    /// Its sections, in the kernel's order.
    pub sections: Vec<ModuleSection>,
    /// Letters of what it taints the kernel by (`O` out of tree, `E` unsigned, `P` proprietary, …).
    pub taints: Option<String>,
    /// How many users it has; nothing where modules cannot be unloaded.
    pub references: Option<i32>,
    /// The modules that use it.
    pub used_by: Vec<String>,
    /// The version that it was given.
    pub version: Option<String>,
    /// The hash of its source.
    pub source_version: Option<String>,
    /// The arguments that it was loaded with.
    pub args: Option<String>,
    /// What could not be read.
    pub errors: RowErrors,
}

/// A build-id: the hash that ties a binary to its debugging information.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BuildId(pub Arc<[u8]>);

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What an image says in `.gnu_debuglink` of its debug file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DebugLink {
    /// The file's name. The guest's word: anything may stand in it, paths too.
    pub name: Arc<[u8]>,
    /// The CRC32 (IEEE 802.3) of the file.
    pub crc: u32,
}
