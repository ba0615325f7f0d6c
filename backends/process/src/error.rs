//! What can be wrong with a layout, and with the process that has the guest's memory.

use std::io;

/// Why a layout cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A piece of the text is not of the form `GPA+SIZE@HVA`.
    #[error(
        "`{text}` is not a piece of memory: GPA+SIZE@HVA is wanted, as in 0x0+0xc0000000@0x7f0000000000 (sizes may end in K, M, G)"
    )]
    Malformed {
        /// The piece.
        text: String,
    },
    /// It has no piece.
    #[error("the layout has no piece of memory")]
    Empty,
    /// It has more pieces than any virtual machine monitor can have.
    #[error("the layout has {count} pieces of memory, more than {most}")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// A piece has no bytes, or passes the end of the guest's or of the process' address space.
    #[error("the piece of memory at guest {guest:#x} has no room: {len:#x} bytes at host {host:#x}")]
    NoRoom {
        /// Its guest-physical address.
        guest: u64,
        /// Its length.
        len: u64,
        /// Its address in the process.
        host: u64,
    },
    /// Two pieces claim the same guest-physical memory.
    #[error("two pieces of memory overlap at guest {guest:#x}")]
    Overlap {
        /// Where the second begins.
        guest: u64,
    },
}

/// Why a process' memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// There is no such process, or it has ended.
    #[error("there is no process {pid}")]
    Gone {
        /// The process.
        pid: u32,
    },
    /// The system does not let us.
    #[error(
        "{what} of process {pid} may not be read: that needs CAP_SYS_PTRACE (run as root), or the same user and a ptrace_scope of 0"
    )]
    Denied {
        /// The process.
        pid: u32,
        /// What was to be read.
        what: &'static str,
    },
    /// Another failure of the system.
    #[error("{what} of process {pid} could not be read: {source}")]
    Io {
        /// The process.
        pid: u32,
        /// What was to be read.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The process has nothing mapped where the layout says that the guest's memory is.
    #[error("process {pid} has nothing mapped at {host:#x}, where the layout puts guest {guest:#x}")]
    NotMapped {
        /// The process.
        pid: u32,
        /// The address in the process.
        host: u64,
        /// The guest-physical address.
        guest: u64,
    },
    /// One of its lists is longer than any process needs.
    #[error("{what} of process {pid} is longer than the limit")]
    TooLong {
        /// The process.
        pid: u32,
        /// The list.
        what: &'static str,
    },
    /// The layout itself.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl ProcessError {
    /// The error for a failure of the system with `what` of `pid`.
    pub(crate) fn io(pid: u32, what: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::Gone { pid },
            io::ErrorKind::PermissionDenied => Self::Denied { pid, what },
            // ESRCH: the process ended while its files were read.
            _ if source.raw_os_error() == Some(nix::libc::ESRCH) => Self::Gone { pid },
            _ => Self::Io { pid, what, source },
        }
    }
}
