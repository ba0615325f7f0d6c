//! `threads`: threads of all processes, or of one.

use serde_json::json;
use vmc_windows::{Thread, ThreadRow};

use super::Context;
use crate::commands::ps::unknown;
use crate::failure::Failure;
use crate::output::{Align, Column, Object, Row, address, object, optional};

struct Printed(ThreadRow);

impl Row for Printed {
    const FIELDS: &'static [&'static str] = &[
        "tid",
        "pid",
        "name",
        "state",
        "wait_reason",
        "cpu",
        "on_cpu",
        "start_address",
        "win32_start_address",
        "teb",
        "object",
        "errors",
    ];
    const COLUMNS: &'static [Column] = &[
        ("PID", Align::Right),
        ("TID", Align::Right),
        ("STATE", Align::Left),
        ("REASON", Align::Left),
        ("CPU", Align::Right),
        ("START", Align::Left),
        ("NAME", Align::Left),
    ];

    fn json(&self) -> Object {
        let row = &self.0;
        let fields = [
            ("tid", json!(row.tid)),
            ("pid", json!(row.pid)),
            ("name", json!(row.name)),
            ("state", json!(row.state)),
            ("wait_reason", json!(row.wait_reason)),
            ("cpu", json!(row.cpu)),
            ("on_cpu", json!(row.on_cpu)),
            ("start_address", optional(row.start_address, address)),
            ("win32_start_address", optional(row.win32_start_address, address)),
            ("teb", optional(row.teb, address)),
            ("object", address(row.object)),
        ];
        object(fields, &row.errors)
    }

    fn cells(&self) -> Vec<String> {
        let row = &self.0;
        vec![
            row.pid.to_string(),
            row.tid.to_string(),
            row.state.map_or_else(unknown, ToOwned::to_owned),
            row.wait_reason.unwrap_or("-").to_owned(),
            row.cpu.map_or_else(unknown, |cpu| cpu.to_string()),
            row.win32_start_address.or(row.start_address).map_or_else(unknown, |start| start.to_string()),
            row.name.clone(),
        ]
    }
}

pub(super) fn run(context: &Context<'_>, pid: Option<u32>) -> Result<(), Failure> {
    let processes = context.processes(pid)?;
    let threads = processes.iter().flat_map(|process| context.found(process.threads()));
    let rows = threads.map(|thread: Thread<'_>| thread.row()).inspect(|row| {
        context.question.notes.row(&format_args!("tid {}", row.tid), &row.errors);
    });
    context.output().rows(rows.map(Printed))
}
