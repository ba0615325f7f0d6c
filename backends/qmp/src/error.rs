//! Why a guest could not be had by QMP. Each is one line: what was looked for, what was found, what to do.

use std::io;

use vmc::LiveError;

use crate::hmp::MonitorError;

/// Why a guest could not be attached to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is none.
    #[error("{text:?} is no address of a QMP socket: HOST:PORT, [IPv6]:PORT, or a path with a / in it")]
    Address {
        /// What was given.
        text: String,
    },
    /// Nothing listens there, or it cannot be reached.
    #[error("no QMP socket at {peer}: {source} (QEMU has one with `-qmp unix:PATH,server=on,wait=off`)")]
    Connect {
        /// Its address.
        peer: String,
        /// What the system says.
        source: io::Error,
    },
    /// Nobody says anything.
    #[error(
        "{peer} is connected to, but no greeting came within {milliseconds} ms: QEMU talks to one client at a time, so \
        another one (libvirt, a script) may hold this socket, or QEMU hangs; give it a second `-qmp` for vmc"
    )]
    Silent {
        /// Its address.
        peer: String,
        /// How long was waited.
        milliseconds: u64,
    },
    /// What listens there is something else.
    #[error("what listens at {peer} does not speak QMP: it sent {found}")]
    NotQmp {
        /// Its address.
        peer: String,
        /// What came.
        found: String,
    },
    /// It speaks QMP, but there is no machine to look at: a storage daemon.
    #[error("{peer} speaks QMP but has no machine: {what}")]
    NoMachine {
        /// Its address.
        peer: String,
        /// What it said.
        what: String,
    },
    /// The machine is still on its way here.
    #[error(
        "the machine at {peer} is on its way here (inmigrate): its memory is not there yet; try again when it has arrived"
    )]
    Incoming {
        /// Its address.
        peer: String,
    },
    /// A machine that is not known here.
    #[error("the machine at {peer} is a {found}; x86_64 and aarch64 are known")]
    Architecture {
        /// Its address.
        peer: String,
        /// What it says it is.
        found: String,
    },
    /// Talking to it failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Its memory could not be found.
    #[error("the physical layout of the machine at {peer} is unknown: {source}")]
    Layout {
        /// Its address.
        peer: String,
        /// Why.
        source: MonitorError,
    },
}

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The connection has ended, or is silent.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// QEMU does not do it.
    #[error("QEMU refuses `{command}`: {description}")]
    Refused {
        /// The command.
        command: &'static str,
        /// QEMU's class of the error: `CommandNotFound`, `GenericError`.
        class: String,
        /// QEMU's words.
        description: String,
    },
    /// The answer is of another shape.
    #[error("the answer of {peer} to `{command}` is not understood: {what}")]
    Answer {
        /// The peer's address.
        peer: String,
        /// The command.
        command: &'static str,
        /// What is wrong with it.
        what: String,
    },
}

/// Why no dump was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// QEMU was asked for it in vain.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file is handed over a Unix socket alone.
    #[error("QEMU at {peer} cannot be handed a file: only a connection by a Unix socket takes one")]
    NoHandOver {
        /// Its address.
        peer: String,
    },
    /// QEMU gave up.
    #[error("QEMU did not finish the dump after {completed} of {total} bytes")]
    Failed {
        /// How many bytes were written.
        completed: u64,
        /// How many there are.
        total: u64,
    },
    /// Nothing more is written.
    #[error("QEMU has written nothing more of the dump for {seconds} s, after {completed} of {total} bytes")]
    Stuck {
        /// How long was waited.
        seconds: u64,
        /// How many bytes were written.
        completed: u64,
        /// How many there are.
        total: u64,
    },
}
