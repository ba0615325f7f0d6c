//! The vCPUs of a process' virtual machine: held, read and let go through a child.

mod attach;
mod conversation;

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vmc::arch::Registers;
use vmc::live::LiveError;
use vmc::vcpu::{VcpuError, Vcpus};

use crate::arch::{Arch, Host};
use crate::error::{describe, reason};
use crate::find::{self, Tasks};
use crate::registers::SystemRegisters;
use crate::wire::{Fault, Source};
use conversation::{Conversation, Failure, Known};

/// What the child gets beyond the patience that it has itself.
const CHILD_PATIENCE: Duration = Duration::from_secs(3);

/// The vCPUs of a process' virtual machine, without its memory.
///
/// Its threads stay traced until it is dropped: signals to them take a little longer.
pub struct Machine {
    pid: u32,
    name: String,
    /// How many vCPUs it has.
    count: usize,
    /// The threads of the process when it was attached to.
    tasks: Tasks,
    state: Mutex<Conversation>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("pid", &self.pid).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Machine {
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
        self.talk().guardian()
    }

    /// Holds all vCPUs; registers that were read are forgotten. Nothing where they are held.
    ///
    /// # Errors
    /// [`LiveError`]; nothing is held then.
    pub fn stop(&self) -> Result<(), LiveError> {
        let mut talk = self.talk();
        if talk.held() {
            return Ok(());
        }
        let failed = |failure| self.live_error(failure, |reason| LiveError::Stop { reason });
        talk.hold().map_err(failed)?;
        if let Some(tid) = self.tasks.newcomer(self.pid) {
            talk.let_go().map_err(failed)?;
            talk.vcpus.fill(None);
            let reason = format!("thread {tid}, which came after attaching, runs a vCPU: attach again");
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
        if talk.held() {
            talk.let_go()
                .map_err(|failure| self.live_error(failure, |reason| LiveError::Resume { reason }))?;
        }
        Ok(())
    }

    /// Forgets the registers of a guest that is not held.
    pub fn forget(&self) {
        let mut talk = self.talk();
        if !talk.held() {
            talk.vcpus.fill(None);
        }
    }

    /// Is the guest held by us?
    #[must_use]
    pub fn held(&self) -> bool {
        self.talk().held()
    }

    /// Does any vCPU run, as far as /proc tells? False where it is held, by us or by somebody else.
    #[must_use]
    pub fn running(&self) -> bool {
        let tids = {
            let talk = self.talk();
            if talk.held() {
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

    fn known(&self, index: usize) -> Result<Known, VcpuError> {
        let count = self.count;
        if index >= count {
            return Err(VcpuError::NoSuchVcpu { index, count });
        }
        let mut talk = self.talk();
        if talk.vcpus.get(index).is_some_and(Option::is_none) {
            talk.ask().map_err(|failure| VcpuError::Failed {
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
        self.count
    }

    fn registers(&self, index: usize) -> Result<Registers, VcpuError> {
        self.known(index).map(|known| Host::registers(&known.block))
    }
}
