//! Live QEMU guests through the machine protocol (QMP).
//!
//! # What it gives
//! [`Qmp`] attaches to a QEMU of this host or of another and is a [`vmc::LiveGuest`]: memory, registers, stop and resume.
//! * The physical layout is QEMU's own (`info mtree -f`, `gpa2hva`): RAM below and above the PCI hole, plugged-in memory; no
//!   firmware and no device.
//! * Memory is read in QEMU's process where it is on this host and may be read; else through the monitor: out of parts of a dump
//!   where the socket is a Unix one and the guest stands still, or word by word, slowly.
//! * Registers are what `info registers -a` tells of x86_64 and aarch64. The GS base that x86_64 kernels keep while a program runs
//!   is taken from the notes of a dump of one page, if the guest stands still. What QEMU tells nowhere is missing: LSTAR, and of
//!   aarch64 all system registers (page table roots, SP_EL0); `vmc-gdb` has those.
//! * A guest that was stopped runs again when [`Qmp`] is dropped, and also when the process is killed; one that somebody else had
//!   paused stays paused, and so does one that QEMU no longer calls paused in the end: it may have moved to another host meanwhile.
//! * [`hmp`]: the human monitor's texts, for whoever reaches a monitor by other ways.
//!
//! # What it needs
//! A QMP socket that nobody else talks on (`-qmp unix:PATH,server=on,wait=off`); QEMU 2.12 or later. To read memory in QEMU's
//! process: what ptrace needs (the same user where Yama allows it, or `CAP_SYS_PTRACE`).
//!
//! # Hostile input
//! The peer is not trusted: lines, counts and waits are bounded, and what it says is checked before it is believed.
//!
//! # Example
//! ```no_run
//! use vmc::{LiveGuest, Vcpus};
//! use vmc_qmp::{ConnectOptions, Qmp};
//!
//! let guest = Qmp::connect("/run/vm/qmp.sock", &ConnectOptions::default())?;
//! guest.stop()?;
//! for index in 0..guest.count() {
//!     println!("{:x?}", guest.registers(index)?);
//! }
//! guest.resume()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod connection;
mod dump;
mod error;
mod guest;
pub mod hmp;
mod link;
mod memory;
mod message;
mod note;
mod part;
mod stream;

pub use error::{CommandError, ConnectError, DumpError};
pub use guest::{ConnectOptions, Qmp};
