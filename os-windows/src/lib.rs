//! Windows guests, seen from outside.
//!
//! # What it gives
//! [`Windows`] finds the kernel (ntoskrnl) in physical memory, or in the ranges of a triage dump, and reads it.
//!
//! # What it needs
//! Memory ([`vmc::PhysMemory`]) of an x64 guest, and [files](SymbolFiles) with the types and symbols of its kernel: Windows carries
//! none itself. The caller brings them; no file is opened here (`no_std`).
//!
//! # Hostile input
//! Everything that is read was written by the guest. Walks are bounded ([`vmc::Limits`]) and find circles, lengths are
//! checked before they are believed, and a row that could be read only in part says what is missing.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod bits;
mod error;
mod facts;
mod fields;
mod files;
mod find;
mod handle;
mod identity;
mod kernel_memory;
mod kernel_modules;
mod lists;
mod memory;
pub mod pe;
mod process;
mod rows;
mod stack;
mod text;
mod thread;
mod types;
mod vad;
mod windows;

pub use error::WindowsError;
pub use facts::WindowsFacts;
pub use files::{Fits, GivenKernel, SymbolFiles};
pub use identity::{CodeView, Hints, KernelIdentity, LoadedModule};
pub use kernel_memory::{KernelMemory, Managed};
pub use memory::{Page, ProcessMemory};
pub use process::Process;
pub use rows::{HandleRow, ModuleRow, ProcessRow, ThreadRow, VadKind, VadRow};
pub use stack::Stacks;
pub use thread::Thread;
pub use types::KernelTypes;
pub use vad::{Vads, vads};
pub use windows::Windows;
