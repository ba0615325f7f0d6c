//! `symbols`: the kernel's symbols.

use vmc::VirtAddr;
use vmc::symbols::Symbol;

use super::Context;
use crate::commands::symbols::SymbolRow;
use crate::failure::Failure;

pub(super) fn run(context: &Context<'_>, what: Option<&str>) -> Result<(), Failure> {
    let table = context.windows.symbols();
    let Some(what) = what else {
        return context.output().rows(table.iter().map(SymbolRow::of_kernel));
    };
    let found: Vec<Symbol<'_>> = if what.starts_with("0x") || what.starts_with("0X") {
        let at = crate::args::address(what).map_err(Failure::Said)?;
        let kernel = context.windows.identity();
        let inside = VirtAddr::new(at).offset_from(kernel.base).is_some_and(|offset| offset < kernel.size);
        // The last symbol before an address is all that a table knows: outside the image it means nothing.
        table.at(at).filter(|symbol| inside || symbol.address == at).into_iter().collect()
    } else {
        table.named(what.as_bytes()).collect()
    };
    if found.is_empty() {
        let name = context.question.name();
        return Err(Failure::Said(format!("{name}: no symbol {what} among the kernel's {}", table.len())));
    }
    context.output().rows(found.into_iter().map(SymbolRow::of_kernel))
}
