//! The OS-neutral view of a guest: the rows that OS crates fill in and that are printed.
//!
//! A row holds what could be read. What could not is absent, and [`RowErrors`] says why.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::addr::{PhysAddr, VirtAddr};
use crate::limits::Limits;

mod container;
mod module;
mod process;
mod system;
mod ways;

pub use container::{Container, ContainerRoot};
pub use module::{ModuleDetails, ModuleSection};
pub use process::{Credentials, ProcessDetails};
pub use system::{DirectoryEntry, FilePart, Interface, LogRecord, Mount, OpenFile, PartKind, Socket};
pub use ways::{Way, Ways};

/// Why parts of a row are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowErrors {
    /// What was missing and why, at most [`Limits::row_errors`] of them.
    pub messages: Vec<String>,
    /// How many more there were.
    pub more: usize,
}

impl RowErrors {
    /// Remembers that `what` could not be read, and why.
    pub fn push(&mut self, limits: &Limits, what: &str, why: &dyn fmt::Display) {
        self.keep_message(limits, alloc::format!("{what}: {why}"));
    }

    /// The value, or nothing and a remembered error.
    pub fn keep<T, E: fmt::Display>(
        &mut self,
        limits: &Limits,
        what: &str,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|why| self.push(limits, what, &why)).ok()
    }

    /// Takes over what another part of the row lacks, within the same bound.
    pub fn append(&mut self, limits: &Limits, other: Self) {
        self.more = self.more.saturating_add(other.more);
        for message in other.messages {
            self.keep_message(limits, message);
        }
    }

    fn keep_message(&mut self, limits: &Limits, message: String) {
        if self.messages.len() < limits.row_errors {
            self.messages.push(message);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// Is nothing missing?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

/// A process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its parent's number.
    pub ppid: Option<u32>,
    /// The kernel's short name for it.
    pub name: String,
    /// The path of its executable.
    pub exe: Option<String>,
    /// Its command line, a word an entry.
    pub command_line: Option<Vec<String>>,
    /// Real user id.
    pub uid: Option<u32>,
    /// Real group id.
    pub gid: Option<u32>,
    /// Its main thread's state, as the letter of `/proc/PID/stat`.
    pub state: Option<char>,
    /// How many threads it has.
    pub threads: Option<u32>,
    /// Is it a kernel thread?
    pub kernel: bool,
    /// When it began, in nanoseconds since 1970 (UTC).
    pub start_time: Option<i128>,
    /// Resident memory in bytes.
    pub rss_bytes: Option<u64>,
    /// The kernel's own object for it.
    pub object: VirtAddr,
    /// The root of its page tables.
    pub page_table: Option<PhysAddr>,
    /// What could not be read.
    pub errors: RowErrors,
}

/// A thread.
#[derive(Clone, Debug, Default)]
pub struct Thread {
    /// Its number.
    pub tid: u32,
    /// Its process' number.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Its state, as the letter of `/proc/PID/stat`.
    pub state: Option<char>,
    /// The CPU it runs on or last ran on.
    pub cpu: Option<u32>,
    /// Is it on a CPU right now?
    pub on_cpu: bool,
    /// The kernel's own object for it.
    pub object: VirtAddr,
    /// What could not be read.
    pub errors: RowErrors,
}

/// What may be done with a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
    /// Fetching code.
    pub execute: bool,
    /// Do writes reach the file and other processes?
    pub shared: bool,
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |set, letter| if set { letter } else { '-' };
        write!(
            f,
            "{}{}{}{}",
            letter(self.read, 'r'),
            letter(self.write, 'w'),
            letter(self.execute, 'x'),
            if self.shared { 's' } else { 'p' }
        )
    }
}

/// A mapping of a process.
#[derive(Clone, Debug, Default)]
pub struct Mapping {
    /// Its first byte.
    pub start: VirtAddr,
    /// The first byte behind it.
    pub end: VirtAddr,
    /// What may be done with it.
    pub permissions: Permissions,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// The file's device: major and minor number.
    pub device: (u32, u32),
    /// The file's inode number.
    pub inode: u64,
    /// The file's path, or the name of a special mapping (`[heap]`).
    pub path: Option<String>,
    /// The kernel's own object for it.
    pub object: VirtAddr,
    /// What could not be read.
    pub errors: RowErrors,
}

/// A build-id: the hash that ties a binary to its debugging information.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BuildId(pub Arc<[u8]>);

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A kernel module, or a library of a process.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Its path, where it has one.
    pub path: Option<String>,
    /// Where it begins.
    pub base: VirtAddr,
    /// Its size in bytes.
    pub size: u64,
    /// Kernel modules: `Live`, `Loading` or `Unloading`.
    pub state: Option<&'static str>,
    /// Its build-id.
    pub build_id: Option<BuildId>,
    /// The kernel's own object for it.
    pub object: VirtAddr,
    /// What could not be read.
    pub errors: RowErrors,
}

/// Whether a frame belongs to the kernel or to a user program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// The kernel.
    Kernel,
    /// A user program.
    User,
}

impl Space {
    /// `kernel` or `user`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::User => "user",
        }
    }
}

/// How a frame was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FoundBy {
    /// Where the thread, or its entry into the kernel, left the registers.
    Registers,
    /// By the call frame information of `.eh_frame` or `.debug_frame`.
    Cfi,
    /// By the kernel's ORC tables.
    Orc,
    /// By the `.pdata` and `.xdata` of a PE image.
    Pdata,
    /// By a chain of frame pointers.
    FramePointer,
    /// By following the code, which nothing describes, to its return.
    Code,
    /// Out of the link register.
    LinkRegister,
    /// By the registers that the kernel stored when it delivered a signal.
    SignalFrame,
    /// By a guess: the word looks like a return address.
    Scan,
}

impl FoundBy {
    /// The name that is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Registers => "registers",
            Self::Cfi => "cfi",
            Self::Orc => "orc",
            Self::Pdata => "pdata",
            Self::FramePointer => "frame-pointer",
            Self::Code => "code",
            Self::LinkRegister => "link-register",
            Self::SignalFrame => "sigframe",
            Self::Scan => "scan",
        }
    }
}

/// Why a walk over a stack ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// At the outermost frame.
    End,
    /// Memory that it needs is not to be had.
    NotResident(VirtAddr),
    /// Nothing describes the code there.
    NoUnwindInfo(VirtAddr),
    /// What describes the code, or what lies on the stack, contradicts itself; the walk would not get on.
    BadFrame(VirtAddr),
    /// At the bound of [`Limits::frames`].
    Limit,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("end"),
            Self::NotResident(at) => write!(f, "not-resident {at}"),
            Self::NoUnwindInfo(at) => write!(f, "no-unwind-info {at}"),
            Self::BadFrame(at) => write!(f, "bad-frame {at}"),
            Self::Limit => f.write_str("limit"),
        }
    }
}

/// A frame with everything that is known about it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Where the frame stands: the instruction pointer, or the return address of a caller.
    pub ip: VirtAddr,
    /// Its stack pointer.
    pub sp: VirtAddr,
    /// Its canonical frame address, where the walk got as far as that.
    pub cfa: Option<VirtAddr>,
    /// Kernel or user.
    pub space: Space,
    /// The name of the function, not demangled, and the distance of `ip` from it.
    pub symbol: Option<FrameSymbol>,
    /// Where its function begins: by its symbol or, where it has no name, by what describes its code.
    pub function_start: Option<VirtAddr>,
    /// The module it lies in.
    pub module: Option<Arc<FrameModule>>,
    /// How it was found.
    pub found_by: FoundBy,
    /// Was it interrupted for a signal's delivery?
    pub signal: bool,
}

/// The function that a frame stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameSymbol {
    /// Its name, not demangled.
    pub name: String,
    /// The distance of the frame's `ip` from it, in bytes.
    pub offset: u64,
    /// Where it begins.
    pub start: VirtAddr,
}

/// The module that a frame lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameModule {
    /// The path of its file, or its name.
    pub path: String,
    /// Where its image begins.
    pub base: VirtAddr,
    /// Its build-id.
    pub build_id: Option<BuildId>,
    /// The debug file that it names itself.
    pub debug_link: Option<DebugLink>,
}

/// What an image says in `.gnu_debuglink` of its debug file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DebugLink {
    /// The file's name. The guest's word: anything may stand in it, paths too.
    pub name: Arc<[u8]>,
    /// The CRC32 (IEEE 802.3) of the file.
    pub crc: u32,
}

/// A thread's stack.
#[derive(Clone, Debug, Default)]
pub struct Stack {
    /// Its frames, innermost first, the kernel's before the user's.
    pub frames: Vec<Frame>,
    /// Why the walk over the user part ended; nothing where there is no user part.
    pub stop: Option<Stop>,
    /// Why the walk over the kernel part ended; nothing where it was not walked.
    pub kernel_stop: Option<Stop>,
    /// What could not be read.
    pub errors: RowErrors,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn errors_of_a_row_are_bounded_and_counted() {
        let limits = Limits { row_errors: 1, ..Limits::default() };
        let mut errors = RowErrors::default();
        assert!(errors.is_empty());
        assert_eq!(errors.keep::<u8, _>(&limits, "uid", Err("not mapped")), None);
        assert_eq!(errors.keep::<u8, &str>(&limits, "gid", Ok(3)), Some(3));
        errors.push(&limits, "exe", &"loop");
        assert_eq!((errors.messages.as_slice(), errors.more), (&["uid: not mapped".to_string()][..], 1));
        let mut row = RowErrors::default();
        row.append(&limits, errors.clone());
        assert_eq!(row, errors);
        row.append(&limits, errors);
        assert_eq!((row.messages.len(), row.more), (1, 3));
    }

    #[test]
    fn stops_and_permissions_print_as_promised() {
        assert_eq!(Stop::NotResident(VirtAddr::new(0x7f00)).to_string(), "not-resident 0x7f00");
        let permissions = Permissions { read: true, execute: true, ..Permissions::default() };
        assert_eq!(permissions.to_string(), "r-xp");
    }
}
