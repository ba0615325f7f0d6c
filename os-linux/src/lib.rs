//! Linux guests, seen from outside, without a profile.
//!
//! # What it gives
//! [`Linux`] finds the kernel in physical memory and reads it:
//! * [`facts`](Linux::facts): release, host name, boot time, where the kernel lies;
//! * [`processes`](Linux::processes) and their [`threads`](Task::threads), as [rows](Task::process_row) with credentials,
//!   states, command lines and the paths of their programs;
//! * a process' [`memory`](Task::memory): its bytes, also those that its page tables lack and the page cache has, its
//!   [mappings](AddressSpaceOf::mapping_rows) and its [images](AddressSpaceOf::module_rows);
//! * [`stacks`](Linux::stacks): every thread's stack, running or not, with names: its [whole](Stacks::stack), the
//!   [kernel part](Stacks::kernel_stack) or the [user part](Stacks::user_stack); with the help of
//!   [debug files](Linux::stacks_with), if the caller has some;
//! * a process' [open files](Task::open_files), its [mounts](Task::mounts) and its
//!   [environment](AddressSpaceOf::environment); the kernel's [`log`](Linux::log);
//! * [`sockets`](Linux::sockets) with their owners and [`interfaces`](Linux::interfaces) of all network namespaces;
//! * whose a physical page is: the [processes that map it](Linux::page_owners) and where [the kernel](Linux::kernel_address)
//!   has it;
//! * kernel [`modules`](Linux::modules), [`symbols`](Linux::symbols), [`types`](Linux::types).
//!
//! # What it needs
//! Memory ([`vmc::PhysMemory`]) of an x86_64 or aarch64 guest whose kernel tells its types (BTF): what distributions build. Symbols
//! are its own (kallsyms), found by VMCOREINFO or by their content; on x86_64 VMCOREINFO itself may be missing. Registers
//! ([`vmc::Vcpus`]) only for threads that are on a CPU. No symbol file, no profile, no configuration; no allocator tricks, no file,
//! no process (`no_std`). For kernels that tell less, the caller may bring [files](KernelFiles): their symbols, their types.
//!
//! # What it is not for
//! It opens no file and attaches to no machine: backends (`vmc-dump`) do. aarch64 kernels without VMCOREINFO are not found.
//!
//! # Why it is fast
//! The kernel is found through the page tables of a vCPU, not by searching memory; kallsyms, BTF and the kernel's unwind
//! tables are read where they lie; members are looked up once; nothing is unpacked that no answer needs.
//!
//! # Hostile input
//! Everything that is read was written by the guest. Walks are bounded ([`vmc::Limits`]) and find circles, lengths are
//! checked before they are believed, and a row that could be read only in part says what is missing.
//!
//! # Example
//! ```
//! use vmc_dump::Image;
//! use vmc_linux::Linux;
//!
//! let image = Image::open("../guests/sample/mem.elf.zst")?;
//! let linux = Linux::open(&image, &image)?;
//! let names: Vec<String> = linux.processes()?.filter_map(|task| task.ok()?.name().ok()).collect();
//! assert_eq!(names[0], "init");
//!
//! // The stack of the first thread of the process `deep`.
//! let deep = linux.processes()?.filter_map(Result::ok).find(|task| task.name().is_ok_and(|name| name == "deep"));
//! let deep = deep.expect("the sample runs it");
//! let stacks = linux.stacks(&[deep]);
//! let stack = stacks.user_stack(&deep, false, &mut vmc_unwind::Cache::new());
//! let names: Vec<&str> = stack.frames.iter().filter_map(|frame| Some(frame.symbol.as_ref()?.name.as_str())).collect();
//! assert!(names.contains(&"f40") && names.contains(&"main"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]

extern crate alloc;

mod containers;
mod cpus;
mod data;
mod elf;
mod error;
mod facts;
mod fields;
mod files;
mod find;
mod fs;
mod groups;
mod identity;
mod image;
mod kallsyms;
mod kernel;
mod known;
mod lazy;
mod lists;
mod log;
mod mm;
mod module_details;
mod module_types;
mod modules;
mod net;
mod open;
mod stack;
mod survey;
mod symbols;
mod task;
mod time;
mod trees;
mod types;

pub use error::LinuxError;
pub use facts::KernelFacts;
pub use files::{Checks, Fits, GivenSymbols, GivenTypes, KernelFiles};
pub use find::{VmcoreInfo, ram_base};
pub use fs::{FileContents, Listing, mode_text};
pub use identity::KernelIdentity;
pub use kallsyms::Kallsyms;
pub use kernel::Linux;
pub use mm::{AddressSpaceOf, PageOwners};
pub use stack::{DebugFiles, Held, Mark, ModuleSymbol, Point, Stacks, Trace};
pub use survey::{Survey, Surveyed};
pub use symbols::KernelSymbols;
pub use task::Task;
pub use types::KernelTypes;
