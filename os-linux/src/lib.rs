//! Linux guests, seen from outside, without a profile.
//!
//! (crate documentation follows)
#![no_std]

extern crate alloc;

mod btf;
mod cpus;
mod error;
mod facts;
mod fields;
mod find;
mod fs;
mod kallsyms;
mod kernel;
mod lazy;
mod lists;
mod mm;
mod modules;
mod task;
mod time;

pub use btf::Btf;
pub use error::LinuxError;
pub use facts::KernelFacts;
pub use find::VmcoreInfo;
pub use kallsyms::Kallsyms;
pub use kernel::Linux;
pub use mm::AddressSpaceOf;
pub use task::Task;
