//! `ps`: processes.

use serde_json::{Value, json};
use vmc::view::Process;
use vmc_linux::Task;

use crate::commands::Context;
use crate::failure::Failure;
use crate::output::{Align, Column, Object, Row, address, object, optional, texts, time};

struct ProcessRow(Process);

impl Row for ProcessRow {
    const FIELDS: &'static [&'static str] = &[
        "pid",
        "ppid",
        "name",
        "exe",
        "cmdline",
        "uid",
        "gid",
        "state",
        "threads",
        "kernel",
        "start_time",
        "rss_bytes",
        "object",
        "page_table",
        "errors",
    ];
    const COLUMNS: &'static [Column] = &[
        ("UID", Align::Right),
        ("PID", Align::Right),
        ("PPID", Align::Right),
        ("S", Align::Left),
        ("THR", Align::Right),
        ("RSS", Align::Right),
        ("START", Align::Left),
        ("CMD", Align::Left),
    ];

    fn json(&self) -> Object {
        let row = &self.0;
        let fields = [
            ("pid", json!(row.pid)),
            ("ppid", json!(row.ppid)),
            ("name", json!(row.name)),
            ("exe", json!(row.exe)),
            ("cmdline", optional(row.command_line.as_deref(), texts)),
            ("uid", json!(row.uid)),
            ("gid", json!(row.gid)),
            ("state", optional(row.state, |state| json!(state.to_string()))),
            ("threads", json!(row.threads)),
            ("kernel", json!(row.kernel)),
            ("start_time", optional(row.start_time.and_then(time), Value::String)),
            ("rss_bytes", json!(row.rss_bytes)),
            ("object", address(row.object)),
            ("page_table", optional(row.page_table, address)),
        ];
        object(fields, &row.errors)
    }

    fn cells(&self) -> Vec<String> {
        let row = &self.0;
        let number = |number: Option<u64>| number.map_or_else(unknown, |number| number.to_string());
        vec![
            number(row.uid.map(u64::from)),
            row.pid.to_string(),
            number(row.ppid.map(u64::from)),
            row.state.map_or_else(unknown, |state| state.to_string()),
            number(row.threads.map(u64::from)),
            row.rss_bytes.map_or_else(|| "-".to_owned(), human),
            row.start_time.and_then(time).map_or_else(unknown, |time| short(&time)),
            command(row),
        ]
    }
}

/// What could not be read.
pub(crate) fn unknown() -> String {
    "?".to_owned()
}

/// What a process is called in a table: its command line, or its name in brackets where it has none.
pub(crate) fn command(row: &Process) -> String {
    match &row.command_line {
        Some(words) if !words.is_empty() => words.join(" "),
        Some(_) | None if row.kernel || row.exe.is_none() => format!("[{}]", row.name),
        _ => row.exe.clone().unwrap_or_else(unknown),
    }
}

/// Bytes in a few characters: KiB, MiB, GiB.
fn human(bytes: u64) -> String {
    let kib = bytes / 1024;
    match kib {
        0..10_000 => format!("{kib}K"),
        10_000..10_240_000 => format!("{}M", kib >> 10),
        _ => format!("{}G", kib >> 20),
    }
}

/// Month, day, hour and minute of an RFC 3339 time.
fn short(time: &str) -> String {
    time.get(5..16).unwrap_or(time).replace('T', " ")
}

pub(crate) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let tasks = context.tasks(None)?;
    context.output().rows(tasks.iter().map(|task| ProcessRow(process(context, task))))
}

/// A process' row; what it lacks is told.
fn process(context: &Context<'_>, task: &Task<'_, '_>) -> Process {
    let row = task.process_row();
    context.notes.row(&format_args!("pid {}", row.pid), &row.errors);
    row
}

/// All processes, as far as the list goes.
pub(crate) fn processes(context: &Context<'_>) -> Result<Vec<Process>, Failure> {
    Ok(context.tasks(None)?.iter().map(|task| process(context, task)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_stay_short() {
        assert_eq!([human(0), human(4096), human(20 << 20), human(40 << 30)], ["0K", "4K", "20M", "40G"]);
        assert_eq!(short("2026-11-22T07:02:03.000000001Z"), "11-22 07:02");
    }
}
