//! `lsof`: open files.

use serde_json::{Value, json};
use vmc::view::OpenFile;

use crate::commands::Context;
use crate::commands::ps::unknown;
use crate::failure::Failure;
use crate::output::{Align, Column, Object, Row, address, object, optional};

struct OpenFileRow(OpenFile);

/// As `/proc/PID/fdinfo` writes it: octal, after a zero.
fn octal(flags: u32) -> String {
    format!("0{flags:o}")
}

/// What it is open for, as lsof marks a descriptor: `r`, `w` or `u` for both.
fn access(flags: u32) -> char {
    match flags & 3 {
        0 => 'r',
        1 => 'w',
        _ => 'u',
    }
}

impl Row for OpenFileRow {
    const FIELDS: &'static [&'static str] = &["pid", "fd", "path", "flags", "offset", "object", "errors"];
    const COLUMNS: &'static [Column] = &[
        ("PID", Align::Right),
        ("FD", Align::Right),
        ("FLAGS", Align::Right),
        ("OFFSET", Align::Right),
        ("PATH", Align::Left),
    ];

    fn json(&self) -> Object {
        let row = &self.0;
        let fields = [
            ("pid", json!(row.pid)),
            ("fd", json!(row.fd)),
            ("path", json!(row.path)),
            ("flags", optional(row.flags, |flags| Value::String(octal(flags)))),
            ("offset", json!(row.offset)),
            ("object", address(row.object)),
        ];
        object(fields, &row.errors)
    }

    fn cells(&self) -> Vec<String> {
        let row = &self.0;
        let access = row.flags.map_or('?', access);
        vec![
            row.pid.to_string(),
            format!("{}{access}", row.fd),
            row.flags.map_or_else(unknown, octal),
            row.offset.map_or_else(unknown, |offset| offset.to_string()),
            row.path.clone().unwrap_or_else(unknown),
        ]
    }
}

pub(crate) fn run(context: &Context<'_>, pid: Option<u32>) -> Result<(), Failure> {
    let tasks = context.tasks(pid)?;
    let files = context.linux.open_files_of(tasks);
    let rows = files.filter_map(|row| row.map_err(|why| context.cut(&why)).ok()).inspect(|row| {
        context.notes.row(&format_args!("pid {} fd {}", row.pid, row.fd), &row.errors);
    });
    context.output().rows(rows.map(OpenFileRow))
}

#[cfg(test)]
mod tests {
    use super::{access, octal};

    #[test]
    fn flags_are_those_of_fdinfo() {
        assert_eq!([octal(0), octal(0o100_002)], ["00", "0100002"]);
        assert_eq!([access(0), access(0o2_000_001), access(2)], ['r', 'w', 'u']);
    }
}
