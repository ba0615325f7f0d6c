//! The words of the command line.

mod common;
mod dump;
mod live;
mod record;
mod search;
mod values;

pub(crate) use common::{Color, Common, Format, Os};
pub(crate) use dump::SaveTo;
pub(crate) use live::Live;
pub(crate) use record::{RecordOptions, TopOptions};
pub(crate) use search::SearchFor;

use std::ffi::OsString;

use clap::{Args as ClapArgs, Parser, Subcommand};

pub(crate) use values::address;
use values::length;

/// See into virtual machines from outside: what runs in them and where every thread stands.
#[derive(Debug, Parser)]
#[command(
    name = "vmc",
    version = concat!(env!("CARGO_PKG_VERSION"), " (JSON schema 1)"),
    max_term_width = 100,
    after_help = "TARGET is a memory image: a raw image, an ELF core (dump-guest-memory, virsh dump --memory-only),\n\
        a LiME or AVML image; each also compressed by gzip, xz or zstd. Its format is found from its content.\n\
        Or it is a live guest, which stands still while it is read, and is let go before anything is printed:\n  \
        kvm:PID                          the VMM's process on this host, whichever VMM it is\n  \
        gdb:HOST:PORT, gdb:/path         a GDB remote stub (QEMU's -gdb, -s)\n  \
        qmp:HOST:PORT, qmp:/path         QEMU's machine protocol (-qmp)\n\n\
        Examples:\n  \
        vmc ps mem.elf                   processes, like ps -ef\n  \
        vmc bt mem.elf --pid 85          stacks of all threads of process 85\n  \
        vmc maps mem.elf --pid 85        its mappings, like /proc/85/maps\n  \
        vmc info mem.elf --format json   the guest as one JSON object\n  \
        vmc ps kvm:4711                  a running guest, held still for some milliseconds\n  \
        vmc ps kvm:4711 --no-stop        the same while it runs\n\n\
        Exit status: 0 done; 1 the target cannot be read or what was asked for is not in it; 2 wrong usage."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What is to be looked at.
#[derive(Debug, ClapArgs)]
pub(crate) struct Target {
    /// A memory image, kvm:PID, gdb:ADDRESS or qmp:ADDRESS
    pub(crate) target: String,
}

/// What is to be looked at over time.
#[derive(Debug, ClapArgs)]
pub(crate) struct LiveTarget {
    /// A live guest: kvm:PID, gdb:ADDRESS or qmp:ADDRESS
    pub(crate) target: String,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What guest it is: release, host name, CPUs, memory, where the kernel lies
    #[command(
        after_help = "Examples:\n  vmc info mem.elf\n  vmc info kvm:4711                  also the VMM, and how its memory is read\n\n\
        Where no operating system is found, what is known without one is shown, and the exit status is 1."
    )]
    Info(Target),
    /// The registers of all vCPUs
    #[command(after_help = "Examples:\n  vmc registers mem.elf\n  \
        vmc registers kvm:4711 --format jsonl | jq -r .rip\n\n\
        This needs no operating system that is known. Registers that the target does not tell are left out.")]
    Registers(Target),
    /// Processes, like ps -ef
    #[command(after_help = "Examples:\n  vmc ps mem.elf\n  vmc ps mem.elf --tree\n  \
        vmc ps mem.elf --long                   groups, sessions, terminals, CPU time, memory\n  \
        vmc ps mem.elf --pid 85                 one process with all that is known of it\n  \
        vmc ps mem.elf --format jsonl | jq 'select(.uid == 1000)'\n  \
        vmc ps mem.elf --format jsonl | jq 'select(.euid != .uid or .seccomp == 2) | .pid'\n  \
        vmc ps mem.elf --all-ways --format jsonl | jq 'select(.hidden_from != [])'\n\n\
        All formats but the table give credentials, capabilities (capabilities: the effective ones by name),\n\
        CPU time in seconds, memory in bytes, priority, control group and PID namespaces (nspid) too.\n\n\
        With --all-ways, HIDDEN FROM names the ways that should lead to a process and do not: task_list (what ps\n\
        goes by), thread_lists, pid_idr (the numbers of each namespace), run_queues, children. Threads that are\n\
        missing from a way have rows of their own, with tid.")]
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
    #[command(after_help = "Examples:\n  vmc threads mem.elf\n  vmc threads mem.elf --pid 85")]
    Threads {
        #[command(flatten)]
        target: Target,
        /// Only the threads of this process
        #[arg(long, value_name = "PID")]
        pid: Option<u32>,
    },
    /// A process' mappings, like /proc/PID/maps
    #[command(after_help = "Example:\n  vmc maps mem.elf --pid 85")]
    Maps {
        #[command(flatten)]
        target: Target,
        /// The process
        #[arg(long, value_name = "PID")]
        pid: u32,
    },
    /// Kernel modules, like lsmod, or the libraries of a process
    #[command(after_help = "Examples:\n  vmc modules mem.elf\n  vmc modules mem.elf --pid 85\n  \
        vmc modules mem.elf --all-ways --format jsonl | jq 'select(.hidden_from != [])'\n\n\
        With --all-ways, HIDDEN FROM names the ways that should lead to a module and do not: module_list (what\n\
        lsmod goes by), kobjects (sysfs), address_tree, bug_list.")]
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
    #[command(after_help = "Examples:\n  vmc bt mem.elf\n  vmc bt mem.elf --pid 85\n  \
        vmc bt mem.elf --tid 113 --format json\n  \
        vmc bt mem.elf --kernel\n  vmc bt mem.elf --pid 0          the idle CPUs\n\n\
        A frame's ip is the return address in its caller; names are looked up one byte before it.\n\
        Frames of the kernel are marked [k], with the kernel's module where it is one's.")]
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
    #[command(after_help = "Examples:\n  vmc lsof mem.elf\n  vmc lsof mem.elf --pid 85\n  \
        vmc lsof mem.elf --format jsonl | jq 'select(.path | endswith(\" (deleted)\"))'\n\n\
        FLAGS are open's, in octal, as /proc/PID/fdinfo shows them; the letter behind a descriptor says\n\
        what it is open for: r, w or u for both.")]
    Lsof {
        #[command(flatten)]
        target: Target,
        /// Only the files of this process
        #[arg(long, value_name = "PID")]
        pid: Option<u32>,
    },
    /// Sockets of all network namespaces with their owners, or those of one process, like ss
    #[command(after_help = "Examples:\n  vmc sockets mem.elf\n  vmc sockets mem.elf --pid 85\n  \
        vmc sockets mem.elf --format jsonl | jq 'select(.state == \"LISTEN\")'\n\n\
        TCP, UDP and Unix sockets. NETNS is the namespace's number, as readlink /proc/PID/ns/net shows it.")]
    Sockets {
        #[command(flatten)]
        target: Target,
        /// Only the sockets that this process has open
        #[arg(long, value_name = "PID")]
        pid: Option<u32>,
    },
    /// Containers with their processes, namespaces and roots
    #[command(after_help = "Examples:\n  vmc containers mem.elf\n  \
        vmc containers mem.elf --format jsonl | jq '{id, hostname, root}'\n  \
        vmc ls mem.elf --pid PID /               a container's files, PID that of the table\n\n\
        A container is a set of processes with a control group that Docker, containerd, CRI-O, Podman, LXC or\n\
        systemd-nspawn names and namespaces of its own; or with a PID namespace of its own, which then is its id.")]
    Containers(Target),
    /// Network interfaces of all namespaces with their addresses
    #[command(after_help = "Example:\n  vmc interfaces mem.elf")]
    Interfaces(Target),
    /// A process' environment
    #[command(after_help = "Example:\n  vmc env mem.elf --pid 85")]
    Env {
        #[command(flatten)]
        target: Target,
        /// The process
        #[arg(long, value_name = "PID")]
        pid: u32,
    },
    /// A file's bytes out of the page cache, written as they are
    #[command(after_help = "Examples:\n  vmc cat mem.elf /etc/passwd\n  \
        vmc cat mem.elf --pid 85 /etc/hostname       in that process' root and mount namespace\n  \
        vmc cat mem.elf --pid 85 --fd 3 > found      what it has open, also deleted files and memfds\n  \
        vmc cat mem.elf --partial /usr/bin/ssh > ssh\n\n\
        A path is looked up as init sees it, or as the process of --pid does; a relative one from the directory\n\
        that the process stands in. Holes of a tmpfs read as zeros. Where bytes are not in memory (dropped from the\n\
        page cache, swapped out), nothing is written, stderr says which they are, and the exit status is 1.\n\
        Files of proc and sysfs have no contents in memory. On a terminal, control characters are escaped.")]
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
    #[command(after_help = "Examples:\n  vmc ls mem.elf /etc\n  vmc ls mem.elf -R /tmp\n  \
        vmc ls mem.elf --pid 85 /                    in that process' root and mount namespace\n  \
        vmc ls mem.elf -R / --format jsonl | jq 'select(.cached_bytes > 0) | .path'\n\n\
        Of tmpfs and ramfs every entry is in the dentry cache; of other file systems those that were used lately,\n\
        and stderr says that there may be more. CACHED is how many bytes of a file the page cache has.")]
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
    #[command(after_help = "Examples:\n  vmc mounts mem.elf\n  vmc mounts mem.elf --pid 85\n\n\
        Options that only a file system knows itself (size=, mode=) are not told.")]
    Mounts {
        #[command(flatten)]
        target: Target,
        /// As this process sees it; without it, as init does
        #[arg(long, value_name = "PID")]
        pid: Option<u32>,
    },
    /// The kernel's log, like dmesg
    #[command(after_help = "Examples:\n  vmc dmesg mem.elf\n  \
        vmc dmesg mem.elf --format jsonl | jq 'select(.level <= 3)'\n\n\
        A level is a number: 0 emergency, 1 alert, 2 critical, 3 error, 4 warning, 5 notice, 6 info, 7 debug.")]
    Dmesg(Target),
    /// The kernel's symbols, like nm; or those of one name; or what lies at an address
    #[command(
        after_help = "Examples:\n  vmc symbols mem.elf init_task\n  vmc symbols mem.elf 0xffffffff81000000"
    )]
    Symbols {
        #[command(flatten)]
        target: Target,
        /// A name, or an address that begins with 0x
        what: Option<String>,
    },
    /// The layout of a kernel type, like pahole
    #[command(after_help = "Example:\n  vmc types mem.elf task_struct")]
    Types {
        #[command(flatten)]
        target: Target,
        /// The structure or union
        name: String,
    },
    /// Where an address lies in physical memory, and by which page-table entries
    #[command(after_help = "Examples:\n  vmc translate mem.elf 0xffffffff81000000\n  \
        vmc translate mem.elf --pid 85 0x7ffd19bd9740")]
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
    #[command(after_help = "Examples:\n  vmc read mem.elf 0xffffffff81000000 64\n  \
        vmc read mem.elf --pid 85 0x400000 4096 --raw > page\n  \
        vmc read mem.elf --physical 0x100000 64         needs no operating system that is known")]
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
    #[command(after_help = "Examples:\n  vmc search mem.elf 'BEGIN RSA PRIVATE KEY' --context 40\n  \
        vmc search mem.elf --hex 'de ad ?? ef'\n  \
        vmc search mem.elf --regex '[a-z]+@example\\.org' --pid 85\n  \
        vmc search mem.elf --utf16 -i password --format jsonl\n\n\
        All memory is searched in the order of its physical addresses. A match in a page that several\n\
        processes map has a row for each; one that no process maps stands where the kernel has it, [k].\n\
        Pages that a process has not touched yet, or that were swapped out, are not its own.")]
    Search {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        what: SearchFor,
    },
    /// Save the guest as an ELF core that vmc, gdb, crash and drgn open
    #[command(after_help = "Examples:\n  vmc dump qmp:/run/vm.qmp mem.elf\n  \
        vmc dump mem.lime mem.elf             another format of image, as an ELF core\n  \
        gdb vmlinux mem.elf                   with KASLR: add-symbol-file vmlinux -o OFFSET (vmc info tells it)\n  \
        crash vmlinux mem.elf\n  drgn -c mem.elf -s vmlinux\n\n\
        All memory, the registers of all vCPUs and what the kernel says of itself (VMCOREINFO, which crash and drgn\n\
        want). A live guest stands still until all of it is copied; with --no-stop it runs, and the core is not of\n\
        one moment. OUT has its name only when it is complete, is readable by its owner alone, and takes no room for\n\
        pages of zeros. What cannot be read is zeros, and stderr says how much that is.")]
    Dump {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        out: SaveTo,
    },
    /// Where a live guest spends its time: the stacks of all vCPUs, many times a second
    #[command(after_help = "Examples:\n  vmc record kvm:4711 --duration 10 -o flame.svg\n  \
        vmc record kvm:4711 --pid 85 --per thread -o flame.svg\n  \
        vmc record gdb:localhost:1234 --duration 30 -o cpu.pb.gz && go tool pprof -top cpu.pb.gz\n  \
        vmc record kvm:4711 --kernel --duration 5 > kernel.folded\n\n\
        The guest stands only while registers and stacks are read; for how long is said on stderr.\n\
        Ctrl-C ends it and keeps what there is. Idle CPUs are left out (--idle shows them).")]
    Record {
        #[command(flatten)]
        target: LiveTarget,
        #[command(flatten)]
        options: RecordOptions,
    },
    /// Processes and threads of a live guest by CPU time, like top
    #[command(after_help = "Examples:\n  vmc top kvm:4711\n  \
        vmc top kvm:4711 --threads --interval 1\n  \
        vmc top qmp:/run/vm.sock --batch -n 3        three plain rounds\n\n\
        Keys: q quits, t toggles threads. %CPU is the share of one CPU, as seen in samples of the last round.")]
    Top {
        #[command(flatten)]
        target: LiveTarget,
        #[command(flatten)]
        options: TopOptions,
    },
}

impl Command {
    /// Is what it was given of use? What only several words together tell.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn check(&self) -> Result<(), String> {
        crate::live::Named::parse(self.target()).transpose()?;
        match self {
            Self::Search { what, .. } => crate::commands::Pattern::new(what).map(|_| ()),
            Self::Record { options: RecordOptions { output: Some(path), .. }, .. } => {
                crate::record::out::Form::of(path).map(|_| ())
            }
            Self::Symbols { what: Some(what), .. } if what.starts_with("0x") || what.starts_with("0X") => {
                address(what).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// Is it worth while to ask a running guest once before it is stopped? Not where most of the time goes into reading what
    /// may have changed.
    pub(crate) const fn is_rehearsed(&self) -> bool {
        !matches!(
            self,
            Self::Search { .. }
                | Self::Cat { .. }
                | Self::Ls { .. }
                | Self::Read { .. }
                | Self::Translate { .. }
                // A file that was written stays.
                | Self::Dump { .. }
        )
    }

    /// The target that it is to look at.
    pub(crate) fn target(&self) -> &str {
        match self {
            Self::Info(target)
            | Self::Registers(target)
            | Self::Dmesg(target)
            | Self::Interfaces(target)
            | Self::Containers(target)
            | Self::Ps { target, .. }
            | Self::Threads { target, .. }
            | Self::Maps { target, .. }
            | Self::Modules { target, .. }
            | Self::Bt { target, .. }
            | Self::Lsof { target, .. }
            | Self::Mounts { target, .. }
            | Self::Sockets { target, .. }
            | Self::Env { target, .. }
            | Self::Cat { target, .. }
            | Self::Ls { target, .. }
            | Self::Symbols { target, .. }
            | Self::Types { target, .. }
            | Self::Search { target, .. }
            | Self::Dump { target, .. }
            | Self::Translate { target, .. }
            | Self::Read { target, .. } => &target.target,
            Self::Record { target, .. } | Self::Top { target, .. } => &target.target,
        }
    }
}
