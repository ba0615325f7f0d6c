//! Processes and their threads: a row of each, and a process in detail.

use alloc::string::String;
use alloc::vec::Vec;

use super::RowErrors;
use crate::addr::{PhysAddr, VirtAddr};

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

/// What a process may do. Capabilities are sets of bits: capability `n` is bit `n`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Saved user id.
    pub suid: u32,
    /// User id for access to files.
    pub fsuid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Saved group id.
    pub sgid: u32,
    /// Group id for access to files.
    pub fsgid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Capabilities that are kept over `execve`.
    pub inheritable: u64,
    /// Capabilities that it may make effective.
    pub permitted: u64,
    /// Capabilities that count.
    pub effective: u64,
    /// Capabilities that it can ever get.
    pub bounding: u64,
    /// Capabilities that programs without any get from it.
    pub ambient: u64,
}

/// What is known of a process beside its [row](super::Process).
#[derive(Clone, Debug, Default)]
pub struct ProcessDetails {
    /// What it may do.
    pub credentials: Option<Credentials>,
    /// Is it kept from gaining privileges by `execve`?
    pub no_new_privileges: Option<bool>,
    /// How its system calls are filtered: 0 not, 1 strictly, 2 by a filter.
    pub seccomp: Option<u32>,
    /// Its numbers in all PID namespaces that it is seen from, the outermost first.
    pub numbers: Vec<u32>,
    /// The number of its process group.
    pub group: Option<u32>,
    /// The number of its session.
    pub session: Option<u32>,
    /// The number of its terminal, as `/proc/PID/stat` has it.
    pub tty_number: Option<u32>,
    /// The name of its terminal.
    pub tty: Option<String>,
    /// Its main thread's priority, as `/proc/PID/stat` has it.
    pub priority: Option<i32>,
    /// Its main thread's niceness.
    pub nice: Option<i32>,
    /// By what rule its main thread is scheduled.
    pub policy: Option<&'static str>,
    /// CPU time in the program, in nanoseconds.
    pub user_time: Option<u64>,
    /// CPU time in the kernel, in nanoseconds.
    pub system_time: Option<u64>,
    /// How much is mapped, in bytes.
    pub mapped_bytes: Option<u64>,
    /// Of the resident memory, what is of files or shared, in bytes.
    pub shared_bytes: Option<u64>,
    /// What is swapped out, in bytes.
    pub swapped_bytes: Option<u64>,
    /// How readily it is killed where memory ends: from -1000 to 1000.
    pub oom_score_adj: Option<i16>,
    /// The path of its control group.
    pub control_group: Option<String>,
    /// What could not be read.
    pub errors: RowErrors,
}
