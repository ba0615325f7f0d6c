//! Stacks as rows, and as people read them.

use std::collections::HashMap;
use std::io::Write;

use serde_json::{Value, json};
use vmc::text::printable;
use vmc::view::{FoundBy, Frame, FrameSymbol, RowErrors, Space, Stack, Stop};

use super::Part;
use crate::debug::{Place, Refined, Source};
use crate::output::{Column, Object, Row, address, object, optional};

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

/// A thread with its stack.
pub(crate) struct StackRow {
    part: Part,
    pub(super) thread: Head,
    pub(super) stack: Stack,
    /// The frames' names, as they are shown.
    pub(super) names: Vec<Option<String>>,
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

impl StackRow {
    /// A stack whose frames have no names yet.
    pub(crate) const fn new(part: Part, thread: Head, stack: Stack) -> Self {
        Self { part, thread, stack, names: Vec::new(), details: Vec::new() }
    }

    /// Takes what debug files say: better names, inlined functions as frames of their own, source lines.
    pub(super) fn refine(&mut self, refined: &HashMap<Place, Refined>) {
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
    pub(super) fn print(&self, out: &mut impl Write, color: bool) -> std::io::Result<()> {
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
pub(super) struct FrameRow<'r>(pub(super) &'r StackRow, pub(super) usize);

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
