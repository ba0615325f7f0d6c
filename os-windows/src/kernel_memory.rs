//! [`KernelMemory`]: the kernel's virtual memory, by page tables or as the ranges of a triage dump.

use core::fmt;

use vmc::{AddressSpace, ReadError, VirtAddr, VirtualMemory};

/// The kernel's virtual memory.
pub enum KernelMemory<'m> {
    /// What the page tables of the System process map.
    Tables(AddressSpace<'m>),
    /// What a triage dump holds.
    Ranges(&'m dyn VirtualMemory),
}

impl<'m> KernelMemory<'m> {
    /// The address space, where there are page tables.
    #[must_use]
    pub const fn tables(&self) -> Option<&AddressSpace<'m>> {
        match self {
            Self::Tables(space) => Some(space),
            Self::Ranges(_) => None,
        }
    }
}

impl fmt::Debug for KernelMemory<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tables(space) => space.fmt(f),
            Self::Ranges(_) => f.write_str("ranges of kernel memory"),
        }
    }
}

impl VirtualMemory for KernelMemory<'_> {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        match self {
            Self::Tables(space) => space.read(addr, buf),
            Self::Ranges(ranges) => ranges.read(addr, buf),
        }
    }
}
