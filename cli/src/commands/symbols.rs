//! `symbols`: the kernel's symbols.

use serde_json::{Value, json};
use vmc::symbols::Symbol;
use vmc::text::lossless;

use crate::commands::Context;
use crate::failure::Failure;
use crate::output::{Align, Column, Object, Row, address, object};

struct SymbolRow<'t>(Symbol<'t>);

impl Row for SymbolRow<'_> {
    const FIELDS: &'static [&'static str] = &["name", "address", "kind", "module"];
    const COLUMNS: &'static [Column] =
        &[("ADDRESS", Align::Right), ("K", Align::Left), ("NAME", Align::Left)];

    fn json(&self) -> Object {
        let fields = [
            ("name", json!(lossless(self.0.name))),
            ("address", address(self.0.address)),
            ("kind", json!(self.0.kind.to_string())),
            ("module", Value::Null),
        ];
        object(fields, &vmc::view::RowErrors::default())
    }

    fn cells(&self) -> Vec<String> {
        vec![format!("{:016x}", self.0.address), self.0.kind.to_string(), lossless(self.0.name)]
    }
}

pub(crate) fn run(context: &Context<'_>, what: Option<&str>) -> Result<(), Failure> {
    let table = context.linux.symbols();
    let Some(what) = what else {
        return context.output().rows(table.iter().map(SymbolRow));
    };
    let found: Vec<Symbol<'_>> = match what.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16)) {
        Some(Ok(address)) => table.at(address).into_iter().collect(),
        Some(Err(_)) => return Err(Failure::Said(format!("{what} is no 64-bit hexadecimal number"))),
        None => table.named(what.as_bytes()).collect(),
    };
    if found.is_empty() {
        let count = table.len();
        return Err(Failure::Said(format!("{}: no symbol {what} among the kernel's {count}", context.name)));
    }
    context.output().rows(found.into_iter().map(SymbolRow))
}
