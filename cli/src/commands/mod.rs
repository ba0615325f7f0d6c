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
mod registers;
mod search;
mod sockets;
mod symbols;
mod threads;
mod tree;
mod types;
mod windows;

pub(crate) use search::Pattern;

use std::time::Instant;

use vmc::view::RowErrors;
use vmc::{Limits, LiveError};
use vmc_linux::{Linux, LinuxError, Task};
use vmc_windows::{Hints, Windows, WindowsError};

use crate::args::{Args, Command, Common, Os};
use crate::crash;
use crate::debug::{GuestFiles, KernelFiles, WindowsFiles};
use crate::failure::Failure;
use crate::guest::{Guest, NotOpened};
use crate::live::{self, Blocked, Pause};
use crate::notes::Notes;
use crate::output::{Output, Sink};
use crate::target::{self, Target};

/// What every command works with.
pub(crate) struct Context<'a> {
    pub(crate) name: &'a str,
    pub(crate) common: &'a Common,
    pub(crate) notes: &'a Notes,
    pub(crate) sink: &'a Sink,
    pub(crate) target: &'a Target,
    pub(crate) linux: &'a Linux<'a>,
    /// The time in which the guest stands, where it does.
    pub(crate) pause: Option<&'a Pause<'a>>,
}

impl<'a> Context<'a> {
    /// Where results go.
    pub(crate) fn output(&self) -> Output {
        Output::new(self.common, self.sink)
    }

    /// Everything that is asked of the guest has been read: it may run again while that is worked on.
    pub(crate) fn all_is_read(&self) {
        if let Some(pause) = self.pause {
            // Whoever began it asks how it ended.
            let _ = pause.end();
        }
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

/// What is asked, of which target, and where the answer goes.
pub(crate) struct Question<'a> {
    pub(crate) args: &'a Args,
    pub(crate) notes: &'a Notes,
    pub(crate) sink: &'a Sink,
    pub(crate) target: &'a Target,
}

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
    let mut files = GuestFiles::new(&args.common, notes);
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

/// Was there no Linux kernel at all?
const fn is_missing(why: &LinuxError) -> bool {
    matches!(why, LinuxError::NotFound { .. } | LinuxError::NotVerified { .. })
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

    /// Finds the kernel: Windows where that costs next to nothing, Linux, or else Windows.
    pub(crate) fn open_kernel(&self, files: &mut GuestFiles<'_>) -> Result<Guest<'a>, NotOpened> {
        if let Some(opened) = self.told_windows(files) {
            return opened;
        }
        let linux = self.look_for_linux(&mut files.linux);
        self.or_windows(linux, files)
    }

    /// Finds a Linux kernel, if it may be one.
    fn look_for_linux(&self, files: &mut KernelFiles<'_>) -> Option<Result<Linux<'a>, LinuxError>> {
        match self.args.common.os {
            Some(Os::Windows) => None,
            // Windows itself wrote it.
            None if self.target.crash().is_some() => None,
            _ => Some(self.open_linux(files)),
        }
    }

    /// A Windows kernel that the vCPUs, or without any the low stub, lead to: that is known before memory is searched for Linux,
    /// and what an earlier guest left in memory does not stand in its place.
    fn told_windows(&self, files: &mut GuestFiles<'_>) -> Option<Result<Guest<'a>, NotOpened>> {
        if self.args.common.os.is_some() || self.target.crash().is_some() {
            return None;
        }
        let (memory, vcpus) = (self.target.memory(), self.target.vcpus());
        let files: &mut WindowsFiles<'_> = files.windows.get_mut();
        match Windows::open_told(memory, vcpus, &Hints::default(), Limits::default(), Some(files)) {
            Ok(windows) => Some(Ok(Guest::Windows(Box::new(windows)))),
            Err(WindowsError::NotFound { .. }) => None,
            Err(why) => Some(Err(NotOpened::Windows(Box::new(why)))),
        }
    }

    /// The Linux kernel that was looked for, or else a Windows one.
    fn or_windows(
        &self,
        linux: Option<Result<Linux<'a>, LinuxError>>,
        files: &mut GuestFiles<'_>,
    ) -> Result<Guest<'a>, NotOpened> {
        let linux = match linux {
            Some(Ok(linux)) => return Ok(Guest::Linux(Box::new(linux))),
            Some(Err(why)) => Some(why),
            None => None,
        };
        let mut windows =
            || self.open_windows(files.windows.get_mut()).map(|windows| Guest::Windows(Box::new(windows)));
        match linux {
            None => windows().map_err(|why| NotOpened::Windows(Box::new(why))),
            // A Linux kernel that was found and cannot be read is no Windows.
            Some(why) if self.args.common.os == Some(Os::Linux) || !is_missing(&why) => {
                Err(NotOpened::Linux(Box::new(why)))
            }
            Some(linux) => windows().map_err(|why| match why {
                WindowsError::NotFound { .. } => {
                    NotOpened::Neither { linux: Box::new(linux), windows: Box::new(why) }
                }
                found => NotOpened::Windows(Box::new(found)),
            }),
        }
    }

    fn open_windows(&self, files: &mut WindowsFiles<'_>) -> Result<Windows<'a>, WindowsError> {
        let (memory, vcpus, limits) = (self.target.memory(), self.target.vcpus(), Limits::default());
        let hints = self.target.crash().map_or_else(Hints::default, crash::hints);
        match self.target.virtual_memory() {
            Some(ranges) => Windows::open_virtual(ranges, vcpus, &hints, limits, Some(files)),
            None => Windows::open(memory, vcpus, &hints, limits, Some(files)),
        }
    }

    fn open_linux(&self, files: &mut KernelFiles<'_>) -> Result<Linux<'a>, LinuxError> {
        let given: Option<&mut dyn vmc_linux::KernelFiles> =
            if self.args.common.symbols.is_empty() { None } else { Some(files) };
        let (memory, vcpus) = (self.target.memory(), self.target.vcpus());
        Linux::open_with_files(memory, vcpus, Limits::default(), given)
    }

    /// May the memory begin elsewhere than the target says?
    fn may_move(&self) -> bool {
        self.target.flat() && self.args.common.ram_base.is_none()
    }

    /// Answers it, with the kernel that was found, or the reason why there is none. Where the guest stands, `pause` may end
    /// as soon as everything is read.
    pub(crate) fn ask(
        &self,
        opened: Option<&Result<Guest<'a>, NotOpened>>,
        pause: Option<&Pause<'_>>,
        files: &GuestFiles<'_>,
    ) -> Result<(), Failure> {
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
                let linux = match opened {
                    Ok(Guest::Linux(linux)) => Some(&**linux),
                    _ => None,
                };
                dump::run(self, linux, pause, out)
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

    /// Why there is no kernel that can be read.
    fn not_understood(&self, why: &NotOpened, files: &GuestFiles<'_>) -> Failure {
        let name = self.name();
        let why = match why {
            NotOpened::Linux(why) => &**why,
            NotOpened::Windows(why) => return self.windows_without_help(why, &files.windows.borrow()),
            NotOpened::Neither { linux, .. } => {
                let advice = self.advice(linux).unwrap_or_default();
                return Failure::Said(format!("{name}: {why}{advice}"));
            }
        };
        match self.advice(why) {
            Some(advice) => Failure::Said(format!("{name}: {why}{advice}")),
            None => without_help(name, why.clone(), &files.linux),
        }
    }

    /// What a raw image may lack that no kernel is where it should be.
    fn advice(&self, why: &LinuxError) -> Option<&'static str> {
        let moved = matches!(why, LinuxError::NotVerified { .. }) && self.may_move();
        moved.then_some("; where a raw image's memory does not begin at 0, as on Arm, give --ram-base 0xADDR")
    }

    /// Why a Windows kernel is not understood, what was wrong with the files that were found, and which ones would help.
    fn windows_without_help(&self, why: &WindowsError, files: &WindowsFiles<'_>) -> Failure {
        let name = self.name();
        let WindowsError::NoTypes { identity } = why else { return Failure::Said(format!("{name}: {why}")) };
        let remarks: String = files
            .remarks()
            .map(String::as_str)
            .chain(files.trouble())
            .map(|remark| format!("; {remark}"))
            .collect();
        let isf = identity.code_view.as_ref().map_or_else(
            || "ntkrnlmp.pdb/GUID-AGE.json.xz".to_owned(),
            |pdb| format!("ntkrnlmp.pdb/{}-{}.json.xz", pdb.guid_text(), pdb.age),
        );
        let download = match (&self.args.common.download, &identity.code_view) {
            (None, Some(_)) => ", or --download",
            _ => "",
        };
        Failure::Said(format!(
            "{name}: {why}{remarks}; give --symbols DIR with its PDB or volatility3 ISF ({isf}){download}"
        ))
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
