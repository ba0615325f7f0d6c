//! Rows as they are printed: what could be read; what could not is absent, and the row's errors say why.

use alloc::string::String;

use vmc::view::RowErrors;
use vmc::{PhysAddr, VirtAddr};

use crate::identity::CodeView;

/// A process.
#[derive(Clone, Debug, Default)]
pub struct ProcessRow {
    /// Its number.
    pub pid: u32,
    /// Its parent's number.
    pub ppid: Option<u32>,
    /// The short name that the kernel keeps (`ImageFileName`), at most 14 bytes.
    pub name: String,
    /// The path of its image as the kernel names it (`\Device\…`).
    pub exe: Option<String>,
    /// Its command line (PEB).
    pub command_line: Option<String>,
    /// The session that it belongs to; none for system processes.
    pub session: Option<u32>,
    /// Is it a 32-bit process?
    pub wow64: bool,
    /// How many threads it has.
    pub threads: Option<u32>,
    /// When it began, in nanoseconds since 1970 (UTC).
    pub start_time: Option<i128>,
    /// When it ended; none while it runs.
    pub exit_time: Option<i128>,
    /// The kernel's own object for it (`EPROCESS`).
    pub object: VirtAddr,
    /// Its environment block (PEB).
    pub peb: Option<VirtAddr>,
    /// The root of its page tables.
    pub page_table: Option<PhysAddr>,
    /// The root that user mode runs with, where that is another (KVA shadow).
    pub user_page_table: Option<PhysAddr>,
    /// Is it on the list of active processes? Those that are only in the table of ids are not; the idle process counts as if it were.
    pub on_list: bool,
    /// What could not be read.
    pub errors: RowErrors,
}

/// A thread.
#[derive(Clone, Debug, Default)]
pub struct ThreadRow {
    /// Its number.
    pub tid: u32,
    /// Its process' number.
    pub pid: u32,
    /// Its process' short name.
    pub name: String,
    /// Its state, as `KTHREAD_STATE` names it: `Ready`, `Running`, `Waiting`, …
    pub state: Option<&'static str>,
    /// Why it waits, as `KWAIT_REASON` names it.
    pub wait_reason: Option<&'static str>,
    /// The processor that it runs on or last ran on.
    pub cpu: Option<u32>,
    /// Is it on a processor right now?
    pub on_cpu: bool,
    /// Where the kernel starts it.
    pub start_address: Option<VirtAddr>,
    /// Where the program asked it to start.
    pub win32_start_address: Option<VirtAddr>,
    /// Its environment block (TEB).
    pub teb: Option<VirtAddr>,
    /// The kernel's own object for it (`ETHREAD`).
    pub object: VirtAddr,
    /// What could not be read.
    pub errors: RowErrors,
}

/// A kernel module, or a library of a process.
#[derive(Clone, Debug, Default)]
pub struct ModuleRow {
    /// Its name.
    pub name: String,
    /// Its path, as the loader names it.
    pub path: Option<String>,
    /// Where it begins.
    pub base: VirtAddr,
    /// Its size in bytes.
    pub size: u64,
    /// When it was linked (or a hash in place of that), as the loader's entry has it.
    pub timestamp: Option<u32>,
    /// Is it a 32-bit image of a 64-bit guest's process?
    pub wow64: bool,
    /// What its header says of its PDB, where the header is in memory.
    pub pdb: Option<CodeView>,
    /// The loader's own entry for it.
    pub object: VirtAddr,
    /// What could not be read.
    pub errors: RowErrors,
}

/// What a range of a process' addresses is backed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VadKind {
    /// Memory of its own.
    Private,
    /// A section: a file's data, or shared memory.
    Mapped,
    /// An image.
    Image,
}

impl VadKind {
    /// The name that is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Mapped => "mapped",
            Self::Image => "image",
        }
    }
}

/// A range of a process' addresses (virtual address descriptor).
#[derive(Clone, Debug)]
pub struct VadRow {
    /// Its first byte.
    pub start: VirtAddr,
    /// The first byte behind it.
    pub end: VirtAddr,
    /// The protection that it was made with: `PAGE_READWRITE`, ….
    pub protection: Option<String>,
    /// What it is backed by.
    pub kind: VadKind,
    /// The path of the file behind it, as the kernel names it.
    pub path: Option<String>,
    /// Pages that are charged to the process.
    pub commit: Option<u64>,
    /// The kernel's own object for it (`MMVAD` or `MMVAD_SHORT`).
    pub object: VirtAddr,
    /// What could not be read.
    pub errors: RowErrors,
}

/// An open handle of a process.
#[derive(Clone, Debug, Default)]
pub struct HandleRow {
    /// Its process' number.
    pub pid: u32,
    /// The handle.
    pub handle: u32,
    /// The type of what it stands for: `File`, `Event`, ….
    pub kind: Option<String>,
    /// What it stands for (the object's body).
    pub object: VirtAddr,
    /// What it may be used for (the access mask).
    pub access: Option<u32>,
    /// The object's name; of files their path.
    pub name: Option<String>,
    /// What could not be read.
    pub errors: RowErrors,
}
