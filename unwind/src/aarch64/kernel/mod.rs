//! Stacks of the Linux kernel, by its chain of frame records.
//!
//! Source: `arch/arm64/kernel/stacktrace.c`, `arch/arm64/kernel/entry.S` (`kernel_entry`), `arch/arm64/include/asm/ptrace.h`
//! (`struct pt_regs`), `arch/arm64/include/asm/stacktrace/frame.h`. The kernel is built so that every function that calls
//! another has x29 point at a record of its caller's x29 and of its return address. Ways into the kernel leave one inside of
//! the registers that they store. A function that calls nothing makes no record: where such a one was interrupted, its code
//! tells that the return address is in x30.

mod saved;
mod step;
mod walk;

pub use saved::SavedRegisters;
pub use walk::{KernelCode, KernelUnwinder, KernelWalk};
