//! What passes between us and the child, and what came of it.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use vmc_process::guardian::{Guardian, Haste};

use crate::arch::{BLOCK, bytes};
use crate::options::Watcher;
use crate::wire::{Command, Fault, HEAD, Head, Source, VCPU};

/// What passes between us and the child, and what came of it.
pub(super) struct Conversation {
    guardian: Guardian,
    /// Is told each step.
    watcher: Option<Watcher>,
    /// While the vCPUs are held, or are about to be: whoever holds them runs before others.
    hold: Option<Haste>,
    /// The child did not answer once: whatever comes is an answer to something else.
    lost: bool,
    /// The threads that run vCPUs, or may.
    pub(super) tids: Vec<i32>,
    pub(super) vcpus: Vec<Option<Known>>,
}

/// What the child said of a vCPU.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) source: Source,
    pub(super) block: [u8; BLOCK],
}

/// Why the child did not do it.
pub(super) enum Failure {
    Fault(Fault),
    Silent,
    Gone,
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation")
            .field("guardian", &self.guardian)
            .field("hold", &self.hold)
            .field("lost", &self.lost)
            .field("tids", &self.tids)
            .field("vcpus", &self.vcpus)
            .finish_non_exhaustive()
    }
}

impl Conversation {
    pub(super) fn new(guardian: Guardian, watcher: Option<Watcher>, tids: Vec<i32>, vcpus: usize) -> Self {
        Self { guardian, watcher, hold: None, lost: false, tids, vcpus: vec![None; vcpus] }
    }

    /// The child's process number.
    pub(super) fn guardian(&self) -> u32 {
        self.guardian.pid()
    }

    /// Are the vCPUs held?
    pub(super) const fn held(&self) -> bool {
        self.hold.is_some()
    }

    /// Has the child hold the vCPUs, of which nothing is known before.
    pub(super) fn hold(&mut self) -> Result<(), Failure> {
        self.vcpus.fill(None);
        self.hold = Some(Haste::new());
        self.order(Command::Stop).inspect_err(|_| self.hold = None)
    }

    /// Has the child let them go.
    pub(super) fn let_go(&mut self) -> Result<(), Failure> {
        self.order(Command::Resume)?;
        self.hold = None;
        Ok(())
    }

    /// Asks for the registers that are not known.
    pub(super) fn ask(&mut self) -> Result<(), Failure> {
        self.order(if self.held() { Command::Registers } else { Command::Sample })
    }

    /// Has the child do something, and takes the registers that come with its answer.
    fn order(&mut self, command: Command) -> Result<(), Failure> {
        if self.lost {
            return Err(Failure::Silent);
        }
        let _haste = Haste::new();
        let hasty = self.hold.as_ref().and_then(Haste::thread).unwrap_or(0);
        self.say(command, hasty)?;
        // To be stopped, vCPUs need the processors; to let them go takes no longer than going to sleep.
        if command == Command::Resume {
            self.guardian.look_out();
        }
        self.hear()
    }

    fn say(&mut self, command: Command, hasty: i32) -> Result<(), Failure> {
        let said = self.guardian.line().write_all(&command.encode(hasty));
        said.map_err(|error| self.lost(&error))
    }

    /// Takes what the child answers.
    pub(super) fn hear(&mut self) -> Result<(), Failure> {
        loop {
            let head: [u8; HEAD] = self.read()?;
            match Head::decode(&head) {
                Some(Head::Done { vcpus }) => return self.take(vcpus),
                Some(Head::Failed { fault, held }) => {
                    if !held {
                        self.hold = None;
                    }
                    return Err(Failure::Fault(fault));
                }
                Some(Head::At(step)) => {
                    if let Some(watcher) = &self.watcher {
                        watcher(step);
                    }
                    self.say(Command::GoOn, 0)?;
                }
                None => return Err(self.lost(&io::Error::from(ErrorKind::TimedOut))),
            }
        }
    }

    fn read<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        let mut bytes = [0; N];
        self.guardian.line().read_exact(&mut bytes).map_err(|error| self.lost(&error))?;
        Ok(bytes)
    }

    /// Takes the registers of `count` vCPUs from the line.
    fn take(&mut self, count: usize) -> Result<(), Failure> {
        let mut tids = Vec::with_capacity(self.vcpus.len());
        for index in 0..count {
            let vcpu: [u8; VCPU] = self.read()?;
            let [source, ..] = vcpu;
            let source = Source::decode(source);
            tids.push(i32::from_le_bytes(bytes(&vcpu, 4)));
            if let Some(place) = self.vcpus.get_mut(index)
                && source != Source::None
            {
                *place = Some(Known { source, block: bytes(&vcpu, VCPU - BLOCK) });
            }
        }
        if count > 0 && tids.iter().all(|tid| *tid > 0) {
            self.tids = tids;
        }
        Ok(())
    }

    /// The line is of no use any more. The child sees its end, lets all go and ends, at the latest when it is done with what it does.
    fn lost(&mut self, error: &io::Error) -> Failure {
        self.lost = true;
        self.hold = None;
        let _ = self.guardian.line().shutdown(Shutdown::Write);
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Failure::Silent,
            _ => Failure::Gone,
        }
    }
}
