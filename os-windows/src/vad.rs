//! VADs (virtual address descriptors): the tree of a process' ranges of addresses.

use vmc::VirtAddr;

use crate::error::WindowsError;
use crate::process::Process;
use crate::windows::Windows;

mod layout;
mod protection;
mod tree;
mod walk;

pub(crate) use tree::VadTree;
pub use walk::Vads;

/// The ranges of the process whose object is `eprocess`, in the order of their addresses.
///
/// # Errors
/// [`WindowsError`] where the types lack something, or the tree's root cannot be read.
pub fn vads<'w, 'm>(windows: &'w Windows<'m>, eprocess: VirtAddr) -> Result<Vads<'w, 'm>, WindowsError> {
    Ok(Vads::new(VadTree::new(windows, eprocess)?))
}

impl<'w> Process<'w> {
    /// Its ranges of addresses, in their order.
    ///
    /// # Errors
    /// [`WindowsError`] where the types lack something, or the tree's root cannot be read.
    pub fn vads(&self) -> Result<Vads<'w, 'w>, WindowsError> {
        vads(self.windows(), self.object())
    }
}
