//! `bt`: the stacks of threads.

mod rows;

pub(crate) use rows::{Head, StackRow};

use std::collections::HashMap;
use std::io::Write;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use vmc::view::Frame;
use vmc_linux::{LinuxError, Task};
use vmc_unwind::Cache;

use crate::args::Format;
use crate::commands::{Context, threads};
use crate::debug::{DebugFiles, Place, UnwindFiles, refine};
use crate::demangle::{cut, demangle};
use crate::failure::Failure;
use crate::notes::Notes;
use crate::output::Output;
use rows::FrameRow;

/// Which part of the stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Both,
    Kernel,
    User,
}

impl Part {
    /// The part that two switches ask for.
    pub(crate) const fn of(kernel: bool, user: bool) -> Self {
        match (kernel, user) {
            (true, _) => Self::Kernel,
            (_, true) => Self::User,
            _ => Self::Both,
        }
    }
}

/// Which threads, which part, and how frames are named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) pid: Option<u32>,
    pub(crate) tid: Option<u32>,
    pub(crate) part: Part,
    pub(crate) lines: bool,
    pub(crate) scan: bool,
    pub(crate) demangle: bool,
}

pub(crate) fn run(context: &Context<'_>, options: Options) -> Result<(), Failure> {
    let mut tasks = threads::tasks(context, options.pid)?;
    if let Some(tid) = options.tid {
        tasks.retain(|task| task.tid() == Ok(tid));
        if tasks.is_empty() {
            return Err(context.failed(LinuxError::NoThread { tid }));
        }
    }
    // The kernel part needs nothing of processes.
    let of = if options.part == Part::Kernel { &[][..] } else { &tasks };
    let mut files = DebugFiles::new(&context.common.symbols);
    let stacks = if files.is_empty() {
        context.linux.stacks(of)
    } else {
        let limit = context.linux.limits().unwind_bytes;
        context.linux.stacks_with(of, &mut UnwindFiles { files: &mut files, limit })
    };
    let limit = context.linux.limits().demangled_bytes;
    // Stacks do not depend on one another; each worker keeps its own rules.
    let one = |cache: &mut Cache, task: &Task<'_, '_>| {
        let mut stack = match options.part {
            Part::Both => stacks.stack(task, options.scan, cache),
            Part::Kernel => stacks.kernel_stack(task),
            Part::User => stacks.user_stack(task, options.scan, cache),
        };
        let mut row = task.thread_row();
        row.errors.append(context.linux.limits(), std::mem::take(&mut stack.errors));
        let head = Head {
            pid: row.pid,
            tid: row.tid,
            name: row.name,
            state: row.state.map(String::from),
            cpu: row.cpu,
            on_cpu: row.on_cpu,
            errors: row.errors,
        };
        StackRow::new(options.part, head, stack)
    };
    let mut rows: Vec<StackRow> = tasks.par_iter().map_init(Cache::new, one).collect();
    context.all_is_read();
    if !files.is_empty() {
        let places: Vec<Place> =
            rows.iter().flat_map(|row| &row.stack.frames).filter_map(Place::of).collect();
        let refined = refine(&mut files, places.iter(), options.lines, context.linux.limits());
        rows.iter_mut().for_each(|row| row.refine(&refined));
        files.remarks().for_each(|remark| context.notes.detail(remark));
    } else if options.lines {
        context.notes.warning(&"--lines needs debug files: name their directory by --symbols");
    }
    show(context.notes, &mut context.output(), rows, options.demangle, limit)
}

/// Names the frames and prints the stacks.
pub(crate) fn show(
    notes: &Notes,
    output: &mut Output,
    mut rows: Vec<StackRow>,
    readable_names: bool,
    limit: usize,
) -> Result<(), Failure> {
    // The same functions are on many stacks: each name is made readable once.
    let mut readable: HashMap<String, String> = HashMap::new();
    for row in &mut rows {
        let mut name = |frame: &Frame| {
            let raw = &frame.symbol.as_ref()?.name;
            let make = || if readable_names { demangle(raw, limit) } else { cut(raw, limit) };
            Some(readable.entry(raw.clone()).or_insert_with(make).clone())
        };
        row.names = row.stack.frames.iter().map(&mut name).collect();
    }
    for row in &rows {
        notes.row(&format_args!("tid {}", row.thread.tid), &row.thread.errors);
    }
    print(output, rows)
}

fn print(output: &mut Output, rows: Vec<StackRow>) -> Result<(), Failure> {
    match output.format() {
        Format::Table => {
            let color = output.color();
            for row in &rows {
                row.print(output.stream(), color)?;
            }
            Ok(output.stream().flush()?)
        }
        // A row a frame: a stack is no flat row.
        Format::Csv => output
            .rows(rows.iter().flat_map(|row| (0..row.stack.frames.len()).map(move |at| FrameRow(row, at)))),
        _ => output.rows(rows),
    }
}
