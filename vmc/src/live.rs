//! Live guests: memory and vCPUs that change while they are looked at, and the means to hold them still.
//!
//! The order of things, which every backend keeps:
//! * [`LiveGuest::stop`] holds all vCPUs, and forgets what was read before: what is read from then on is one moment.
//! * [`LiveGuest::resume`] lets them run, and forgets nothing: what was read of the stopped guest stays readable as it was,
//!   so that work on it can be done while the guest runs. Other memory is read as it is then.
//! * A guest that was paused by somebody else stays paused through both.
//! * Dropping the backend resumes what it had stopped; a helper process does so where ours was killed.

use alloc::string::String;
use alloc::vec::Vec;

use crate::memory::PhysMemory;
use crate::vcpu::Vcpus;

/// Why a live guest could not be held or let go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LiveError {
    /// The virtual machine has ended, or its end of the connection is closed.
    #[error("the virtual machine is gone: {what}")]
    Gone {
        /// What showed it.
        what: String,
    },
    /// No answer came in time.
    #[error("no answer from {who} within {milliseconds} ms")]
    Silent {
        /// Who was asked.
        who: String,
        /// How long was waited.
        milliseconds: u64,
    },
    /// The guest could not be stopped.
    #[error("the guest could not be stopped: {reason}")]
    Stop {
        /// What the backend says.
        reason: String,
    },
    /// The guest could not be set running again.
    #[error("the guest could not be set running again: {reason}")]
    Resume {
        /// What the backend says.
        reason: String,
    },
}

/// What a backend tells of itself and of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveFacts {
    /// The backend: `kvm`, `gdb`, `qmp`.
    pub backend: &'static str,
    /// The virtual machine monitor, where it is known: `QEMU 7.2.22`, `Firecracker`.
    pub vmm: Option<String>,
    /// Its process on this host, where it is known.
    pub pid: Option<u32>,
    /// How the physical layout is known, and what confirmed it.
    pub layout: String,
    /// How memory is read: `mapped`, `process_vm_readv`, `gdb packets`.
    pub memory: String,
    /// How registers are read: `injected ioctl`, `kvm_run`, `gdb`, `info registers`.
    pub registers: String,
    /// RAM in bytes, without firmware and holes.
    pub ram_bytes: u64,
    /// What its user should know, a line each.
    pub warnings: Vec<String>,
}

/// A guest that may run while it is looked at.
pub trait LiveGuest: PhysMemory + Vcpus {
    /// Holds all vCPUs, and forgets what was read of memory and registers before. Nothing where they are held already.
    ///
    /// # Errors
    /// [`LiveError`]; the guest then runs as before.
    fn stop(&self) -> Result<(), LiveError>;

    /// Lets go what [`stop`](Self::stop) held. Nothing where nothing is held.
    ///
    /// # Errors
    /// [`LiveError`] where that failed.
    fn resume(&self) -> Result<(), LiveError>;

    /// Do the vCPUs run now, as far as is known? False where we hold them, and where somebody else has paused them.
    fn running(&self) -> bool;

    /// Forgets what was read of memory, and of the registers of a running guest: what is read next is newer.
    fn forget(&self);

    /// The backend and the machine.
    fn facts(&self) -> LiveFacts;

    /// As memory.
    fn as_memory(&self) -> &dyn PhysMemory;

    /// As vCPUs.
    fn as_vcpus(&self) -> &dyn Vcpus;
}
