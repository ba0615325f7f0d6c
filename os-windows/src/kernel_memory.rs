//! [`KernelMemory`]: the kernel's virtual memory, by page tables or as the ranges of a triage dump.

use alloc::boxed::Box;
use core::fmt;

use vmc::space::by_pages;
use vmc::{AddressSpace, Limits, ReadError, VirtAddr, VirtualMemory};

use crate::memory::pte::PteFormat;
use crate::memory::resolve::Resolver;
use crate::types::KernelTypes;

/// The kernel's virtual memory.
pub enum KernelMemory<'m> {
    /// What the page tables of the System process map.
    Tables(AddressSpace<'m>),
    /// The same, with what the memory manager leaves in entries that are not present.
    Managed(AddressSpace<'m>, Managed),
    /// What a triage dump holds.
    Ranges(&'m dyn VirtualMemory),
}

/// How entries of page tables that are not present are to be read.
#[derive(Debug)]
pub struct Managed(Box<PteFormat>);

impl<'m> KernelMemory<'m> {
    /// The address space, where there are page tables.
    #[must_use]
    pub const fn tables(&self) -> Option<&AddressSpace<'m>> {
        match self {
            Self::Tables(space) | Self::Managed(space, _) => Some(space),
            Self::Ranges(_) => None,
        }
    }

    /// Reads by the page tables of `space` from now on.
    pub(crate) fn set_space(&mut self, space: AddressSpace<'m>) {
        if let Self::Tables(old) | Self::Managed(old, _) = self {
            *old = space;
        }
    }

    /// The same memory, as far as the kernel's types tell more than its page tables; `state` is where `MiState` lies.
    pub(crate) fn managed(self, types: &KernelTypes, limits: &Limits, state: Option<VirtAddr>) -> Self {
        match self {
            Self::Tables(space) => match PteFormat::new(types, limits, &space, state) {
                Some(format) => Self::Managed(space, Managed(Box::new(format))),
                None => Self::Tables(space),
            },
            other => other,
        }
    }

    /// How entries that are not present are to be read, where the types tell.
    pub(crate) fn format(&self) -> Option<&PteFormat> {
        match self {
            Self::Managed(_, format) => Some(&format.0),
            Self::Tables(_) | Self::Ranges(_) => None,
        }
    }
}

impl fmt::Debug for KernelMemory<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tables(space) | Self::Managed(space, _) => space.fmt(f),
            Self::Ranges(_) => f.write_str("ranges of kernel memory"),
        }
    }
}

impl VirtualMemory for KernelMemory<'_> {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        match self {
            Self::Tables(space) => space.read(addr, buf),
            Self::Managed(space, format) => by_pages(addr, buf, |at, part| {
                Resolver { space, format: Some(&format.0) }.page(at, None)?.read(space.memory(), part)
            }),
            Self::Ranges(ranges) => ranges.read(addr, buf),
        }
    }
}
