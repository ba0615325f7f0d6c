//! The commands with their arguments; `help` has the examples, `properties` what sets one command apart from another.

use std::ffi::OsString;

use clap::Subcommand;

use super::values::length;
use super::{LiveTarget, RecordOptions, SaveTo, SearchFor, Target, TopOptions, address, help};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What guest it is: release, host name, CPUs, memory, where the kernel lies
    #[command(after_help = help::INFO)]
    Info(Target),
    /// The registers of all vCPUs
    #[command(after_help = help::REGISTERS)]
    Registers(Target),
    /// Processes, like ps -ef
    #[command(after_help = help::PS)]
    Ps {
        #[command(flatten)]
        target: Target,
        /// Show who started whom
        #[arg(long, conflicts_with = "all_ways")]
        tree: bool,
        /// Look for processes in every way, also by searching memory, and mark those that were hidden from one
        #[arg(long, conflicts_with_all = ["pid", "long"])]
        all_ways: bool,
        /// Only this process, with all that is known of it
        #[arg(long, value_name = "PID", conflicts_with = "tree")]
        pid: Option<u32>,
        /// More columns
        #[arg(short, long, conflicts_with = "tree")]
        long: bool,
    },
    /// Threads of all processes, or of one
    #[command(after_help = help::THREADS)]
    Threads {
        #[command(flatten)]
        target: Target,
        /// Only the threads of this process
        #[arg(long, value_name = "PID")]
        pid: Option<u32>,
    },
    /// A process' mappings, like /proc/PID/maps
    #[command(after_help = help::MAPS)]
    Maps {
        #[command(flatten)]
        target: Target,
        /// The process
        #[arg(long, value_name = "PID")]
        pid: u32,
    },
    /// Kernel modules, like lsmod, or the libraries of a process
    #[command(after_help = help::MODULES)]
    Modules {
        #[command(flatten)]
        target: Target,
        /// The libraries of this process
        #[arg(long, value_name = "PID", conflicts_with = "all_ways")]
        pid: Option<u32>,
        /// Look for modules in every way, also by searching memory, and mark those that were hidden from one
        #[arg(long)]
        all_ways: bool,
    },
    /// Stacks of all threads, like gdb's bt: the kernel's frames, then the program's
    #[command(after_help = help::BT)]
    Bt {
        #[command(flatten)]
        target: Target,
        /// Only the threads of this process
        #[arg(long, value_name = "PID")]
        pid: Option<u32>,
        /// Only this thread
        #[arg(long, value_name = "TID")]
        tid: Option<u32>,
        /// The kernel part alone
        #[arg(long, conflicts_with = "user")]
        kernel: bool,
        /// The user part alone
        #[arg(long)]
        user: bool,
        /// Inlined functions and source lines, out of the debug files that --symbols gives
        #[arg(long)]
        lines: bool,
        /// Where a walk stopped short, guess on from what looks like return addresses (marked by ?)
        #[arg(long)]
        scan: bool,
        /// Names as they stand in the symbol tables
        #[arg(long)]
        no_demangle: bool,
    },
    /// Open files of all processes, or of one, like lsof
    #[command(after_help = help::LSOF)]
    Lsof {
        #[command(flatten)]
        target: Target,
        /// Only the files of this process
        #[arg(long, value_name = "PID")]
        pid: Option<u32>,
    },
    /// Sockets of all network namespaces with their owners, or those of one process, like ss
    #[command(after_help = help::SOCKETS)]
    Sockets {
        #[command(flatten)]
        target: Target,
        /// Only the sockets that this process has open
        #[arg(long, value_name = "PID")]
        pid: Option<u32>,
    },
    /// Containers with their processes, namespaces and roots
    #[command(after_help = help::CONTAINERS)]
    Containers(Target),
    /// Network interfaces of all namespaces with their addresses
    #[command(after_help = help::INTERFACES)]
    Interfaces(Target),
    /// A process' environment
    #[command(after_help = help::ENV)]
    Env {
        #[command(flatten)]
        target: Target,
        /// The process
        #[arg(long, value_name = "PID")]
        pid: u32,
    },
    /// A file's bytes out of the page cache, written as they are
    #[command(after_help = help::CAT)]
    Cat {
        #[command(flatten)]
        target: Target,
        /// The file
        #[arg(required_unless_present = "fd", conflicts_with = "fd")]
        path: Option<OsString>,
        /// As this process sees it; without it, as init does
        #[arg(long, value_name = "PID")]
        pid: Option<u32>,
        /// The file that the process has open as this descriptor
        #[arg(long, value_name = "FD", requires = "pid")]
        fd: Option<u32>,
        /// Write zeros for bytes that are not in memory
        #[arg(long)]
        partial: bool,
    },
    /// A directory out of the dentry cache, like ls -l
    #[command(after_help = help::LS)]
    Ls {
        #[command(flatten)]
        target: Target,
        /// The directory
        #[arg(default_value = "/")]
        path: OsString,
        /// As this process sees it; without it, as init does
        #[arg(long, value_name = "PID")]
        pid: Option<u32>,
        /// The directories in it too
        #[arg(short = 'R', long)]
        recursive: bool,
    },
    /// What is mounted where, like /proc/mounts
    #[command(after_help = help::MOUNTS)]
    Mounts {
        #[command(flatten)]
        target: Target,
        /// As this process sees it; without it, as init does
        #[arg(long, value_name = "PID")]
        pid: Option<u32>,
    },
    /// The kernel's log, like dmesg
    #[command(after_help = help::DMESG)]
    Dmesg(Target),
    /// The kernel's symbols, like nm; or those of one name; or what lies at an address
    #[command(after_help = help::SYMBOLS)]
    Symbols {
        #[command(flatten)]
        target: Target,
        /// A name, or an address that begins with 0x
        what: Option<String>,
    },
    /// The layout of a kernel type, like pahole
    #[command(after_help = help::TYPES)]
    Types {
        #[command(flatten)]
        target: Target,
        /// The structure or union
        name: String,
    },
    /// Where an address lies in physical memory, and by which page-table entries
    #[command(after_help = help::TRANSLATE)]
    Translate {
        #[command(flatten)]
        target: Target,
        /// In this process' address space; without it, in the kernel's
        #[arg(long, value_name = "PID")]
        pid: Option<u32>,
        /// The address
        #[arg(value_parser = address, value_name = "0xADDR")]
        address: u64,
    },
    /// Bytes of memory, as a hexdump
    #[command(after_help = help::READ)]
    Read {
        #[command(flatten)]
        target: Target,
        /// In this process' address space; without it, in the kernel's
        #[arg(long, value_name = "PID")]
        pid: Option<u32>,
        /// In the guest's physical memory
        #[arg(long, conflicts_with = "pid")]
        physical: bool,
        /// The address
        #[arg(value_parser = address, value_name = "0xADDR")]
        address: u64,
        /// How many bytes
        #[arg(value_parser = length, value_name = "LEN")]
        len: u64,
        /// Write the bytes and nothing else
        #[arg(long)]
        raw: bool,
    },
    /// Where text or bytes lie in memory, and whose they are
    #[command(after_help = help::SEARCH)]
    Search {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        what: SearchFor,
    },
    /// Save the guest as an ELF core that vmc, gdb, crash and drgn open
    #[command(after_help = help::DUMP)]
    Dump {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        out: SaveTo,
    },
    /// Where a live guest spends its time: the stacks of all vCPUs, many times a second
    #[command(after_help = help::RECORD)]
    Record {
        #[command(flatten)]
        target: LiveTarget,
        #[command(flatten)]
        options: RecordOptions,
    },
    /// Processes and threads of a live guest by CPU time, like top
    #[command(after_help = help::TOP)]
    Top {
        #[command(flatten)]
        target: LiveTarget,
        #[command(flatten)]
        options: TopOptions,
    },
}
