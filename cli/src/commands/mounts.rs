//! `mounts`: what is mounted where.

use std::io::Write;

use serde_json::json;
use vmc::text::printable;
use vmc::view::Mount;

use crate::args::Format;
use crate::commands::Context;
use crate::commands::ps::unknown;
use crate::failure::Failure;
use crate::output::{Column, Object, Row, address, object};

/// The process whose mounts are shown without `--pid`.
const INIT: u32 = 1;

struct MountRow(Mount);

impl MountRow {
    /// The line of `/proc/mounts`.
    fn line(&self) -> String {
        let row = &self.0;
        let words = [&row.source, &row.target, &row.fstype, &row.options];
        let words = words.map(|word| word.as_deref().map_or_else(unknown, printable));
        format!("{} 0 0", words.join(" "))
    }
}

impl Row for MountRow {
    const FIELDS: &'static [&'static str] = &["source", "target", "fstype", "options", "object", "errors"];
    // The table is `/proc/mounts`' own form.
    const COLUMNS: &'static [Column] = &[];

    fn json(&self) -> Object {
        let row = &self.0;
        let fields = [
            ("source", json!(row.source)),
            ("target", json!(row.target)),
            ("fstype", json!(row.fstype)),
            ("options", json!(row.options)),
            ("object", address(row.object)),
        ];
        object(fields, &row.errors)
    }

    fn cells(&self) -> Vec<String> {
        vec![self.line()]
    }
}

pub(crate) fn run(context: &Context<'_>, pid: Option<u32>) -> Result<(), Failure> {
    let task = context.process(pid.unwrap_or(INIT))?;
    let (rows, ended) = task.mounts().map_err(|why| context.failed(why))?;
    let rows = rows.inspect(|row| context.notes.row(&row.object, &row.errors)).map(MountRow);
    let mut output = context.output();
    if output.format() == Format::Table {
        for row in rows {
            writeln!(output.stream(), "{}", row.line())?;
        }
        output.stream().flush()?;
    } else {
        output.rows(rows)?;
    }
    if let Some(why) = ended {
        context.cut_at(&task, &why);
    }
    Ok(())
}
