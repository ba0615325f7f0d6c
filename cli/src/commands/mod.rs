//! The commands, one a module: each asks the guest and makes rows of the answer.

mod bt;
mod cat;
mod containers;
mod context;
mod details;
mod dmesg;
mod dump;
mod env;
mod hidden;
mod info;
mod interfaces;
mod kernel;
mod ls;
mod lsof;
mod maps;
mod memory;
mod modules;
mod mounts;
mod ps;
mod question;
mod refusal;
mod registers;
mod search;
mod sockets;
mod symbols;
mod threads;
mod tree;
mod types;
mod windows;

pub(crate) use context::Context;
pub(crate) use kernel::is_missing;
pub(crate) use question::Question;
pub(crate) use search::Pattern;

use std::time::Instant;

use vmc_linux::LinuxError;

use crate::args::Args;
use crate::debug::GuestFiles;
use crate::failure::Failure;
use crate::live::{self, Blocked};
use crate::notes::Notes;
use crate::output::Sink;
use crate::target::{self, Target};

/// Does what was asked for.
pub(crate) fn run(args: &Args, notes: &Notes) -> Result<(), Failure> {
    let name = args.command.target();
    for dir in &args.common.symbols {
        if let Err(why) = std::fs::read_dir(dir) {
            notes.say(&format_args!("--symbols {}: it cannot be read: {why}", dir.display()));
        }
    }
    for option in unused(args) {
        notes.say(&format_args!("{name}: {option} is of no use here"));
    }
    if let Some(command) = args.command.over_time().filter(|_| !target::is_live(name)) {
        return Err(Failure::Said(format!(
            "{name}: {command} needs a guest that runs: kvm:PID, gdb:ADDRESS or qmp:ADDRESS; bt shows the stacks in an image"
        )));
    }
    // Before the backends start threads: none of theirs may take the signals that are waited for.
    let blocked = match target::is_live(name) {
        true => {
            Some(Blocked::new().map_err(|why| Failure::Said(format!("signals cannot be blocked: {why}")))?)
        }
        false => None,
    };
    let attached = Instant::now();
    let mut target = target::open(name, &args.common, notes)?;
    let sink = Sink::default();
    let answered = match (target.live(), &blocked) {
        (Some(guest), Some(blocked)) => {
            let question = Question { args, notes, sink: &sink, target: &target };
            live::run(&question, guest, blocked, attached)
        }
        _ => of_image(args, notes, &sink, &mut target),
    };
    answered.map_err(|why| why.with(&target.warnings()))?;
    for warning in target.warnings() {
        notes.say(&format_args!("{name}: {warning}"));
    }
    notes.end_of_rows();
    Ok(())
}

/// The options that were given and say nothing to the target or the command.
fn unused(args: &Args) -> Vec<&'static str> {
    let (live, name) = (&args.common.live, args.command.target());
    let (kvm, gdb) = (name.starts_with("kvm:"), name.starts_with("gdb:"));
    let is_live = target::is_live(name);
    let over_time = args.command.over_time().is_some();
    [
        (live.layout.is_some() && !(is_live && (kvm || gdb)), "--layout"),
        (live.monitor.is_some() && !(is_live && kvm), "--monitor"),
        (live.no_inject && !(is_live && kvm), "--no-inject"),
        (live.no_stop && (!is_live || over_time), "--no-stop"),
        (over_time && args.common.format != crate::args::Format::Table, "--format"),
    ]
    .into_iter()
    .filter_map(|(unused, option)| unused.then_some(option))
    .collect()
}

/// Asks an image.
fn of_image(args: &Args, notes: &Notes, sink: &Sink, target: &mut Target) -> Result<(), Failure> {
    let mut files = GuestFiles::new(args, notes);
    let question = Question { args, notes, sink, target };
    if !args.command.needs_kernel() {
        return question.ask(None, None, &files);
    }
    if let Some(opened) = question.told_windows(&mut files) {
        return question.ask(Some(&opened), None, &files);
    }
    let linux = question.look_for_linux(&mut files.linux);
    // Other machines than PCs have no memory at 0. A kernel that is found says where its memory has to begin.
    if let Some(Err(LinuxError::NotVerified { .. })) = &linux
        && question.may_move()
        && let Some(base) = vmc_linux::ram_base(target.memory())
    {
        drop(linux);
        target.place_at(base);
        let question = Question { args, notes, sink, target };
        let opened = question.open_kernel(&mut files);
        return question.ask(Some(&opened), None, &files);
    }
    let opened = question.or_windows(linux, &mut files);
    question.ask(Some(&opened), None, &files)
}
