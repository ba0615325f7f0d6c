//! The commands for Windows guests, one a module.

mod bt;
mod crash;
mod info;
mod lsof;
mod maps;
mod memory;
mod modules;
mod ps;
mod symbols;
mod threads;

use std::cell::{Cell, RefCell};

use vmc_windows::{Process, Windows, WindowsError};

use super::{Question, bt::Part, types};
use crate::args::Command;
use crate::debug::WindowsFiles;
use crate::failure::Failure;
use crate::live::Pause;
use crate::output::Output;

/// What the other commands are, where one knows nothing of Windows.
const KNOWN: &str =
    "info, ps, threads, maps, modules, lsof, bt, symbols, types, translate, read and search know Windows";
/// Lists that are said to be incomplete, one by one.
const MOST_CUTS: usize = 5;

/// What every command works with.
struct Context<'a> {
    question: &'a Question<'a>,
    windows: &'a Windows<'a>,
    pause: Option<&'a Pause<'a>>,
    /// How often it was said that a list is not whole.
    cuts: Cell<usize>,
}

impl<'a> Context<'a> {
    fn output(&self) -> Output {
        self.question.output()
    }

    /// Everything that is asked of the guest has been read: it may run again while that is worked on.
    fn all_is_read(&self) {
        if let Some(pause) = self.pause {
            // Whoever began it asks how it ended.
            let _ = pause.end();
        }
    }

    /// A failure of the guest's, with the target's name.
    fn failed(&self, why: &WindowsError) -> Failure {
        Failure::Said(format!("{}: {why}", self.question.name()))
    }

    /// Says that a list is not whole; of many such lists, not each.
    fn cut(&self, what: &dyn std::fmt::Display) {
        let (notes, name) = (self.question.notes, self.question.name());
        self.cuts.set(self.cuts.get() + 1);
        let text = format!("{name}: incomplete: {what}");
        if self.cuts.get() <= MOST_CUTS { notes.warning(&text) } else { notes.quiet_warning(&text) }
    }

    /// Says how much more is not whole.
    fn end_of_cuts(&self) {
        if let Some(more) = self.cuts.get().checked_sub(MOST_CUTS).filter(|more| *more > 0) {
            let name = self.question.name();
            self.question.notes.say(&format_args!("{name}: incomplete: and {more} more (-v says what)"));
        }
    }

    /// What of a list can be had; what broke it is said.
    fn found<T>(&self, items: impl IntoIterator<Item = Result<T, WindowsError>>) -> Vec<T> {
        items.into_iter().filter_map(|item| item.map_err(|why| self.cut(&why)).ok()).collect()
    }

    /// The process `pid`.
    fn process(&self, pid: u32) -> Result<Process<'a>, Failure> {
        self.windows.process(pid).map_err(|why| self.failed(&why))
    }

    /// The process `pid`, or all of them. Where there is none at all, why.
    fn processes(&self, pid: Option<u32>) -> Result<Vec<Process<'a>>, Failure> {
        if let Some(pid) = pid {
            return Ok(Vec::from([self.process(pid)?]));
        }
        let (mut found, mut broken) = (Vec::new(), Vec::new());
        for item in self.windows.processes() {
            match item {
                Ok(process) => found.push(process),
                Err(why) => broken.push(why),
            }
        }
        if found.is_empty()
            && let Some(why) = broken.first()
        {
            return Err(self.failed(why));
        }
        broken.iter().for_each(|why| self.cut(why));
        Ok(found)
    }
}

/// Does what was asked for.
pub(super) fn run(
    question: &Question<'_>,
    windows: &Windows<'_>,
    pause: Option<&Pause<'_>>,
    files: &RefCell<WindowsFiles<'_>>,
) -> Result<(), Failure> {
    let context = Context { question, windows, pause, cuts: Cell::new(0) };
    let answered = answer(&context, files);
    context.end_of_cuts();
    answered
}

fn answer(context: &Context<'_>, files: &RefCell<WindowsFiles<'_>>) -> Result<(), Failure> {
    let (question, windows) = (context.question, context.windows);
    let name = question.name();
    let not = |what: &str, instead: &str| {
        Err(Failure::Said(format!(
            "{name}: it is a Windows guest, and {what} of those are not read; {instead}"
        )))
    };
    let no_use = |option: &str| {
        question.notes.say(&format_args!("{name}: {option} is of no use for a Windows guest"));
    };
    match &question.args.command {
        Command::Info(_) => info::run(context),
        // Every way is gone in any case: who is on no list is marked.
        Command::Ps { tree, pid, long, .. } => {
            if *long {
                no_use("--long");
            }
            ps::run(context, *pid, *tree)
        }
        Command::Threads { pid, .. } => threads::run(context, *pid),
        Command::Maps { pid, .. } => maps::run(context, *pid),
        Command::Modules { all_ways: true, .. } => not(
            "modules that are on no list (--all-ways)",
            "modules without --all-ways shows those on the list",
        ),
        Command::Modules { pid, .. } => modules::run(context, *pid),
        Command::Lsof { pid, .. } => lsof::run(context, *pid),
        Command::Bt { pid, tid, kernel, user, no_demangle, lines, scan, .. } => {
            let options = [(lines, "--lines"), (scan, "--scan")];
            options.into_iter().filter(|(given, _)| **given).for_each(|(_, option)| no_use(option));
            let part = Part::of(*kernel, *user);
            let options = bt::Options { pid: *pid, tid: *tid, part, demangle: !no_demangle };
            bt::run(context, files, options)
        }
        Command::Symbols { what, .. } => symbols::run(context, what.as_deref()),
        Command::Types { name, .. } => {
            let layout = windows.types().layout(types::plain(name), windows.limits());
            types::print(&mut context.output(), &layout.map_err(|why| context.failed(&why.into()))?)
        }
        Command::Translate { pid, address, .. } => memory::translate(context, *pid, *address),
        Command::Read { pid, address, len, raw, .. } => memory::read(context, *pid, *address, *len, *raw),
        Command::Search { what, .. } => match what.pid {
            Some(_) => not("addresses of matches (--pid)", "search without --pid searches all memory"),
            None => {
                super::search::without_guest(question, &"those of Windows guests are not looked for", what)
            }
        },
        Command::Mounts { .. } => not("mounts", KNOWN),
        Command::Dmesg(_) => not("logs", KNOWN),
        Command::Sockets { .. } => not("sockets", "lsof shows what is open"),
        Command::Containers(_) => not("containers", KNOWN),
        Command::Interfaces(_) => not("network interfaces", KNOWN),
        Command::Env { .. } => not("environments", KNOWN),
        Command::Cat { .. } | Command::Ls { .. } => {
            not("files", "lsof and maps name those that are open and mapped")
        }
        // Asked elsewhere.
        Command::Registers(_) | Command::Dump { .. } | Command::Record { .. } | Command::Top { .. } => Ok(()),
    }
}
