//! [`KernelTypes`]: the layouts of the kernel's structures, wherever they come from.

use alloc::borrow::Cow;
use alloc::string::ToString;

use vmc::layout::{LayoutError, Layouts as _, Member, StructLayout, Types};
use vmc::{AddressSpace, Limits, ReadExt, VirtAddr};
use vmc_types::Btf;

use crate::error::LinuxError;
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

/// The types between `start` and `stop` in the kernel's memory.
///
/// # Errors
/// [`LinuxError::BadTypes`] where there is no BTF, or it is damaged.
pub(crate) fn load_btf<'m>(
    space: &AddressSpace<'m>,
    start: VirtAddr,
    stop: VirtAddr,
    limits: &Limits,
) -> Result<Btf<'m>, LinuxError> {
    let bad = |reason: &str| LinuxError::BadTypes { reason: reason.to_string() };
    let len = stop.offset_from(start).ok_or_else(|| bad("it ends before it begins"))?;
    let len = usize::try_from(len).ok().filter(|len| *len <= limits.btf_bytes);
    let len = len.ok_or_else(|| bad("it is larger than the limit"))?;
    let data = match space.slice(start, len) {
        Some(lent) => Cow::Borrowed(lent),
        None => Cow::Owned(space.read_vec(start, len as u64, len).map_err(LinuxError::read("BTF"))?),
    };
    Btf::parse(data, limits).map_err(bad)
}
