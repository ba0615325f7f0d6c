//! What can go wrong when a Linux guest is read.

use alloc::string::String;

use vmc::layout::LayoutError;
use vmc::{PhysAddr, ReadError, VirtAddr};

/// Why something about a Linux guest is not to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinuxError {
    /// Nothing in memory is a Linux kernel's VMCOREINFO, or its image.
    #[error(
        "no Linux kernel found: no VMCOREINFO in {mib} MiB of physical memory, and no page tables that lead to one{hint}"
    )]
    NotFound {
        /// How much memory was searched, in MiB.
        mib: u64,
        /// What was found instead, beginning with a semicolon; empty where nothing was.
        hint: String,
    },
    /// There are VMCOREINFO pages, but none tells where a kernel is.
    #[error("no Linux kernel found: VMCOREINFO is in memory ({count} times), but {reason}")]
    NotVerified {
        /// How many copies there are.
        count: usize,
        /// What was wrong with the last of them.
        reason: String,
    },
    /// A vCPU has paging on, but what its page table root leads to is none.
    #[error(
        "the page table root {root} holds no page table: the guest's memory is likely encrypted (SEV, TDX), and nothing can be read in it"
    )]
    Encrypted {
        /// Where the root lies.
        root: PhysAddr,
    },
    /// The kernel has no type information.
    #[error(
        "Linux {release} has no type information in memory (BTF, CONFIG_DEBUG_INFO_BTF): its structures cannot be read{}{}",
        if banner.is_some() { "; its banner: " } else { "" },
        banner.as_deref().unwrap_or("")
    )]
    NoTypes {
        /// The kernel's release.
        release: String,
        /// Its banner, where it was found.
        banner: Option<String>,
    },
    /// The kernel's type information is damaged.
    #[error("the kernel's type information (BTF) cannot be read: {reason}")]
    BadTypes {
        /// What is wrong.
        reason: String,
    },
    /// The kernel's symbol table is not to be found.
    #[error("the kernel's symbol table (kallsyms) cannot be read: {reason}")]
    NoSymbols {
        /// What is wrong.
        reason: String,
    },
    /// A symbol is not in the kernel's symbol table.
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
    /// There are more of something, over all processes, than the limit.
    #[error("{what} are more than the limit of {limit}")]
    TooMany {
        /// What they are.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// What one process of several has cannot be read to the end.
    #[error("pid {pid}: {source}")]
    OfProcess {
        /// The process.
        pid: u32,
        /// Why.
        source: alloc::boxed::Box<LinuxError>,
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
    /// A zombie has lost what was asked for.
    #[error("process {pid} is dead, its {what} are already gone")]
    Gone {
        /// The process.
        pid: u32,
        /// What it had.
        what: &'static str,
    },
    /// A path leads to no file, or to none that can be shown.
    #[error("{path}: {reason}")]
    NoFile {
        /// The path, as far as it was followed.
        path: String,
        /// Why it leads no further.
        reason: &'static str,
    },
    /// There is no such open file.
    #[error("process {pid} has no open file {fd}")]
    NoDescriptor {
        /// The process.
        pid: u32,
        /// The descriptor that was asked for.
        fd: u32,
    },
    /// A kernel thread or a zombie has no address space.
    #[error("process {pid} has no user address space: it is {what}")]
    NoAddressSpace {
        /// The process.
        pid: u32,
        /// What it is.
        what: &'static str,
    },
}

impl LinuxError {
    /// A failed read, with what it was for.
    pub(crate) fn read(what: &'static str) -> impl Fn(ReadError) -> Self {
        move |source| Self::Read { what, source }
    }
}
