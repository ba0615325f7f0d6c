//! `modules`: kernel modules, or the libraries of a process.

use serde_json::json;
use vmc_windows::ModuleRow;

use super::Context;
use crate::failure::Failure;
use crate::output::{Align, Column, Object, Row, address, object, optional};

struct Printed(ModuleRow);

impl Row for Printed {
    const FIELDS: &'static [&'static str] =
        &["name", "path", "base", "size", "timestamp", "wow64", "pdb", "pdb_id", "object", "errors"];
    const COLUMNS: &'static [Column] =
        &[("BASE", Align::Left), ("SIZE", Align::Right), ("NAME", Align::Left), ("PATH", Align::Left)];

    fn json(&self) -> Object {
        let row = &self.0;
        let fields = [
            ("name", json!(row.name)),
            ("path", json!(row.path)),
            ("base", address(row.base)),
            ("size", json!(row.size)),
            ("timestamp", json!(row.timestamp)),
            ("wow64", json!(row.wow64)),
            ("pdb", json!(row.pdb.as_ref().map(|pdb| &pdb.name))),
            ("pdb_id", json!(row.pdb.as_ref().map(ToString::to_string))),
            ("object", optional(Some(row.object).filter(|object| !object.is_null()), address)),
        ];
        object(fields, &row.errors)
    }

    fn cells(&self) -> Vec<String> {
        let row = &self.0;
        vec![
            row.base.to_string(),
            row.size.to_string(),
            row.name.clone(),
            row.path.clone().unwrap_or_default(),
        ]
    }
}

pub(super) fn run(context: &Context<'_>, pid: Option<u32>) -> Result<(), Failure> {
    let rows = match pid {
        Some(pid) => context.found(context.process(pid)?.modules()),
        None => context.found(context.windows.modules().map_err(|why| context.failed(&why))?),
    };
    for row in &rows {
        context.question.notes.row(&row.name, &row.errors);
    }
    context.output().rows(rows.into_iter().map(Printed))
}
