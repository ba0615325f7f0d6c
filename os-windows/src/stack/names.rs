//! [`Names`]: the names of an image's functions, by a file or by what it exports.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;

use once_cell::race::OnceBox;
use vmc::symbols::{SymbolTable, SymbolTableBuilder};
use vmc::view::FrameSymbol;
use vmc::{Limits, VirtAddr, VirtualMemory};

use crate::pe::Image;

/// Names of one image, wherever it is mapped. Exports are read when they are first asked for.
#[derive(Debug)]
pub(super) struct Names {
    given: Option<Arc<SymbolTable>>,
    exports: OnceBox<SymbolTable>,
}

impl Names {
    pub(super) fn new(given: Option<Arc<SymbolTable>>) -> Self {
        Self { given, exports: OnceBox::new() }
    }

    /// The function at `at` of the image that begins at `base`.
    pub(super) fn at<V: VirtualMemory + ?Sized>(
        &self,
        memory: &V,
        base: VirtAddr,
        at: VirtAddr,
        limits: &Limits,
    ) -> Option<FrameSymbol> {
        let exports = || self.exports.get_or_init(|| Box::new(exports(memory, base, limits)));
        let table: &SymbolTable = match &self.given {
            Some(given) => given,
            None => exports(),
        };
        symbol(table, base, at)
    }
}

/// The symbol of a table of relative addresses that `at` lies in.
pub(super) fn symbol(table: &SymbolTable, base: VirtAddr, at: VirtAddr) -> Option<FrameSymbol> {
    let found = table.at(at.offset_from(base)?)?;
    let start = base.wrapping_add(found.address);
    let name = String::from_utf8_lossy(found.name).into_owned();
    Some(FrameSymbol { name, offset: at.get().wrapping_sub(start.get()), start })
}

/// What the image at `base` exports, relative to it.
pub(crate) fn exports(
    memory: &(impl VirtualMemory + ?Sized),
    base: VirtAddr,
    limits: &Limits,
) -> SymbolTable {
    let mut builder = SymbolTableBuilder::default();
    let read = Image::read(memory, base).ok().and_then(|image| image.exports(memory, limits).ok());
    for export in read.iter().flat_map(|exports| exports.all()) {
        if let Some(name) = &export.name {
            builder.push(name.as_bytes(), export.rva.into(), 0, 'T');
        }
    }
    builder.build()
}
