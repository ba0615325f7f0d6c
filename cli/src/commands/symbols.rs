//! `symbols`: the kernel's symbols.

use serde_json::json;
use vmc::VirtAddr;
use vmc::symbols::Symbol;
use vmc::text::lossless;

use crate::commands::Context;
use crate::failure::Failure;
use crate::output::{Align, Column, Object, Row, address, object};

pub(crate) struct SymbolRow<'t> {
    symbol: Symbol<'t>,
    module: Option<&'t str>,
}

impl<'t> SymbolRow<'t> {
    pub(crate) const fn of_kernel(symbol: Symbol<'t>) -> Self {
        Self { symbol, module: None }
    }
}

impl Row for SymbolRow<'_> {
    const FIELDS: &'static [&'static str] = &["name", "address", "kind", "module"];
    const COLUMNS: &'static [Column] =
        &[("ADDRESS", Align::Right), ("K", Align::Left), ("NAME", Align::Left)];

    fn json(&self) -> Object {
        let fields = [
            ("name", json!(lossless(self.symbol.name))),
            ("address", address(self.symbol.address)),
            ("kind", json!(self.symbol.kind.to_string())),
            ("module", json!(self.module)),
        ];
        object(fields, &vmc::view::RowErrors::default())
    }

    fn cells(&self) -> Vec<String> {
        vec![
            format!("{:016x}", self.symbol.address),
            self.symbol.kind.to_string(),
            lossless(self.symbol.name),
        ]
    }
}

pub(crate) fn run(context: &Context<'_>, what: Option<&str>) -> Result<(), Failure> {
    let table = context.linux.symbols();
    let Some(what) = what else {
        return context.output().rows(table.iter().map(SymbolRow::of_kernel));
    };
    if what.starts_with("0x") || what.starts_with("0X") {
        return at(context, what, crate::args::address(what).map_err(Failure::Said)?);
    }
    let found: Vec<Symbol<'_>> = table.named(what.as_bytes()).collect();
    if found.is_empty() {
        return Err(missing(context, what));
    }
    context.output().rows(found.into_iter().map(SymbolRow::of_kernel))
}

/// The symbol that an address lies in: one of the kernel's image, or of a module.
fn at(context: &Context<'_>, what: &str, address: u64) -> Result<(), Failure> {
    let (linux, place) = (context.linux, VirtAddr::new(address));
    // The last symbol before an address is all that a table knows: outside the image it means nothing.
    let in_image = linux.kernel_range().contains(&place);
    let found = linux.symbols().at(address).filter(|symbol| in_image || symbol.address == address);
    if let Some(symbol) = found {
        return context.output().rows([SymbolRow::of_kernel(symbol)]);
    }
    let Some(found) = linux.module_symbol_at(place) else { return Err(missing(context, what)) };
    let symbol =
        Symbol { name: found.name.as_bytes(), address: found.address.get(), size: None, kind: found.kind };
    context.output().rows([SymbolRow { symbol, module: Some(&found.module) }])
}

fn missing(context: &Context<'_>, what: &str) -> Failure {
    let count = context.linux.symbols().len();
    Failure::Said(format!("{}: no symbol {what} among the kernel's {count}", context.name))
}
