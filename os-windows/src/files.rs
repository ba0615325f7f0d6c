//! [`SymbolFiles`]: types and symbols, out of files that the caller has.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use vmc::layout::Layouts;
use vmc::symbols::SymbolTable;

use crate::identity::{CodeView, KernelIdentity};

/// Types and symbols of the kernel, out of a file.
pub struct GivenKernel {
    /// What kind of file, in a word: `isf`, `pdb`.
    pub source: &'static str,
    /// The types.
    pub types: Box<dyn Layouts + Send + Sync>,
    /// The symbols; addresses are relative to the image's base.
    pub symbols: SymbolTable,
    /// Which PDB it is or was made from.
    pub code_view: Option<CodeView>,
}

impl fmt::Debug for GivenKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GivenKernel")
            .field("source", &self.source)
            .field("code_view", &self.code_view)
            .finish_non_exhaustive()
    }
}

/// Does a file's symbol table (relative addresses) fit the kernel that was found? Asked where its header is not in memory.
pub type Fits<'f> = dyn Fn(&SymbolTable) -> bool + 'f;

/// Files about a guest's images that the caller has.
pub trait SymbolFiles {
    /// Types and symbols for the kernel: by its CodeView record where it is known, else the file whose symbols fit.
    fn kernel(&mut self, kernel: &KernelIdentity, fits: &Fits<'_>) -> Option<GivenKernel>;

    /// Where there is no file of the kernel: is it enough to know what it exports and what public headers fix?
    fn derived_is_enough(&self) -> bool {
        false
    }

    /// Symbols for another image, by its CodeView record; addresses are relative to the image's base.
    fn image(&mut self, image: &CodeView) -> Option<Arc<SymbolTable>>;
}
