//! [`KernelTypes`]: the layouts of the kernel's structures, out of a file.

use alloc::boxed::Box;
use core::fmt;

use vmc::Limits;
use vmc::layout::{LayoutError, Layouts, Member, StructLayout, Types};

/// The kernel's types.
pub struct KernelTypes {
    source: &'static str,
    types: Box<dyn Layouts + Send + Sync>,
}

impl fmt::Debug for KernelTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelTypes").field("source", &self.source).finish_non_exhaustive()
    }
}

impl KernelTypes {
    pub(crate) fn new(source: &'static str, types: Box<dyn Layouts + Send + Sync>) -> Self {
        Self { source, types }
    }

    /// The [source](Self::source) where there is no file: what the kernel exports, and what public headers fix.
    pub const DERIVED: &'static str = "derived";

    /// Where they come from, in a word: `isf`, `pdb`, [`derived`](Self::DERIVED).
    #[must_use]
    pub const fn source(&self) -> &'static str {
        self.source
    }

    /// The whole structure or union `name`.
    ///
    /// # Errors
    /// [`LayoutError`] where there is no such type, or it is damaged.
    pub fn layout(&self, name: &str, limits: &Limits) -> Result<StructLayout, LayoutError> {
        self.types.layout(name, limits)
    }
}

impl Types for KernelTypes {
    fn member(&self, structure: &str, path: &str) -> Result<Member, LayoutError> {
        self.types.member(structure, path)
    }

    fn size_of(&self, structure: &str) -> Result<u64, LayoutError> {
        self.types.size_of(structure)
    }
}
