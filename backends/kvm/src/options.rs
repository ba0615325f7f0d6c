//! How a machine is attached to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use vmc_process::Layout;

/// A moment of an attachment at which the guest, or a thread of its VMM, is not as it was: where a test stops or kills the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// The threads are traced; they run.
    Seized,
    /// The pages that vCPUs share with the VMM have been changed, so that KVM stores registers there.
    PagesOn,
    /// The threads have been told to stop; some have.
    Interrupted,
    /// All threads are held.
    Held,
    /// A thread blocks all signals, and its seccomp filter is suspended.
    SignalsBlocked,
    /// Its registers are borrowed.
    Borrowed,
    /// It has entered a system call of ours.
    InSystemCall,
    /// It has left it.
    SystemCallDone,
    /// Its registers, signals and stack are as they were.
    Restored,
    /// The threads run again.
    Resumed,
}

impl Step {
    /// All of them, in the order in which they come about.
    pub const ALL: [Self; 10] = [
        Self::Seized,
        Self::PagesOn,
        Self::Interrupted,
        Self::Held,
        Self::SignalsBlocked,
        Self::Borrowed,
        Self::InSystemCall,
        Self::SystemCallDone,
        Self::Restored,
        Self::Resumed,
    ];

    pub(crate) fn index(self) -> usize {
        Self::ALL.iter().position(|step| *step == self).unwrap_or(0)
    }
}

/// What is told each [`Step`]; the child waits until it returns.
pub type Watcher = Arc<dyn Fn(Step) + Send + Sync>;

/// How to attach.
#[derive(Clone)]
#[non_exhaustive]
pub struct AttachOptions {
    /// Where guest memory lies in the process; found where there is none. It is held against the guest's page tables, but believed.
    pub layout: Option<Layout>,
    /// The address of QEMU's machine protocol, to ask for the layout.
    pub monitor: Option<String>,
    /// No system call is made on a borrowed thread: registers come from the page that each vCPU shares with its VMM. That needs a
    /// vCPU that leaves `KVM_RUN` after attaching, and lacks LSTAR, KERNEL_GS_BASE and what the VMM changes of a vCPU that it has
    /// paused.
    pub no_inject: bool,
    /// How long a thread may take to stop, or to answer. Two seconds by itself.
    pub patience: Duration,
    /// Is told each [`Step`]; for tests, and slow.
    pub watcher: Option<Watcher>,
}

impl Default for AttachOptions {
    fn default() -> Self {
        Self {
            layout: None,
            monitor: None,
            no_inject: false,
            patience: Duration::from_secs(2),
            watcher: None,
        }
    }
}

impl fmt::Debug for AttachOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttachOptions")
            .field("layout", &self.layout)
            .field("monitor", &self.monitor)
            .field("no_inject", &self.no_inject)
            .field("patience", &self.patience)
            .field("watcher", &self.watcher.is_some())
            .finish()
    }
}
