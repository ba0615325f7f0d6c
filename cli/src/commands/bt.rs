//! `bt`: the stacks of threads.

use std::io::Write;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde_json::{Value, json};
use vmc::text::printable;
use vmc::view::{Frame, Stack, Thread};
use vmc_linux::{LinuxError, Task};
use vmc_unwind::Cache;

use crate::args::Format;
use crate::commands::{Context, threads};
use crate::demangle::{cut, demangle};
use crate::failure::Failure;
use crate::output::{Column, Object, Output, Row, address, object, optional};

/// Which threads, and how their frames are named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) pid: Option<u32>,
    pub(crate) tid: Option<u32>,
    pub(crate) demangle: bool,
}

/// A thread with its stack.
struct StackRow {
    thread: Thread,
    stack: Stack,
    /// The frames' names, as they are shown.
    names: Vec<Option<String>>,
}

pub(crate) fn run(context: &Context<'_>, options: Options) -> Result<(), Failure> {
    let mut tasks = threads::tasks(context, options.pid)?;
    if let Some(tid) = options.tid {
        tasks.retain(|task| task.tid() == Ok(tid));
        if tasks.is_empty() {
            return Err(context.failed(LinuxError::NoThread { tid }));
        }
    }
    let stacks = context.linux.stacks(&tasks);
    let limit = context.linux.limits().demangled_bytes;
    // Stacks do not depend on one another; each worker keeps its own rules.
    let one = |cache: &mut Cache, task: &Task<'_, '_>| {
        let stack = stacks.user_stack(task, cache);
        let name = |frame: &Frame| {
            let raw = &frame.symbol.as_ref()?.name;
            Some(if options.demangle { demangle(raw, limit) } else { cut(raw, limit) })
        };
        let names = stack.frames.iter().map(name).collect();
        let mut thread = task.thread_row();
        thread.errors.messages.extend(stack.errors.messages.iter().cloned());
        StackRow { thread, stack, names }
    };
    let rows: Vec<StackRow> = tasks.par_iter().map_init(Cache::new, one).collect();
    for row in &rows {
        context.notes.row(&format_args!("tid {}", row.thread.tid), &row.thread.errors);
    }
    print(&mut context.output(), rows)
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

impl StackRow {
    /// The heading and a line a frame, like gdb's.
    fn print(&self, out: &mut impl Write, color: bool) -> std::io::Result<()> {
        let (bold, dim, plain) = if color { ("\x1b[1m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
        let thread = &self.thread;
        let state = thread.state.map_or_else(|| "?".to_owned(), |state| state.to_string());
        let on = if thread.on_cpu {
            thread.cpu.map_or(String::new(), |cpu| format!(" on CPU {cpu}"))
        } else {
            String::new()
        };
        let name = printable(&thread.name);
        writeln!(out, "{bold}PID {} TID {} {name} ({state}{on}){plain}", thread.pid, thread.tid)?;
        for (index, (frame, name)) in self.stack.frames.iter().zip(&self.names).enumerate() {
            writeln!(out, "{}", line(index, frame, name.as_deref()))?;
        }
        match self.stack.stop {
            None => writeln!(out, "    {dim}(no user part){plain}")?,
            Some(vmc::view::Stop::End) => {}
            Some(stop) => writeln!(out, "    {dim}({stop}){plain}")?,
        }
        writeln!(out)
    }

    fn frame_json(&self, index: usize) -> Option<Object> {
        let frame = self.stack.frames.get(index)?;
        let symbol = frame.symbol.as_ref();
        let module = frame.module.as_deref();
        let fields = [
            ("ip", address(frame.ip)),
            ("sp", address(frame.sp)),
            ("cfa", optional(frame.cfa, address)),
            ("space", json!(frame.space.name())),
            ("symbol", json!(self.names.get(index).cloned().flatten())),
            ("symbol_offset", json!(symbol.map(|symbol| symbol.offset))),
            ("module", json!(module.map(|module| &module.path))),
            ("module_base", optional(module, |module| address(module.base))),
            ("build_id", json!(module.and_then(|module| module.build_id.as_ref()).map(ToString::to_string))),
            ("function_start", optional(frame.function_start, address)),
            ("found_by", json!(frame.found_by.name())),
            ("signal", json!(frame.signal)),
        ];
        Some(object(fields, &vmc::view::RowErrors::default()))
    }
}

/// A frame's line: number, address, function, and its file's name.
fn line(index: usize, frame: &Frame, name: Option<&str>) -> String {
    let mut line = format!("#{index:<3} {:#018x} ", frame.ip);
    match (name, frame.symbol.as_ref()) {
        (Some(name), Some(symbol)) => line.push_str(&format!("{}+{:#x}", printable(name), symbol.offset)),
        _ => line.push_str("??"),
    }
    if let Some(module) = &frame.module {
        let file = module.path.rsplit('/').next().unwrap_or(&module.path);
        line.push_str(&format!(" ({})", printable(file)));
    }
    if frame.signal {
        line.push_str(" <interrupted by a signal>");
    }
    line
}

impl Row for StackRow {
    const FIELDS: &'static [&'static str] =
        &["pid", "tid", "name", "state", "on_cpu", "frames", "stop", "kernel_stop", "errors"];
    const COLUMNS: &'static [Column] = &[];

    fn json(&self) -> Object {
        let frames =
            (0..self.stack.frames.len()).filter_map(|index| self.frame_json(index)).map(Value::Object);
        let fields = [
            ("pid", json!(self.thread.pid)),
            ("tid", json!(self.thread.tid)),
            ("name", json!(self.thread.name)),
            ("state", optional(self.thread.state, |state| json!(state.to_string()))),
            ("on_cpu", json!(self.thread.on_cpu)),
            ("frames", Value::Array(frames.collect())),
            ("stop", json!(self.stack.stop.map(|stop| stop.to_string()))),
            ("kernel_stop", json!(self.stack.kernel_stop.map(|stop| stop.to_string()))),
        ];
        object(fields, &self.thread.errors)
    }

    fn cells(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A frame as a flat row.
struct FrameRow<'r>(&'r StackRow, usize);

impl Row for FrameRow<'_> {
    const FIELDS: &'static [&'static str] = &[
        "pid",
        "tid",
        "name",
        "frame",
        "ip",
        "sp",
        "cfa",
        "space",
        "symbol",
        "symbol_offset",
        "module",
        "module_base",
        "build_id",
        "function_start",
        "found_by",
        "signal",
    ];
    const COLUMNS: &'static [Column] = &[];

    fn json(&self) -> Object {
        let mut row = Object::new();
        row.insert("pid".into(), json!(self.0.thread.pid));
        row.insert("tid".into(), json!(self.0.thread.tid));
        row.insert("name".into(), json!(self.0.thread.name));
        row.insert("frame".into(), json!(self.1));
        row.extend(self.0.frame_json(self.1).unwrap_or_default());
        row
    }

    fn cells(&self) -> Vec<String> {
        Vec::new()
    }
}
