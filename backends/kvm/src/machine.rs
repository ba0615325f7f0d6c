//! The vCPUs of a process' virtual machine: held, read and let go through a child.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::mem::ManuallyDrop;
use std::net::Shutdown;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use vmc::arch::Registers;
use vmc::live::LiveError;
use vmc::vcpu::{VcpuError, Vcpus};
use vmc_process::guardian::{Guardian, Haste};

use crate::arch::{Arch, BLOCK, Host, bytes};
use crate::error::{AttachError, describe, reason};
use crate::find::{self, Found, Tasks};
use crate::options::{AttachOptions, Watcher};
use crate::registers::SystemRegisters;
use crate::tracer::{Page, State, Thread, Tracer, Vcpu};
use crate::wire::{Command, Fault, HEAD, Head, Source, VCPU};

/// What the child gets beyond the patience that it has itself.
const CHILD_PATIENCE: Duration = Duration::from_secs(3);

/// The vCPUs of a process' virtual machine, without its memory.
///
/// Its threads stay traced until it is dropped: signals to them take a little longer.
pub struct Machine {
    pid: u32,
    name: String,
    /// KVM's numbers of the vCPUs.
    numbers: Vec<u32>,
    watcher: Option<Watcher>,
    /// The threads of the process when it was attached to.
    tasks: Tasks,
    state: Mutex<Conversation>,
}

/// What passes between us and the child, and what came of it.
#[derive(Debug)]
struct Conversation {
    guardian: Guardian,
    held: bool,
    /// Whoever holds the vCPUs runs before others.
    haste: Option<Haste>,
    /// The child did not answer once: whatever comes is an answer to something else.
    lost: bool,
    /// The threads that run vCPUs, or may.
    tids: Vec<i32>,
    vcpus: Vec<Option<Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    source: Source,
    block: [u8; BLOCK],
}

/// Why the child did not do it.
enum Failure {
    Fault(Fault),
    Silent,
    Gone,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("pid", &self.pid).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Machine {
    /// Attaches to the virtual machine of process `pid`. Its guest runs on.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn attach(pid: u32, options: &AttachOptions) -> Result<Self, AttachError> {
        // The child inherits it.
        let _haste = Haste::new();
        let found = find::find(pid, options.no_inject)?;
        let Found { name, vcpus, threads, .. } = &found;
        let tracer = tracer(pid, &found, options);
        let (numbers, count) = (vcpus.iter().map(|vcpu| vcpu.number).collect(), vcpus.len());
        let guardian = Guardian::spawn(&[], move |post| {
            // The child frees nothing.
            let mut tracer = ManuallyDrop::new(tracer);
            tracer.serve(post);
        })
        .map_err(|source| AttachError::NoGuardian { pid, source })?;
        let limit = Some(options.patience + CHILD_PATIENCE);
        guardian
            .line()
            .set_read_timeout(limit)
            .and_then(|()| guardian.line().set_write_timeout(limit))
            .map_err(|source| AttachError::NoGuardian { pid, source })?;
        let tids = threads.clone();
        let machine = Self {
            pid,
            name: name.clone(),
            numbers,
            watcher: options.watcher.clone(),
            tasks: found.tasks.clone(),
            state: Mutex::new(Conversation {
                guardian,
                held: false,
                haste: None,
                lost: false,
                tids,
                vcpus: vec![None; count],
            }),
        };
        let begun = machine.hear(&mut machine.talk());
        begun.map_err(|failure| match failure {
            Failure::Fault(Fault::Seize { errno, .. }) if errno == Errno::EPERM as i32 => {
                AttachError::NotPermitted { pid, name: name.clone(), why: find::why_not(pid) }
            }
            Failure::Fault(fault) => AttachError::Refused { pid, name: name.clone(), why: describe(fault) },
            Failure::Silent | Failure::Gone => AttachError::Refused {
                pid,
                name: name.clone(),
                why: "the child that holds its threads ended".to_owned(),
            },
        })?;
        Ok(machine)
    }

    /// The process.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Its program's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The child's process number.
    #[must_use]
    pub fn guardian(&self) -> u32 {
        self.talk().guardian.pid()
    }

    /// Holds all vCPUs; registers that were read are forgotten. Nothing where they are held.
    ///
    /// # Errors
    /// [`LiveError`]; nothing is held then.
    pub fn stop(&self) -> Result<(), LiveError> {
        let mut talk = self.talk();
        if talk.held {
            return Ok(());
        }
        talk.vcpus.fill(None);
        talk.haste = Some(Haste::new());
        if let Err(failure) = self.order(&mut talk, Command::Stop) {
            talk.haste = None;
            return Err(self.live_error(failure, |reason| LiveError::Stop { reason }));
        }
        talk.held = true;
        if let Some(tid) = self.tasks.newcomer(self.pid) {
            let reason = format!("thread {tid}, which came after attaching, runs a vCPU: attach again");
            self.order(&mut talk, Command::Resume)
                .map_err(|failure| self.live_error(failure, |reason| LiveError::Stop { reason }))?;
            talk.held = false;
            talk.haste = None;
            talk.vcpus.fill(None);
            return Err(LiveError::Stop { reason });
        }
        Ok(())
    }

    /// Lets the vCPUs go on. Registers that were read stay readable. Nothing where none is held.
    ///
    /// # Errors
    /// [`LiveError`]: they go on when this is dropped.
    pub fn resume(&self) -> Result<(), LiveError> {
        let mut talk = self.talk();
        if talk.held {
            self.order(&mut talk, Command::Resume)
                .map_err(|failure| self.live_error(failure, |reason| LiveError::Resume { reason }))?;
            talk.held = false;
            talk.haste = None;
        }
        Ok(())
    }

    /// Forgets the registers of a guest that is not held.
    pub fn forget(&self) {
        let mut talk = self.talk();
        if !talk.held {
            talk.vcpus.fill(None);
        }
    }

    /// Is the guest held by us?
    #[must_use]
    pub fn held(&self) -> bool {
        self.talk().held
    }

    /// Does any vCPU run, as far as /proc tells? False where it is held, by us or by somebody else.
    #[must_use]
    pub fn running(&self) -> bool {
        let tids = {
            let talk = self.talk();
            if talk.held {
                return false;
            }
            talk.tids.clone()
        };
        if find::stopped_by_signal(self.pid) {
            return false;
        }
        find::vcpu_runner(self.pid, tids).is_some()
    }

    /// How registers were read last: `injected ioctl`, `kvm_run`, or both.
    #[must_use]
    pub fn how(&self) -> &'static str {
        let talk = self.talk();
        let any = |wanted| talk.vcpus.iter().flatten().any(|known| known.source == wanted);
        match (any(Source::Injected), any(Source::Page)) {
            (true, true) => "injected ioctl and kvm_run",
            (true, false) => "injected ioctl",
            (false, true) => "kvm_run",
            (false, false) => "none yet",
        }
    }

    /// What [`Registers`] lack.
    ///
    /// # Errors
    /// As [`registers`](Vcpus::registers).
    pub fn system_registers(&self, index: usize) -> Result<SystemRegisters, VcpuError> {
        self.known(index).map(|known| Host::system_registers(&known.block))
    }

    /// KVM's number of a vCPU.
    #[must_use]
    pub fn number(&self, index: usize) -> Option<u32> {
        self.numbers.get(index).copied()
    }

    fn known(&self, index: usize) -> Result<Known, VcpuError> {
        let count = self.numbers.len();
        if index >= count {
            return Err(VcpuError::NoSuchVcpu { index, count });
        }
        let mut talk = self.talk();
        if talk.vcpus.get(index).is_some_and(Option::is_none) {
            let command = if talk.held { Command::Registers } else { Command::Sample };
            self.order(&mut talk, command).map_err(|failure| VcpuError::Failed {
                index,
                reason: match failure {
                    Failure::Fault(fault) => reason(fault),
                    Failure::Silent => "the child that holds the threads did not answer in time",
                    Failure::Gone => "the child that holds the threads has ended",
                },
            })?;
        }
        let known = talk.vcpus.get(index).cloned().flatten();
        known.ok_or(VcpuError::Failed { index, reason: "they are not known" })
    }

    fn talk(&self) -> MutexGuard<'_, Conversation> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the child do something, and takes the registers that come with its answer.
    fn order(&self, talk: &mut Conversation, command: Command) -> Result<(), Failure> {
        if talk.lost {
            return Err(Failure::Silent);
        }
        let _haste = Haste::new();
        let hasty = talk.haste.as_ref().and_then(Haste::thread).unwrap_or(0);
        talk.guardian.line().write_all(&command.encode(hasty)).map_err(|error| lost(talk, &error))?;
        // To be stopped, vCPUs need the processors; to let them go takes no longer than going to sleep.
        if command == Command::Resume {
            talk.guardian.look_out();
        }
        self.hear(talk)
    }

    fn hear(&self, talk: &mut Conversation) -> Result<(), Failure> {
        loop {
            let mut head = [0; HEAD];
            talk.guardian.line().read_exact(&mut head).map_err(|error| lost(talk, &error))?;
            match Head::decode(&head) {
                Some(Head::Done { vcpus }) => return take(talk, vcpus),
                Some(Head::Failed { fault, held }) => {
                    talk.held &= held;
                    if !talk.held {
                        talk.haste = None;
                    }
                    return Err(Failure::Fault(fault));
                }
                Some(Head::At(step)) => {
                    if let Some(watcher) = &self.watcher {
                        watcher(step);
                    }
                    talk.guardian
                        .line()
                        .write_all(&Command::GoOn.encode(0))
                        .map_err(|error| lost(talk, &error))?;
                }
                None => {
                    return Err(lost(talk, &io::Error::from(ErrorKind::TimedOut)));
                }
            }
        }
    }

    fn live_error(&self, failure: Failure, other: impl Fn(String) -> LiveError) -> LiveError {
        match failure {
            Failure::Fault(Fault::Gone) => {
                LiveError::Gone { what: format!("process {} ({}) has ended", self.pid, self.name) }
            }
            Failure::Fault(fault) => other(describe(fault)),
            Failure::Silent => LiveError::Silent {
                who: "the child that holds the threads".to_owned(),
                milliseconds: u64::try_from(CHILD_PATIENCE.as_millis()).unwrap_or(u64::MAX),
            },
            Failure::Gone => other("the child that holds the threads has ended".to_owned()),
        }
    }
}

impl Vcpus for Machine {
    fn count(&self) -> usize {
        self.numbers.len()
    }

    fn registers(&self, index: usize) -> Result<Registers, VcpuError> {
        self.known(index).map(|known| Host::registers(&known.block))
    }
}

/// The line is of no use any more. The child sees its end, lets all go and ends, at the latest when it is done with what it does.
fn lost(talk: &mut Conversation, error: &io::Error) -> Failure {
    talk.lost = true;
    talk.held = false;
    talk.haste = None;
    let _ = talk.guardian.line().shutdown(Shutdown::Write);
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Failure::Silent,
        _ => Failure::Gone,
    }
}

/// Takes the registers of `count` vCPUs from the line.
fn take(talk: &mut Conversation, count: usize) -> Result<(), Failure> {
    let mut tids = Vec::with_capacity(talk.vcpus.len());
    for index in 0..count {
        let mut vcpu = [0; VCPU];
        talk.guardian.line().read_exact(&mut vcpu).map_err(|error| lost(talk, &error))?;
        let [source, ..] = vcpu;
        let source = Source::decode(source);
        tids.push(i32::from_le_bytes(bytes(&vcpu, 4)));
        if let Some(place) = talk.vcpus.get_mut(index)
            && source != Source::None
        {
            *place = Some(Known { source, block: bytes(&vcpu, VCPU - BLOCK) });
        }
    }
    if count > 0 && tids.iter().all(|tid| *tid > 0) {
        talk.tids = tids;
    }
    Ok(())
}

/// What the child needs, made while memory can still be had.
fn tracer(pid: u32, found: &Found, options: &AttachOptions) -> Tracer {
    let threads = found.threads.iter().map(|tid| Thread { tid: *tid, state: State::Free, in_run: None });
    let vcpus = found.vcpus.iter().map(|vcpu| Vcpu {
        fds: vcpu.fds.clone(),
        tid: vcpu.tid,
        page: vcpu.page.map(Page::new),
        source: Source::None,
        block: [0; BLOCK],
    });
    Tracer {
        pid: i32::try_from(pid).unwrap_or(0),
        started: found.started,
        threads: threads.collect(),
        vcpus: vcpus.collect(),
        vm: found.vm,
        instruction: found.instruction,
        inject: !options.no_inject,
        patience: options.patience,
        steps: options.watcher.is_some(),
        reply: vec![0; HEAD + VCPU * found.vcpus.len()],
        held: false,
        deadline: Instant::now() + options.patience,
        hasty: None,
        injections: 0,
        pages_allowed: None,
        orphan: false,
        more: false,
    }
}
