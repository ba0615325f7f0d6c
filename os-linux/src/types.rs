//! [`KernelTypes`]: the layouts of the kernel's structures, wherever they come from.

use vmc::Limits;
use vmc::layout::{LayoutError, Layouts as _, Member, StructLayout, Types};

use crate::btf::Btf;
use crate::files::GivenTypes;

/// The kernel's types.
#[derive(Debug)]
#[non_exhaustive]
pub enum KernelTypes<'m> {
    /// Those that the kernel carries itself.
    Btf(Btf<'m>),
    /// Those of a file that was given.
    Given(GivenTypes),
}

impl KernelTypes<'_> {
    /// Where they come from, in a word: `btf`, `dwarf`, `isf`.
    #[must_use]
    pub const fn source(&self) -> &'static str {
        match self {
            Self::Btf(_) => "btf",
            Self::Given(given) => given.source,
        }
    }

    /// The whole structure or union `name`.
    ///
    /// # Errors
    /// [`LayoutError`] where there is no such type, or it is damaged.
    pub fn layout(&self, name: &str, limits: &Limits) -> Result<StructLayout, LayoutError> {
        match self {
            Self::Btf(btf) => btf.layout(name, limits),
            Self::Given(given) => given.types.layout(name, limits),
        }
    }
}

impl Types for KernelTypes<'_> {
    fn member(&self, structure: &str, path: &str) -> Result<Member, LayoutError> {
        match self {
            Self::Btf(btf) => btf.member(structure, path),
            Self::Given(given) => given.types.member(structure, path),
        }
    }

    fn size_of(&self, structure: &str) -> Result<u64, LayoutError> {
        match self {
            Self::Btf(btf) => btf.size_of(structure),
            Self::Given(given) => given.types.size_of(structure),
        }
    }
}
