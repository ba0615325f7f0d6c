//! The kernel part of a thread's stack: where it begins, what describes the kernel's code, the walk, the names.

mod aarch64;
mod code;
mod module;
mod start;
mod walk;

pub(super) use code::KernelCode;
pub use code::ModuleSymbol;
pub(crate) use code::OrcCopy;
pub(super) use start::KernelPart;
