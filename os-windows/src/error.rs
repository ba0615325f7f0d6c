//! What can go wrong when a Windows guest is read.

use alloc::string::String;

use vmc::layout::LayoutError;
use vmc::{ReadError, VirtAddr};

use crate::identity::KernelIdentity;

/// Why something about a Windows guest is not to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WindowsError {
    /// Nothing in memory is a Windows kernel.
    #[error("no Windows kernel found: {reason}")]
    NotFound {
        /// What was looked for, and what was found instead.
        reason: String,
    },
    /// The kernel was found, but no file tells its types and symbols.
    #[error("{identity} tells neither types nor symbols, and no file that was given is of it")]
    NoTypes {
        /// The kernel.
        identity: alloc::boxed::Box<KernelIdentity>,
    },
    /// A symbol is not among the kernel's.
    #[error("the kernel has no symbol {name}")]
    NoSymbol {
        /// Its name.
        name: &'static str,
    },
    /// A structure or member is not in the kernel's types.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Memory could not be read.
    #[error("{what}: {source}")]
    Read {
        /// What was being read.
        what: &'static str,
        /// Why it could not.
        source: ReadError,
    },
    /// A list or tree leads in a circle, or has more entries than its limit.
    #[error("{what} at {at}: {reason}")]
    Broken {
        /// What it is.
        what: &'static str,
        /// Where the walk stopped.
        at: VirtAddr,
        /// Why.
        reason: &'static str,
    },
    /// There is no such process.
    #[error("no process {pid} among the {count} processes of the guest")]
    NoProcess {
        /// The number that was asked for.
        pid: u32,
        /// How many processes there are.
        count: usize,
    },
    /// There is no such thread.
    #[error("no thread {tid} among the threads of the guest")]
    NoThread {
        /// The number that was asked for.
        tid: u32,
    },
    /// A process has no user memory: it is a system process, or has exited.
    #[error("process {pid} has no user address space: {reason}")]
    NoAddressSpace {
        /// The process.
        pid: u32,
        /// Why it has none.
        reason: &'static str,
    },
    /// The target has ranges of kernel memory only (a triage dump): page tables lead nowhere.
    #[error("{what} is not in a triage dump, which holds ranges of kernel memory only")]
    OnlyRanges {
        /// What was asked for.
        what: &'static str,
    },
}

impl WindowsError {
    /// A failed read, with what it was for.
    pub(crate) fn read(what: &'static str) -> impl Fn(ReadError) -> Self {
        move |source| Self::Read { what, source }
    }
}
