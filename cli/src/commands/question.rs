//! What was asked, and which command answers it.

use vmc::LiveError;
use vmc_linux::Linux;

use super::{
    bt, cat, containers, dmesg, dump, env, hidden, info, interfaces, ls, lsof, maps, memory, modules, mounts,
    ps, registers, search, sockets, symbols, threads, tree, types, windows,
};
use crate::args::{Args, Command};
use crate::commands::Context;
use crate::debug::GuestFiles;
use crate::failure::Failure;
use crate::guest::{Guest, NotOpened};
use crate::live::{self, Pause};
use crate::notes::Notes;
use crate::output::{Output, Sink};
use crate::target::Target;

/// What is asked, of which target, and where the answer goes.
pub(crate) struct Question<'a> {
    pub(crate) args: &'a Args,
    pub(crate) notes: &'a Notes,
    pub(crate) sink: &'a Sink,
    pub(crate) target: &'a Target,
}

impl<'a> Question<'a> {
    /// The target as it was named.
    pub(crate) fn name(&self) -> &'a str {
        self.args.command.target()
    }

    /// Where results go.
    pub(crate) fn output(&self) -> Output {
        Output::new(&self.args.common, self.sink)
    }

    /// A failure to hold or let go the guest, with the target's name.
    pub(crate) fn live_failure(&self, source: LiveError) -> Failure {
        let source = match source {
            LiveError::Gone { .. } => source,
            other => self.target.live().and_then(live::gone).unwrap_or(other),
        };
        Failure::Said(format!("{}: {source}", self.name()))
    }

    /// That the virtual machine is gone, if it is and that is known.
    pub(crate) fn gone(&self) -> Option<Failure> {
        self.target.live().and_then(live::gone).map(|why| self.live_failure(why))
    }

    /// Answers it, with the kernel that was found, or the reason why there is none. Where the guest stands, `pause` may end
    /// as soon as everything is read.
    pub(crate) fn ask(
        &self,
        opened: Option<&Result<Guest<'a>, NotOpened>>,
        pause: Option<&Pause<'_>>,
        files: &GuestFiles<'_>,
    ) -> Result<(), Failure> {
        if let Some(Ok(Guest::Windows(windows))) = opened {
            self.say_if_derived(windows, &files.windows.borrow());
        }
        match (&self.args.command, opened) {
            (Command::Registers(_), _) => registers::run(self),
            (Command::Read { physical: true, address, len, raw, .. }, _) => {
                memory::read_physical(self, *address, *len, *raw)
            }
            (Command::Search { what, .. }, Some(Err(why))) if what.pid.is_none() => {
                search::without_guest(self, why, what)
            }
            (Command::Dump { out, .. }, Some(opened)) => {
                if let Err(why) = opened {
                    let name = self.name();
                    self.notes.warning(&format_args!(
                        "{name}: without the kernel's addresses and VMCOREINFO: {why}"
                    ));
                }
                dump::run(self, opened.as_ref().ok(), pause, out)
            }
            (Command::Info(_), Some(Err(why))) => {
                info::without_guest(self)?;
                Err(self.not_understood(why, files))
            }
            (_, Some(Err(why))) => Err(self.not_understood(why, files)),
            (_, Some(Ok(Guest::Linux(linux)))) => self.ask_guest(linux, pause),
            (_, Some(Ok(Guest::Windows(guest)))) => windows::run(self, guest, pause, &files.windows),
            (_, None) => Ok(()),
        }
    }

    /// Asks the guest whose kernel was found.
    fn ask_guest(&self, linux: &Linux<'_>, pause: Option<&Pause<'_>>) -> Result<(), Failure> {
        let Self { args, notes, sink, target } = *self;
        let context = Context { name: self.name(), common: &args.common, notes, sink, target, linux, pause };
        match &args.command {
            Command::Info(_) => info::run(&context),
            // Asked before, without a guest.
            Command::Registers(_) | Command::Dump { .. } => Ok(()),
            Command::Ps { all_ways: true, .. } => hidden::processes(&context),
            Command::Ps { tree: false, pid, long, .. } => ps::run(&context, *pid, *long),
            Command::Ps { tree: true, .. } => tree::run(&context),
            Command::Threads { pid, .. } => threads::run(&context, *pid),
            Command::Maps { pid, .. } => maps::run(&context, *pid),
            Command::Modules { all_ways: true, .. } => hidden::modules(&context),
            Command::Modules { pid, .. } => modules::run(&context, *pid),
            Command::Lsof { pid, .. } => lsof::run(&context, *pid),
            Command::Mounts { pid, .. } => mounts::run(&context, *pid),
            Command::Dmesg(_) => dmesg::run(&context),
            Command::Sockets { pid, .. } => sockets::run(&context, *pid),
            Command::Containers(_) => containers::run(&context),
            Command::Interfaces(_) => interfaces::run(&context),
            Command::Env { pid, .. } => env::run(&context, *pid),
            Command::Cat { path, pid, fd, partial, .. } => {
                let options = cat::Options { path: path.as_deref(), pid: *pid, fd: *fd, partial: *partial };
                cat::run(&context, &options)
            }
            Command::Ls { path, pid, recursive, .. } => ls::run(&context, path, *pid, *recursive),
            Command::Bt { pid, tid, kernel, user, lines, scan, no_demangle, .. } => {
                let part = bt::Part::of(*kernel, *user);
                let demangle = !no_demangle;
                let options =
                    bt::Options { pid: *pid, tid: *tid, part, lines: *lines, scan: *scan, demangle };
                bt::run(&context, options)
            }
            // Asked elsewhere: they take their time.
            Command::Record { .. } | Command::Top { .. } => Ok(()),
            Command::Symbols { what, .. } => symbols::run(&context, what.as_deref()),
            Command::Types { name, .. } => types::run(&context, name),
            Command::Search { what, .. } => search::run(&context, what),
            Command::Translate { pid, address, .. } => memory::translate(&context, *pid, *address),
            Command::Read { pid, address, len, raw, .. } => {
                memory::read(&context, *pid, *address, *len, *raw)
            }
        }
    }
}
