//! The commands, one a module: each asks the guest and makes rows of the answer.

mod bt;
mod cat;
mod containers;
mod details;
mod dmesg;
mod dump;
mod env;
mod hidden;
mod info;
mod interfaces;
mod ls;
mod lsof;
mod maps;
mod memory;
mod modules;
mod mounts;
mod ps;
mod search;
mod sockets;
mod symbols;
mod threads;
mod tree;
mod types;

pub(crate) use search::Pattern;

use vmc::Limits;
use vmc::view::RowErrors;
use vmc_linux::{Linux, LinuxError, Task};

use crate::args::{Args, Command, Common};
use crate::debug::KernelFiles;
use crate::failure::Failure;
use crate::notes::Notes;
use crate::output::Output;
use crate::target::{self, Target};

/// What every command works with.
pub(crate) struct Context<'a> {
    pub(crate) name: &'a str,
    pub(crate) common: &'a Common,
    pub(crate) notes: &'a Notes,
    pub(crate) target: &'a Target,
    pub(crate) linux: &'a Linux<'a>,
}

impl<'a> Context<'a> {
    /// Where results go.
    pub(crate) fn output(&self) -> Output {
        Output::new(self.common)
    }

    /// A failure of the guest's, with the target's name.
    pub(crate) fn failed(&self, source: LinuxError) -> Failure {
        Failure::Guest { target: self.name.to_owned(), source }
    }

    /// The process `pid`.
    pub(crate) fn process(&self, pid: u32) -> Result<Task<'a, 'a>, Failure> {
        self.linux.process(pid).map_err(|why| self.failed(why))
    }

    /// The process `pid`, or all of them as far as the list goes.
    pub(crate) fn tasks(&self, pid: Option<u32>) -> Result<Vec<Task<'a, 'a>>, Failure> {
        match pid {
            Some(pid) => Ok(Vec::from([self.process(pid)?])),
            None => self.as_far_as_it_goes(self.linux.processes().map_err(|why| self.failed(why))?),
        }
    }

    /// The items of a list as far as it goes. Where it breaks off, that is said; where nothing came before, it is a failure.
    pub(crate) fn as_far_as_it_goes<T>(
        &self,
        items: impl IntoIterator<Item = Result<T, LinuxError>>,
    ) -> Result<Vec<T>, Failure> {
        let mut found = Vec::new();
        for item in items {
            match item {
                Ok(item) => found.push(item),
                Err(why) if found.is_empty() => return Err(self.failed(why)),
                Err(why) => self.cut(&why),
            }
        }
        Ok(found)
    }

    /// Says that what a process has is not told whole.
    pub(crate) fn cut_at(&self, task: &Task<'_, '_>, why: &LinuxError) {
        let pid = task.pid().unwrap_or_default();
        self.notes.warning(&format_args!("{}: pid {pid}: incomplete: {why}", self.name));
    }

    /// Says why what was found is not all.
    pub(crate) fn incomplete(&self, errors: &RowErrors) {
        for message in &errors.messages {
            self.notes.warning(&format_args!("{}: incomplete: {message}", self.name));
        }
        if errors.more > 0 {
            self.notes.warning(&format_args!("{}: incomplete: and {} more", self.name, errors.more));
        }
    }

    /// Says that a list is not whole.
    pub(crate) fn cut(&self, why: &LinuxError) {
        self.notes.warning(&format_args!("{}: incomplete: {why}", self.name));
    }
}

/// Does what was asked for.
pub(crate) fn run(args: &Args, notes: &Notes) -> Result<(), Failure> {
    let name = args.command.target();
    for dir in &args.common.symbols {
        if let Err(why) = std::fs::read_dir(dir) {
            notes.warning(&format_args!("--symbols {}: it cannot be read: {why}", dir.display()));
        }
    }
    let mut target = target::open(name, &args.common, notes)?;
    let flat = target.flat() && args.common.ram_base.is_none();
    let mut answered = answer(args, notes, &target, flat);
    // Other machines than PCs have no memory at 0. A kernel that is found says where its memory has to begin.
    if let Err(Failure::Guest { source: LinuxError::NotVerified { .. }, .. }) = &answered
        && flat
    {
        if let Some(base) = vmc_linux::ram_base(target.memory()) {
            target.place_at(base);
        }
        answered = answer(args, notes, &target, false);
    }
    answered.map_err(|why| why.with(&target.warnings()))?;
    for warning in target.warnings() {
        notes.warning(&format_args!("{name}: {warning}"));
    }
    notes.end_of_rows();
    Ok(())
}

/// Why a kernel is not understood, what was wrong with the files that were given for it, and which ones would help.
fn without_help(name: &str, source: LinuxError, files: &KernelFiles<'_>) -> Failure {
    let wanted = match &source {
        LinuxError::NoTypes { .. } => {
            "give --symbols DIR with its vmlinux with DWARF (distributions have it in kernel-debuginfo or \
             linux-image-…-dbg), its BTF, a volatility3 ISF or its modules with DWARF (.ko, .ko.debug)"
        }
        LinuxError::NoSymbols { .. } => {
            "give --symbols DIR with its vmlinux, System.map or a volatility3 ISF"
        }
        _ => return Failure::Guest { target: name.to_owned(), source },
    };
    let remarks: String = files.remarks().map(|remark| format!("; {remark}")).collect();
    Failure::Said(format!("{name}: {source}{remarks}; {wanted}"))
}

/// Finds the guest in the image and asks it. Where it `may_move`, a kernel that is not where it says ends it at once.
fn answer(args: &Args, notes: &Notes, target: &Target, may_move: bool) -> Result<(), Failure> {
    let name = args.command.target();
    let mut files = KernelFiles::new(&args.common.symbols);
    let given: Option<&mut dyn vmc_linux::KernelFiles> =
        if args.common.symbols.is_empty() { None } else { Some(&mut files) };
    let linux = Linux::open_with_files(target.memory(), target.vcpus(), Limits::default(), given);
    if let Err(source @ LinuxError::NotVerified { .. }) = &linux
        && may_move
    {
        return Err(Failure::Guest { target: name.to_owned(), source: source.clone() });
    }
    if let (Command::Search { what, .. }, Err(why)) = (&args.command, &linux)
        && what.pid.is_none()
    {
        return search::without_guest(name, &args.common, notes, target.memory(), why, what);
    }
    if let (Command::Dump { out, .. }, Err(why)) = (&args.command, &linux) {
        notes.warning(&format_args!("{name}: without the kernel's addresses and VMCOREINFO: {why}"));
        return dump::run(&dump::Saved { name, notes, target, linux: None }, &args.common, out);
    }
    let flat = target.flat() && args.common.ram_base.is_none();
    let linux = linux.map_err(|source| match source {
        LinuxError::NotVerified { .. } if flat => Failure::Said(format!(
            "{name}: {source}; where a raw image's memory does not begin at 0, as on Arm, give --ram-base 0xADDR"
        )),
        source => without_help(name, source, &files),
    })?;
    let context = Context { name, common: &args.common, notes, target, linux: &linux };
    match &args.command {
        Command::Info(_) => info::run(&context),
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
            let part = match (kernel, user) {
                (true, _) => bt::Part::Kernel,
                (_, true) => bt::Part::User,
                _ => bt::Part::Both,
            };
            let demangle = !no_demangle;
            let options = bt::Options { pid: *pid, tid: *tid, part, lines: *lines, scan: *scan, demangle };
            bt::run(&context, options)
        }
        Command::Symbols { what, .. } => symbols::run(&context, what.as_deref()),
        Command::Types { name, .. } => types::run(&context, name),
        Command::Search { what, .. } => search::run(&context, what),
        Command::Dump { out, .. } => {
            dump::run(&dump::Saved { name, notes, target, linux: Some(&linux) }, &args.common, out)
        }
        Command::Translate { pid, address, .. } => memory::translate(&context, *pid, *address),
        Command::Read { pid, address, len, raw, .. } => memory::read(&context, *pid, *address, *len, *raw),
    }
}
