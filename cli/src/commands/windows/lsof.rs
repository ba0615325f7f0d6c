//! `lsof`: open handles.

use serde_json::json;
use vmc_windows::HandleRow;

use super::Context;
use crate::commands::ps::unknown;
use crate::failure::Failure;
use crate::output::{Align, Column, Object, Row, address, object, optional};

struct Printed(HandleRow);

impl Row for Printed {
    const FIELDS: &'static [&'static str] = &["pid", "fd", "type", "path", "access", "object", "errors"];
    const COLUMNS: &'static [Column] = &[
        ("PID", Align::Right),
        ("HANDLE", Align::Right),
        ("TYPE", Align::Left),
        ("ACCESS", Align::Right),
        ("NAME", Align::Left),
    ];

    fn json(&self) -> Object {
        let row = &self.0;
        let fields = [
            ("pid", json!(row.pid)),
            ("fd", json!(row.handle)),
            ("type", json!(row.kind)),
            ("path", json!(row.name)),
            ("access", optional(row.access, address)),
            ("object", address(row.object)),
        ];
        object(fields, &row.errors)
    }

    fn cells(&self) -> Vec<String> {
        let row = &self.0;
        vec![
            row.pid.to_string(),
            format!("{:#x}", row.handle),
            row.kind.clone().unwrap_or_else(unknown),
            row.access.map_or_else(unknown, |access| format!("{access:#x}")),
            row.name.clone().unwrap_or_default(),
        ]
    }
}

pub(super) fn run(context: &Context<'_>, pid: Option<u32>) -> Result<(), Failure> {
    let processes = context.processes(pid)?;
    let rows = processes.iter().flat_map(|process| context.found(process.handles())).inspect(|row| {
        context.question.notes.row(&format_args!("pid {} handle {:#x}", row.pid, row.handle), &row.errors);
    });
    context.output().rows(rows.map(Printed))
}
