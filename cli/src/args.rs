//! The words of the command line.

mod command;
mod common;
mod dump;
mod help;
mod live;
mod properties;
mod record;
mod search;
mod values;

pub(crate) use command::Command;
pub(crate) use common::{Color, Common, Format, Os};
pub(crate) use dump::SaveTo;
pub(crate) use live::Live;
pub(crate) use record::{RecordOptions, TopOptions};
pub(crate) use search::SearchFor;
pub(crate) use values::address;

use clap::{Args as ClapArgs, Parser};

/// See into virtual machines from outside: what runs in them and where every thread stands.
#[derive(Debug, Parser)]
#[command(
    name = "vmc",
    version = concat!(env!("CARGO_PKG_VERSION"), " (JSON schema 1)"),
    max_term_width = 100,
    after_help = "TARGET is a memory image: a raw image, an ELF core (dump-guest-memory, virsh dump --memory-only),\n\
        a LiME or AVML image, a crash dump of Windows (full, bitmap, triage); each also compressed by gzip, xz or zstd.\n\
        Its format is found from its content, and so is the system: Linux, or else Windows (x64), for which --symbols\n\
        has to give its kernel's PDB or volatility3 ISF, or --download to fetch that.\n\
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
        vmc ps kvm:4711 --no-stop        the same while it runs\n  \
        vmc ps MEMORY.DMP --download     a Windows guest; its kernel's PDB comes from Microsoft\n\n\
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
