//! `maps`: a process' mappings.

use std::io::Write;

use serde_json::json;
use vmc::text::printable;
use vmc::view::Mapping;

use crate::args::Format;
use crate::commands::Context;
use crate::failure::Failure;
use crate::output::{Column, Object, Row, address, object};

struct MappingRow(Mapping);

impl MappingRow {
    fn device(&self) -> String {
        format!("{:02x}:{:02x}", self.0.device.0, self.0.device.1)
    }

    /// The line of `/proc/PID/maps`: the path stands in column 73.
    fn line(&self) -> String {
        let row = &self.0;
        let facts = format!(
            "{:08x}-{:08x} {} {:08x} {} {} ",
            row.start.get(),
            row.end.get(),
            row.permissions,
            row.offset,
            self.device(),
            row.inode
        );
        match &row.path {
            Some(path) => format!("{facts:<73}{}", printable(path)),
            None => facts,
        }
    }
}

impl Row for MappingRow {
    const FIELDS: &'static [&'static str] =
        &["start", "end", "perms", "offset", "dev", "inode", "path", "object", "errors"];
    // The table is `/proc/PID/maps`' own form.
    const COLUMNS: &'static [Column] = &[];

    fn json(&self) -> Object {
        let row = &self.0;
        let fields = [
            ("start", address(row.start)),
            ("end", address(row.end)),
            ("perms", json!(row.permissions.to_string())),
            ("offset", json!(row.offset)),
            ("dev", json!(self.device())),
            ("inode", json!(row.inode)),
            ("path", json!(row.path)),
            ("object", address(row.object)),
        ];
        object(fields, &row.errors)
    }

    fn cells(&self) -> Vec<String> {
        vec![self.line()]
    }
}

pub(crate) fn run(context: &Context<'_>, pid: u32) -> Result<(), Failure> {
    let memory = context.process(pid)?.memory().map_err(|why| context.failed(why))?;
    let (rows, ended) = memory.mapping_rows().map_err(|why| context.failed(why))?;
    for row in &rows {
        context.notes.row(&row.start, &row.errors);
    }
    let mut output = context.output();
    if output.format() == Format::Table {
        for row in rows {
            writeln!(output.stream(), "{}", MappingRow(row).line())?;
        }
        output.stream().flush()?;
    } else {
        output.rows(rows.into_iter().map(MappingRow))?;
    }
    if let Some(why) = ended {
        context.cut(&why);
    }
    Ok(())
}
