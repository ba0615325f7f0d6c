//! Why a machine cannot be attached to, a line each that says what to do.

use std::io;

use crate::wire::Fault;

/// Why a process' virtual machine cannot be attached to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// There is no such process.
    #[error("there is no process {pid}")]
    NoProcess {
        /// The number that was asked for.
        pid: u32,
    },
    /// The process may not be looked into.
    #[error("process {pid} ({name}) may not be looked into: {why}")]
    NotPermitted {
        /// The process.
        pid: u32,
        /// Its name.
        name: String,
        /// What forbids it, and what would permit it.
        why: String,
    },
    /// The process has no virtual machine of KVM's.
    #[error("process {pid} ({name}) has no virtual machine of KVM's: {hint}")]
    NoMachine {
        /// The process.
        pid: u32,
        /// Its name.
        name: String,
        /// What else it may be.
        hint: &'static str,
    },
    /// The VMM is a program of 32 bits.
    #[error(
        "process {pid} ({name}) is a program of 32 bits, whose threads cannot be asked: give its monitor or its gdb stub, as qmp:ADDRESS or gdb:ADDRESS"
    )]
    Narrow {
        /// The process.
        pid: u32,
        /// Its name.
        name: String,
    },
    /// The virtual machine has no vCPU.
    #[error("the virtual machine of process {pid} ({name}) has no vCPU yet: try again once its guest runs")]
    NoVcpus {
        /// The process.
        pid: u32,
        /// Its name.
        name: String,
    },
    /// The process has more than one virtual machine.
    #[error(
        "process {pid} ({name}) has more than one virtual machine: vCPU {vcpu} is there {count} times; which is meant cannot be told"
    )]
    SeveralMachines {
        /// The process.
        pid: u32,
        /// Its name.
        name: String,
        /// A vCPU's number that several have.
        vcpu: u32,
        /// How many.
        count: usize,
    },
    /// The guest's state is secret: nothing to see, and looking by the shared page would end the guest.
    #[error(
        "process {pid} ({name}) keeps its guest's state secret (it has {what}): without injection nothing can be done safely"
    )]
    Secret {
        /// The process.
        pid: u32,
        /// Its name.
        name: String,
        /// What shows it.
        what: String,
    },
    /// Where the guest's memory lies is not known.
    #[error(
        "where the memory of process {pid} ({name})'s guest lies is not known: {why}; give it as GPA+SIZE@HVA,…, or its monitor"
    )]
    NoLayout {
        /// The process.
        pid: u32,
        /// Its name.
        name: String,
        /// Who was asked, and what each said.
        why: String,
    },
    /// A file of /proc could not be read.
    #[error("{path} could not be read: {source}")]
    Proc {
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The child that holds the threads could not be started.
    #[error("no process could be started to hold the threads of process {pid}: {source}")]
    NoGuardian {
        /// The process.
        pid: u32,
        /// What the system says.
        source: io::Error,
    },
    /// The child could not trace the threads.
    #[error("process {pid} ({name}) could not be attached to: {why}")]
    Refused {
        /// The process.
        pid: u32,
        /// Its name.
        name: String,
        /// What happened, and what to do.
        why: String,
    },
}

/// What a fault says to a person, where it needs numbers.
pub(crate) fn describe(fault: Fault) -> String {
    let system = |errno: i32| io::Error::from_raw_os_error(errno);
    match fault {
        Fault::Silent { tid } => format!("thread {tid} did not stop in time"),
        Fault::Seize { tid, errno } | Fault::Trace { tid, errno } => {
            format!("thread {tid}: {}", system(errno))
        }
        Fault::Jailed { tid, errno } => {
            format!("the seccomp filter of thread {tid} cannot be suspended: {}", system(errno))
        }
        Fault::NoScratch { tid, errno } => {
            format!("the stack of thread {tid} cannot be borrowed: {}", system(errno))
        }
        Fault::Refused { vcpu, errno } => {
            format!("KVM does not tell the registers of vCPU {vcpu}: {}", system(errno))
        }
        Fault::Signal { tid, signal } => {
            format!("thread {tid} got signal {signal} for a system call of ours; it is as it was before")
        }
        Fault::Unplugged { vcpu } => format!("the thread of vCPU {vcpu} has ended: attach again"),
        Fault::Gone | Fault::NotHeld | Fault::NoInstruction { .. } | Fault::Stale { .. } => {
            reason(fault).to_owned()
        }
    }
}

/// The same without numbers.
pub(crate) const fn reason(fault: Fault) -> &'static str {
    match fault {
        Fault::Gone => "its threads have ended",
        Fault::Silent { .. } => "a thread of its VMM did not stop, or did not answer, in time",
        Fault::Seize { .. } | Fault::Trace { .. } => "a thread of its VMM could not be traced",
        Fault::Jailed { .. } => {
            "its thread has a seccomp filter that only CAP_SYS_ADMIN may suspend: run as root, or without injection"
        }
        Fault::Unplugged { .. } => "the thread of a vCPU has ended: attach again",
        Fault::NotHeld => "its guest had to be let go meanwhile: hold it again",
        Fault::Signal { .. } => {
            "a system call on its thread brought a signal about, as a seccomp filter does: run as root, or without injection"
        }
        Fault::NoInstruction { .. } => "its VMM has no instruction that makes a system call",
        Fault::NoScratch { .. } => "the stack of a thread of its VMM cannot be borrowed",
        Fault::Refused { .. } => "KVM does not tell them: is the guest's state encrypted?",
        Fault::Stale { .. } => {
            "the vCPU is not running, so only an injected system call can read them: attach with injection, or let the guest run"
        }
    }
}
