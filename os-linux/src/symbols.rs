//! [`KernelSymbols`]: the names and addresses in the kernel's image, wherever they come from.

use alloc::vec::Vec;

use vmc::VirtAddr;
use vmc::symbols::SymbolTable;

use crate::kallsyms::Kallsyms;

/// The symbols of the kernel's image.
#[derive(Debug)]
#[non_exhaustive]
pub enum KernelSymbols<'m> {
    /// Those that the kernel carries itself.
    Kallsyms(Kallsyms<'m>),
}

/// A symbol of the kernel, unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KernelSymbol {
    pub(crate) name: Vec<u8>,
    pub(crate) address: VirtAddr,
}

impl KernelSymbols<'_> {
    /// Where they come from, in a word: `kallsyms`.
    #[must_use]
    pub const fn source(&self) -> &'static str {
        match self {
            Self::Kallsyms(_) => "kallsyms",
        }
    }

    /// The addresses of `wanted`, in their order; the first symbol of a name counts.
    #[must_use]
    pub fn addresses_of<const N: usize>(&self, wanted: &[&str; N]) -> [Option<VirtAddr>; N] {
        match self {
            Self::Kallsyms(kallsyms) => kallsyms.addresses_of(wanted),
        }
    }

    /// All symbols, unpacked.
    #[must_use]
    pub fn table(&self) -> SymbolTable {
        match self {
            Self::Kallsyms(kallsyms) => kallsyms.table(),
        }
    }

    /// The symbol that `address` lies in; of aliases the first in the table's order, as the kernel prints it.
    pub(crate) fn at(&self, address: VirtAddr) -> Option<KernelSymbol> {
        match self {
            Self::Kallsyms(kallsyms) => kallsyms.at(address),
        }
    }
}
