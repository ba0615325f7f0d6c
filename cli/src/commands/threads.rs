//! `threads`: threads of all processes, or of one.

use serde_json::json;
use vmc::view::Thread;
use vmc_linux::Task;

use crate::commands::Context;
use crate::commands::ps::unknown;
use crate::failure::Failure;
use crate::output::{Align, Column, Object, Row, address, object, optional};

struct ThreadRow(Thread);

impl Row for ThreadRow {
    const FIELDS: &'static [&'static str] =
        &["tid", "pid", "name", "state", "cpu", "on_cpu", "object", "errors"];
    const COLUMNS: &'static [Column] = &[
        ("PID", Align::Right),
        ("TID", Align::Right),
        ("S", Align::Left),
        ("CPU", Align::Right),
        ("ON", Align::Left),
        ("NAME", Align::Left),
    ];

    fn json(&self) -> Object {
        let row = &self.0;
        let fields = [
            ("tid", json!(row.tid)),
            ("pid", json!(row.pid)),
            ("name", json!(row.name)),
            ("state", optional(row.state, |state| json!(state.to_string()))),
            ("cpu", json!(row.cpu)),
            ("on_cpu", json!(row.on_cpu)),
            ("object", address(row.object)),
        ];
        object(fields, &row.errors)
    }

    fn cells(&self) -> Vec<String> {
        let row = &self.0;
        vec![
            row.pid.to_string(),
            row.tid.to_string(),
            row.state.map_or_else(unknown, |state| state.to_string()),
            row.cpu.map_or_else(unknown, |cpu| cpu.to_string()),
            if row.on_cpu { "*" } else { "" }.to_owned(),
            row.name.clone(),
        ]
    }
}

pub(crate) fn run(context: &Context<'_>, pid: Option<u32>) -> Result<(), Failure> {
    let tasks = tasks(context, pid)?;
    let rows = tasks.iter().map(Task::thread_row).inspect(|row| {
        context.notes.row(&format_args!("tid {}", row.tid), &row.errors);
    });
    context.output().rows(rows.map(ThreadRow))
}

/// The threads of one process or of all, as far as the lists go.
pub(crate) fn tasks<'a>(context: &Context<'a>, pid: Option<u32>) -> Result<Vec<Task<'a, 'a>>, Failure> {
    // The tasks of idle CPUs are on no list.
    if pid == Some(0) {
        let idle: Vec<_> = context.linux.running().filter(|task| task.tid() == Ok(0)).collect();
        if !idle.is_empty() {
            return Ok(idle);
        }
    }
    let leaders = match pid {
        Some(pid) => vec![context.process(pid)?],
        None => {
            let all = context.linux.processes().map_err(|why| context.failed(why))?;
            context.as_far_as_it_goes(all)?
        }
    };
    let threads = context.linux.threads_of(leaders);
    Ok(threads.filter_map(|thread| thread.map_err(|why| context.cut(&why)).ok()).collect())
}
