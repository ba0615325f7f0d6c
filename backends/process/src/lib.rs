//! Guest memory in another process of this host: layout, reads and a page cache for live virtual machines.
//!
//! # What it gives
//! [`Layout`] says which addresses of a virtual machine monitor's process hold which guest-physical memory;
//! [`ProcessMemory`] reads the guest's memory by it, as [`vmc::PhysMemory`].
//!
//! # What it needs
//! Linux, and the right to read the process' memory: what ptrace needs (the same user where Yama allows it, or `CAP_SYS_PTRACE`).
//!
//! # Hostile input
//! The process is no more trusted than its guest: what it says in its files under `/proc` is read up to a bound, and its memory
//! is copied, never referred to, as it may change or vanish at any moment.

mod cache;
mod error;
pub mod guardian;
mod layout;
mod mapped;
mod maps;
mod memory;
pub mod orphan;
mod parse;
mod proc;
mod rules;
mod segments;
mod slots;
mod verify;

pub use error::{LayoutError, ProcessError};
pub use layout::{Layout, Piece};
pub use memory::ProcessMemory;
pub use rules::{Rules, RulesError, vmm_rules};
pub use slots::{Memslot, SlotKind, SlotsError, kernel_memslots, memslots};
pub use verify::{ChooseError, Verified, VerifyError, choose, verify, verify_with};
