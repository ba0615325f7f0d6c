//! `ps`: processes.

use serde_json::{Value, json};
use vmc_windows::{Process, ProcessRow};

use super::Context;
use crate::args::Format;
use crate::commands::ps::{short, unknown};
use crate::commands::tree;
use crate::failure::Failure;
use crate::output::{Align, Column, Object, Row, address, object, optional, time};

struct Printed(ProcessRow);

impl Row for Printed {
    const FIELDS: &'static [&'static str] = &[
        "pid",
        "ppid",
        "name",
        "exe",
        "command_line",
        "session",
        "wow64",
        "threads",
        "start_time",
        "exit_time",
        "on_list",
        "object",
        "peb",
        "page_table",
        "user_page_table",
        "errors",
    ];
    const COLUMNS: &'static [Column] = &[
        ("PID", Align::Right),
        ("PPID", Align::Right),
        ("SES", Align::Right),
        ("THR", Align::Right),
        ("START", Align::Left),
        ("FLAGS", Align::Left),
        ("NAME", Align::Left),
        ("COMMAND LINE", Align::Left),
    ];

    fn json(&self) -> Object {
        let row = &self.0;
        let fields = [
            ("pid", json!(row.pid)),
            ("ppid", json!(row.ppid)),
            ("name", json!(row.name)),
            ("exe", json!(row.exe)),
            ("command_line", json!(row.command_line)),
            ("session", json!(row.session)),
            ("wow64", json!(row.wow64)),
            ("threads", json!(row.threads)),
            ("start_time", optional(row.start_time.and_then(time), Value::String)),
            ("exit_time", optional(row.exit_time.and_then(time), Value::String)),
            ("on_list", json!(row.on_list)),
            ("object", address(row.object)),
            ("peb", optional(row.peb, address)),
            ("page_table", optional(row.page_table, address)),
            ("user_page_table", optional(row.user_page_table, address)),
        ];
        object(fields, &row.errors)
    }

    fn cells(&self) -> Vec<String> {
        let row = &self.0;
        let number = |number: Option<u32>| number.map_or_else(unknown, |number| number.to_string());
        let flags = [(row.wow64, "32bit"), (row.exit_time.is_some(), "exited"), (!row.on_list, "unlisted")];
        let flags: Vec<&str> = flags.iter().filter_map(|(is, name)| is.then_some(*name)).collect();
        vec![
            row.pid.to_string(),
            number(row.ppid),
            row.session.map_or_else(|| "-".to_owned(), |session| session.to_string()),
            number(row.threads),
            row.start_time.and_then(time).map_or_else(|| "-".to_owned(), |time| short(&time)),
            if flags.is_empty() { "-".to_owned() } else { flags.join(",") },
            if row.name.is_empty() { unknown() } else { row.name.clone() },
            row.command_line.clone().or_else(|| row.exe.clone()).unwrap_or_default(),
        ]
    }
}

pub(super) fn run(context: &Context<'_>, pid: Option<u32>, as_tree: bool) -> Result<(), Failure> {
    let processes = context.processes(pid)?;
    let rows: Vec<ProcessRow> = processes.iter().map(Process::row).collect();
    for row in &rows {
        context.question.notes.row(&format_args!("pid {}", row.pid), &row.errors);
    }
    let mut output = context.output();
    if as_tree && output.format() == Format::Table {
        let rows: Vec<vmc::view::Process> = rows
            .into_iter()
            .map(|row| vmc::view::Process {
                pid: row.pid,
                ppid: row.ppid,
                name: row.name,
                threads: row.threads,
                ..vmc::view::Process::default()
            })
            .collect();
        return tree::print(&mut output, &rows);
    }
    output.rows(rows.into_iter().map(Printed))
}
