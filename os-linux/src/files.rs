//! [`KernelFiles`]: symbols and types of kernels that tell none themselves, out of files that the caller has.

use alloc::boxed::Box;
use core::fmt;

use vmc::layout::Layouts;
use vmc::symbols::SymbolTable;

use crate::identity::KernelIdentity;

/// Types out of a file.
pub struct GivenTypes {
    /// What kind of file, in a word: `dwarf`, `isf`, `btf`.
    pub source: &'static str,
    /// The types.
    pub types: Box<dyn Layouts + Send + Sync>,
}

impl fmt::Debug for GivenTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GivenTypes").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Symbols out of a file, with the addresses that they have there.
#[derive(Debug)]
pub struct GivenSymbols {
    /// What kind of file, in a word: `system-map`, `vmlinux`, `isf`.
    pub source: &'static str,
    /// The symbols.
    pub table: SymbolTable,
}

/// Does a file's symbol table fit the kernel that was found? KASLR may have moved it.
pub type Fits<'f> = dyn Fn(&SymbolTable) -> bool + 'f;

/// What can be asked about a file that does not say itself of which kernel it is.
pub struct Checks<'c> {
    /// Does its symbol table agree with the kernel's symbols?
    pub symbols: &'c Fits<'c>,
    /// Do its types describe what is in memory?
    pub types: &'c dyn Fn(&dyn Layouts) -> bool,
}

impl fmt::Debug for Checks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checks")
    }
}

/// Files about kernels that the caller has. What it gives has to be of the very kernel: by its build-id, by its banner, or else
/// by symbols that fit.
pub trait KernelFiles {
    /// Symbols for the kernel: asked only where it has none itself.
    fn symbols(&mut self, kernel: &KernelIdentity, fits: &Fits<'_>) -> Option<GivenSymbols>;

    /// Types for the kernel: asked only where it has none itself.
    fn types(&mut self, kernel: &KernelIdentity, checks: &Checks<'_>) -> Option<GivenTypes>;
}
