//! A kernel module in detail.

use alloc::string::String;
use alloc::vec::Vec;

use super::RowErrors;
use crate::addr::VirtAddr;

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
