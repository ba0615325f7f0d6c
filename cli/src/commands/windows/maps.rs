//! `maps`: the ranges of a process' addresses (VADs).

use std::io::Write;

use serde_json::json;
use vmc::text::printable;
use vmc_windows::VadRow;

use super::Context;
use crate::args::Format;
use crate::commands::ps::unknown;
use crate::failure::Failure;
use crate::output::{Column, Object, Row, address, object};

struct Printed(VadRow);

impl Row for Printed {
    const FIELDS: &'static [&'static str] =
        &["start", "end", "protection", "type", "path", "commit", "object", "errors"];
    // Lines of fixed width: a process may have a million ranges, which are printed as they are found.
    const COLUMNS: &'static [Column] = &[];

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
        vec![self.line()]
    }
}

impl Printed {
    fn line(&self) -> String {
        let row = &self.0;
        let commit = row.commit.map_or_else(unknown, |commit| commit.to_string());
        let protection = row.protection.as_deref().map_or_else(unknown, printable);
        let line = format!(
            "{:012x}-{:012x} {:<7} {commit:>7} {protection:<22} {}",
            row.start.get(),
            row.end.get(),
            row.kind.name(),
            row.path.as_deref().map_or_else(String::new, printable)
        );
        line.trim_end().to_owned()
    }
}

pub(super) fn run(context: &Context<'_>, pid: u32) -> Result<(), Failure> {
    let process = context.process(pid)?;
    let rows = process.vads().map_err(|why| context.failed(&why))?;
    let rows = rows.filter_map(|row| row.map_err(|why| context.cut(&why)).ok()).inspect(|row| {
        context.question.notes.row(&row.start, &row.errors);
    });
    let mut output = context.output();
    if output.format() == Format::Table {
        for row in rows {
            writeln!(output.stream(), "{}", Printed(row).line())?;
        }
        return Ok(output.stream().flush()?);
    }
    output.rows(rows.map(Printed))
}
