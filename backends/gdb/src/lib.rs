//! Live guests through a GDB remote stub.
//!
//! # What it gives
//! [`Gdb`] attaches to a stub (QEMU's `-gdb` or `-s`, and others) and is a [`vmc::LiveGuest`]: physical memory by packets,
//! registers by name, stop and resume, and QEMU's monitor ([`vmc_qmp::hmp::Monitor`]) behind it.
//!
//! # What it needs
//! A stub that reads physical addresses (QEMU's does, `Qqemu.PhyMemMode`), or one of which the user says that its addresses are
//! physical; and where the guest has memory: from QEMU's monitor, the stub's memory map, or the user.
//!
//! # What is in its way
//! A stub stops the guest as soon as a client comes, serves one client at a time, and takes any byte as a wish to stop: a guest that
//! runs cannot be read through it. Where the guest's memory lies in a process of this host that may be read, it is read there, and
//! the guest runs on right after the first questions; else it stands. When the client goes the guest stays stopped unless it is told to go on; `D` tells it, also
//! where it had been paused before. So the guest is told to go on only if it ran.
//!
//! # Hostile input
//! The stub is no more trusted than its guest. Packets, descriptions, lists and texts are bounded, each wait ends, and what does not
//! look as it should is one line that says so.
//!
//! # Example
//! ```no_run
//! use vmc::{LiveGuest, PhysAddr, PhysMemory, Vcpus};
//! use vmc_gdb::{ConnectOptions, Gdb};
//!
//! let gdb = Gdb::connect("localhost:1234", &ConnectOptions::default())?;
//! let mut page = [0; 4096];
//! gdb.read(PhysAddr::new(0x1000), &mut page)?;
//! println!("{:?}", gdb.registers(0)?);
//! gdb.detach()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod description;
mod error;
mod guard;
mod guest;
mod handshake;
mod link;
mod local;
mod memory;
mod memory_map;
mod monitor;
mod options;
mod packet;
mod peek;
mod registers;
mod state;
mod xfer;

pub use error::{ConnectError, LinkError};
pub use guest::Gdb;
pub use options::{ConnectOptions, Leave, Step};
