//! Windows guests (x64), seen from outside.
//!
//! # What it gives
//! [`Windows`] finds the kernel (ntoskrnl) in physical memory, or in the ranges of a triage dump, and reads it:
//! * [`facts`](Windows::facts): version, build, processors, clock, where the kernel lies and which PDB is its;
//! * [`processes`](Windows::processes), by their list from both ends and by the kernel's table of ids, so that exited and unlinked ones
//!   are there too, as [rows](Process::row) with parents, times, sessions, command lines and paths;
//! * a process' [threads](Process::threads) with states and start addresses, its [handles](Process::handles) with types and names, its
//!   [modules](Process::modules) (loader lists of 64 and 32 bits, and images that are mapped and on no list), its
//!   [ranges](Process::vads) (VADs);
//! * its [memory](Process::memory): also pages that the processor would fault on and that are in memory (transition, prototype,
//!   demand-zero, tables that are in transition themselves); of all others the exact reason ([`vmc::Fault`]): which page of which
//!   paging file, compressed, in its file, never committed;
//! * [`stacks`](Windows::stacks): every thread's stack, running or not, by the images' unwind tables: its [whole](Stacks::stack), the
//!   [kernel part](Stacks::kernel_stack) or the [user part](Stacks::user_stack);
//! * kernel [`modules`](Windows::modules), [`symbols`](Windows::symbols), [`types`](Windows::types); [`pe`] reads images in memory.
//!
//! # What it needs
//! Memory ([`vmc::PhysMemory`]) of an x64 guest, and [files](SymbolFiles) with the types and symbols of its kernel: Windows carries
//! none itself. The caller brings them (`vmc-types` reads PDBs and ISFs); no file is opened here (`no_std`). Without one the kernel is
//! found and [named](WindowsError::NoTypes), and [what it exports and public headers fix](SymbolFiles::derived_is_enough) tells facts and
//! modules. Registers ([`vmc::Vcpus`]) make finding it certain, and are needed for
//! the stacks of threads that run; [`Hints`] are what a crash dump's header tells.
//!
//! # What it is not for
//! ARM64 and 32-bit kernels are not read. Contents of paging files and of the store of compressed pages are not in memory, or packed,
//! and are not read. Sockets, registry, tokens and the kernel's log have no place here yet. 32-bit code of WOW64 processes is not
//! unwound: it has no tables.
//!
//! # What it rests on
//! A real triage dump of build 19041, and images of builds 17763, 19041 and 20348 that were built from Microsoft's type data and judged
//! by volatility3 and MemProcFS. No complete image of a running Windows was at hand. The project's README says of each claim what
//! stands behind it.
//!
//! # Hostile input
//! Everything that is read was written by the guest. Walks are bounded ([`vmc::Limits`]) and find circles, lengths are
//! checked before they are believed, and a row that could be read only in part says what is missing. A page table root is believed only
//! when it translates. The name of a PDB is the guest's word: who makes a path of it has to see what is in it.
//!
//! # Example
//! ```no_run
//! use std::sync::Arc;
//!
//! use vmc::Limits;
//! use vmc::symbols::SymbolTable;
//! use vmc_dump::Image;
//! use vmc_types::IsfTypes;
//! use vmc_windows::{CodeView, Fits, GivenKernel, Hints, KernelIdentity, SymbolFiles, Windows};
//!
//! /// The one file that is at hand.
//! struct OneFile(Vec<u8>);
//!
//! impl SymbolFiles for OneFile {
//!     fn kernel(&mut self, kernel: &KernelIdentity, fits: &Fits<'_>) -> Option<GivenKernel> {
//!         let types = IsfTypes::parse(&self.0, &Limits::default()).ok()?;
//!         let symbols = types.symbol_table();
//!         // By what its header says; where that is not in memory, by where its variables lie.
//!         let is_its = match (&kernel.code_view, types.pdb()) {
//!             (Some(image), Some(pdb)) => image.guid == pdb.guid,
//!             _ => fits(&symbols),
//!         };
//!         is_its.then(|| GivenKernel { source: "isf", types: Box::new(types), symbols, code_view: None })
//!     }
//!
//!     fn image(&mut self, _: &CodeView) -> Option<Arc<SymbolTable>> {
//!         None
//!     }
//! }
//!
//! let image = Image::open("mem.elf")?;
//! let mut files = OneFile(std::fs::read("ntkrnlmp.json")?);
//! let windows = Windows::open(&image, &image, &Hints::default(), Limits::default(), Some(&mut files))?;
//! let processes: Vec<_> = windows.processes().filter_map(Result::ok).collect();
//! let stacks = windows.stacks(&processes, Some(&mut files));
//! for process in &processes {
//!     let row = process.row();
//!     println!("{} {} {:?}", row.pid, row.name, row.command_line);
//!     for thread in process.threads() {
//!         println!("{} frames", stacks.stack(&thread?).frames.len());
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod bits;
mod derived;
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
