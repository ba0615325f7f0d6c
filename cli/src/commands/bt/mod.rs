//! `bt`: the stacks of threads.

use std::collections::HashMap;
use std::io::Write;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde_json::{Value, json};
use vmc::text::printable;
use vmc::view::{FoundBy, Frame, FrameSymbol, RowErrors, Space, Stack, Stop};
use vmc_linux::{LinuxError, Task};
use vmc_unwind::Cache;

use crate::args::Format;
use crate::commands::{Context, threads};
use crate::debug::{DebugFiles, Place, Refined, Source, UnwindFiles, refine};
use crate::demangle::{cut, demangle};
use crate::failure::Failure;
use crate::notes::Notes;
use crate::output::{Column, Object, Output, Row, address, object, optional};

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

/// What stands above a stack: whose it is.
pub(crate) struct Head {
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) name: String,
    pub(crate) state: Option<String>,
    pub(crate) cpu: Option<u32>,
    pub(crate) on_cpu: bool,
    pub(crate) errors: RowErrors,
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

/// A thread with its stack.
pub(crate) struct StackRow {
    part: Part,
    thread: Head,
    stack: Stack,
    /// The frames' names, as they are shown.
    names: Vec<Option<String>>,
    /// What debug files say about each frame; empty without them.
    details: Vec<Detail>,
}

/// What a debug file says about a frame.
#[derive(Clone, Debug, Default)]
struct Detail {
    /// Is it a function that was inlined into the frame below?
    inlined: bool,
    source: Option<Source>,
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

impl StackRow {
    /// A stack whose frames have no names yet.
    pub(crate) const fn new(part: Part, thread: Head, stack: Stack) -> Self {
        Self { part, thread, stack, names: Vec::new(), details: Vec::new() }
    }

    /// Takes what debug files say: better names, inlined functions as frames of their own, source lines.
    fn refine(&mut self, refined: &HashMap<Place, Refined>) {
        let mut frames = Vec::with_capacity(self.stack.frames.len());
        for mut frame in std::mem::take(&mut self.stack.frames) {
            let known = Place::of(&frame).and_then(|place| refined.get(&place));
            let base = frame.module.as_ref().map(|module| module.base);
            // The kernel's own table names its functions as it prints them.
            let better = known.filter(|_| frame.space == Space::User || frame.symbol.is_none());
            if let (Some(base), Some((name, start))) = (base, better.and_then(|known| known.symbol.as_ref()))
            {
                let start = base.wrapping_add(*start);
                let offset = frame.ip.get().wrapping_sub(start.get());
                frame.symbol = Some(FrameSymbol { name: name.clone(), offset, start });
                frame.function_start = Some(start);
            }
            let functions = known.map(|known| known.functions.as_slice()).unwrap_or_default();
            let (outer, inlined) = functions.split_last().unzip();
            for function in inlined.unwrap_or_default() {
                let symbol = frame.symbol.as_ref();
                let symbol = function.name.clone().map(|name| FrameSymbol {
                    name,
                    offset: symbol.map_or(0, |symbol| symbol.offset),
                    start: symbol.map_or(frame.ip, |symbol| symbol.start),
                });
                frames.push(Frame { symbol, ..frame.clone() });
                self.details.push(Detail { inlined: true, source: function.source.clone() });
            }
            self.details
                .push(Detail { inlined: false, source: outer.and_then(|outer| outer.source.clone()) });
            frames.push(frame);
        }
        self.stack.frames = frames;
    }

    /// The heading and a line a frame, like gdb's.
    fn print(&self, out: &mut impl Write, color: bool) -> std::io::Result<()> {
        let (bold, dim, plain) = if color { ("\x1b[1m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
        let thread = &self.thread;
        let state = thread.state.as_deref().unwrap_or("?");
        let on = if thread.on_cpu {
            thread.cpu.map_or(String::new(), |cpu| format!(" on CPU {cpu}"))
        } else {
            String::new()
        };
        let name = printable(&thread.name);
        writeln!(out, "{bold}PID {} TID {} {name} ({state}{on}){plain}", thread.pid, thread.tid)?;
        let frames = self.stack.frames.iter().zip(&self.names).enumerate();
        let (kernel, user): (Vec<_>, Vec<_>) =
            frames.partition(|(_, (frame, _))| frame.space == Space::Kernel);
        for (part, stop) in [(kernel, self.stack.kernel_stop), (user, self.stack.stop)] {
            for (index, (frame, name)) in part {
                writeln!(out, "{}", line(index, frame, name.as_deref(), self.details.get(index)))?;
            }
            if let Some(stop) = stop.filter(|stop| *stop != Stop::End) {
                writeln!(out, "    {dim}({stop}){plain}")?;
            }
        }
        if self.stack.stop.is_none() && self.stack.kernel_stop.is_none() {
            let nothing = match self.part {
                Part::Both => "no stack",
                Part::Kernel => "no kernel part",
                Part::User => "no user part",
            };
            writeln!(out, "    {dim}({nothing}){plain}")?;
        }
        writeln!(out)
    }

    fn frame_json(&self, index: usize) -> Option<Object> {
        let frame = self.stack.frames.get(index)?;
        let symbol = frame.symbol.as_ref();
        let module = frame.module.as_deref();
        let detail = self.details.get(index);
        let source = detail.and_then(|detail| detail.source.as_ref());
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
            ("inlined", json!(detail.is_some_and(|detail| detail.inlined))),
            ("source", optional(source, |source| json!({ "file": source.file, "line": source.line }))),
        ];
        Some(object(fields, &RowErrors::default()))
    }
}

/// A frame's line: number, address, function, and its file's name.
fn line(index: usize, frame: &Frame, name: Option<&str>, detail: Option<&Detail>) -> String {
    let guess = if frame.found_by == FoundBy::Scan { "? " } else { "" };
    let mut line = format!("#{index:<3} {:#018x} {guess}", frame.ip);
    let inlined = detail.is_some_and(|detail| detail.inlined);
    match (name, frame.symbol.as_ref()) {
        (Some(name), _) if inlined => line.push_str(&format!("{} [inlined]", printable(name))),
        (Some(name), Some(symbol)) => line.push_str(&format!("{}+{:#x}", printable(name), symbol.offset)),
        _ => line.push_str("??"),
    }
    let kernel = frame.space == Space::Kernel;
    if kernel {
        line.push_str(" [k]");
    }
    // That a frame of the kernel is the kernel's own goes without saying.
    if let Some(module) = frame.module.as_ref().filter(|module| !kernel || module.path != "kernel") {
        let file = module.path.rsplit('/').next().unwrap_or(&module.path);
        line.push_str(&format!(" ({})", printable(file)));
    }
    if let Some(source) = detail.and_then(|detail| detail.source.as_ref()) {
        line.push_str(&format!(" at {}:{}", printable(&source.file), source.line));
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
            ("state", json!(self.thread.state)),
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
        "inlined",
        "source",
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
