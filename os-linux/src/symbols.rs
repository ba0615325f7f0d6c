//! [`KernelSymbols`]: the names and addresses in the kernel's image, wherever they come from.

use alloc::vec::Vec;

use vmc::VirtAddr;
use vmc::symbols::{SymbolTable, SymbolTableBuilder};

use crate::files::GivenSymbols;
use crate::kallsyms::Kallsyms;

/// The symbols of the kernel's image.
#[derive(Debug)]
#[non_exhaustive]
pub enum KernelSymbols<'m> {
    /// Those that the kernel carries itself.
    Kallsyms(Kallsyms<'m>),
    /// Those of a file that was given, at the addresses that they have in memory.
    Given(GivenSymbols),
}

/// A symbol of the kernel, unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KernelSymbol {
    pub(crate) name: Vec<u8>,
    pub(crate) address: VirtAddr,
}

impl KernelSymbols<'_> {
    /// Where they come from, in a word: `kallsyms`, `system-map`, `vmlinux`, `isf`.
    #[must_use]
    pub const fn source(&self) -> &'static str {
        match self {
            Self::Kallsyms(_) => "kallsyms",
            Self::Given(given) => given.source,
        }
    }

    /// The addresses of `wanted`, in their order; the first symbol of a name counts.
    #[must_use]
    pub fn addresses_of<const N: usize>(&self, wanted: &[&str; N]) -> [Option<VirtAddr>; N] {
        match self {
            Self::Kallsyms(kallsyms) => kallsyms.addresses_of(wanted),
            Self::Given(given) => addresses_of(&given.table, wanted),
        }
    }

    /// All symbols, unpacked.
    #[must_use]
    pub fn table(&self) -> SymbolTable {
        match self {
            Self::Kallsyms(kallsyms) => kallsyms.table(),
            Self::Given(given) => given.table.clone(),
        }
    }

    /// The symbol that `address` lies in; of aliases the first in the table's order, as the kernel prints it.
    pub(crate) fn at(&self, address: VirtAddr) -> Option<KernelSymbol> {
        match self {
            Self::Kallsyms(kallsyms) => kallsyms.at(address),
            Self::Given(given) => given.table.at(address.get()).map(|symbol| KernelSymbol {
                name: symbol.name.to_vec(),
                address: VirtAddr::new(symbol.address),
            }),
        }
    }
}

/// The addresses of `wanted` in a table, in their order; the first symbol of a name counts.
pub(crate) fn addresses_of<const N: usize>(table: &SymbolTable, wanted: &[&str; N]) -> [Option<VirtAddr>; N] {
    let mut found = [None; N];
    for symbol in table.iter() {
        for (slot, name) in found.iter_mut().zip(wanted) {
            if slot.is_none() && symbol.name == name.as_bytes() {
                *slot = Some(VirtAddr::new(symbol.address));
            }
        }
    }
    found
}

/// The same symbols, those of the image (the upper half of the address space) moved by `slide`. Per-CPU ones stay.
pub(crate) fn moved(table: &SymbolTable, slide: u64) -> SymbolTable {
    let mut builder = SymbolTableBuilder::with_capacity(table.len());
    for symbol in table.iter() {
        let at = symbol.address;
        let at = if at >> 63 == 1 { at.wrapping_add(slide) } else { at };
        builder.push(symbol.name, at, symbol.size.unwrap_or(0), symbol.kind);
    }
    builder.build()
}
