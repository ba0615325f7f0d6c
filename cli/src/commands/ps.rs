//! `ps`: processes.

use serde_json::{Value, json};
use vmc::view::{Process, ProcessDetails};
use vmc_linux::Task;

use crate::args::Format;
use crate::commands::{Context, details};
use crate::failure::Failure;
use crate::output::{Align, Column, Object, Row, address, object, optional, texts, time};

/// A process with its details.
pub(crate) struct DetailedRow(pub(crate) Process, pub(crate) ProcessDetails);

/// The fields of a process' row that stand before its details.
const FIELDS: [&str; 12] = [
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
];

pub(crate) const ALL_FIELDS: [&str; FIELDS.len() + details::FIELDS.len()] = {
    let mut all = [""; FIELDS.len() + details::FIELDS.len()];
    let (first, more) = all.split_at_mut(FIELDS.len());
    first.copy_from_slice(&FIELDS);
    more.copy_from_slice(&details::FIELDS);
    all
};

impl Row for DetailedRow {
    const FIELDS: &'static [&'static str] = &ALL_FIELDS;
    const COLUMNS: &'static [Column] = &[
        ("UID", Align::Right),
        ("PID", Align::Right),
        ("PPID", Align::Right),
        ("PGID", Align::Right),
        ("SID", Align::Right),
        ("TTY", Align::Left),
        ("S", Align::Left),
        ("NI", Align::Right),
        ("VSIZE", Align::Right),
        ("RSS", Align::Right),
        ("TIME", Align::Right),
        ("CMD", Align::Left),
    ];

    fn json(&self) -> Object {
        let Self(row, more) = self;
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
        ];
        let behind = [("object", address(row.object)), ("page_table", optional(row.page_table, address))];
        object(fields.into_iter().chain(details::fields(more)).chain(behind), &row.errors)
    }

    fn cells(&self) -> Vec<String> {
        let Self(row, more) = self;
        let number = |number: Option<u32>| number.map_or_else(unknown, |number| number.to_string());
        let spent = more.user_time.zip(more.system_time).map(|(user, system)| user.saturating_add(system));
        vec![
            number(row.uid),
            row.pid.to_string(),
            number(row.ppid),
            number(more.group),
            number(more.session),
            more.tty.clone().unwrap_or_else(|| "-".to_owned()),
            row.state.map_or_else(unknown, |state| state.to_string()),
            more.nice.map_or_else(unknown, |nice| nice.to_string()),
            more.mapped_bytes.map_or_else(|| "-".to_owned(), human),
            row.rss_bytes.map_or_else(|| "-".to_owned(), human),
            spent.map_or_else(unknown, |spent| format!("{:.2}", details::seconds(spent))),
            command(row),
        ]
    }
}

struct ProcessRow(Process);

impl Row for ProcessRow {
    // Only the table is without details.
    const FIELDS: &'static [&'static str] = &FIELDS;
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
        DetailedRow(self.0.clone(), ProcessDetails::default()).json()
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
pub(crate) fn short(time: &str) -> String {
    time.get(5..16).unwrap_or(time).replace('T', " ")
}

pub(crate) fn run(context: &Context<'_>, pid: Option<u32>, long: bool) -> Result<(), Failure> {
    let mut output = context.output();
    let table = output.format() == Format::Table;
    let tasks = context.tasks(pid)?;
    if table && !long && pid.is_none() {
        return output.rows(tasks.iter().map(|task| ProcessRow(process(context, task))));
    }
    let mut rows = tasks.iter().map(|task| detailed(context, task));
    match rows.next() {
        // One process for people: a line a field.
        Some(row) if table && !long => output.object(row.json()),
        first => output.rows(first.into_iter().chain(rows)),
    }
}

/// A process with its details; what could not be read of either is told.
pub(crate) fn detailed(context: &Context<'_>, task: &Task<'_, '_>) -> DetailedRow {
    let (mut row, mut details) = (task.process_row(), task.process_details());
    row.errors.append(context.linux.limits(), std::mem::take(&mut details.errors));
    context.notes.row(&format_args!("pid {}", row.pid), &row.errors);
    DetailedRow(row, details)
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
