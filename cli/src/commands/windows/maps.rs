//! `maps`: the ranges of a process' addresses (VADs).

use serde_json::json;
use vmc_windows::VadRow;

use super::Context;
use crate::commands::ps::unknown;
use crate::failure::Failure;
use crate::output::{Align, Column, Object, Row, address, object};

struct Printed(VadRow);

impl Row for Printed {
    const FIELDS: &'static [&'static str] =
        &["start", "end", "protection", "type", "path", "commit", "object", "errors"];
    const COLUMNS: &'static [Column] = &[
        ("START", Align::Right),
        ("END", Align::Right),
        ("TYPE", Align::Left),
        ("COMMIT", Align::Right),
        ("PROTECTION", Align::Left),
        ("PATH", Align::Left),
    ];

    fn json(&self) -> Object {
        let row = &self.0;
        let fields = [
            ("start", address(row.start)),
            ("end", address(row.end)),
            ("protection", json!(row.protection)),
            ("type", json!(row.kind.name())),
            ("path", json!(row.path)),
            ("commit", json!(row.commit)),
            ("object", address(row.object)),
        ];
        object(fields, &row.errors)
    }

    fn cells(&self) -> Vec<String> {
        let row = &self.0;
        vec![
            format!("{:x}", row.start),
            format!("{:x}", row.end),
            row.kind.name().to_owned(),
            row.commit.map_or_else(unknown, |commit| commit.to_string()),
            row.protection.clone().unwrap_or_else(unknown),
            row.path.clone().unwrap_or_default(),
        ]
    }
}

pub(super) fn run(context: &Context<'_>, pid: u32) -> Result<(), Failure> {
    let process = context.process(pid)?;
    let rows = context.found(process.vads().map_err(|why| context.failed(&why))?);
    for row in &rows {
        context.question.notes.row(&row.start, &row.errors);
    }
    context.output().rows(rows.into_iter().map(Printed))
}
