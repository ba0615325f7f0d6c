//! ORC: the unwind tables that the Linux kernel carries for its own x86_64 code, and walks by them.
//!
//! Source: `arch/x86/include/asm/orc_types.h`, `arch/x86/kernel/unwind_orc.c`. Two arrays lie side by side: where each rule
//! begins to hold, as a distance from the array's own slot, and the rule, of six bytes. A rule says where the caller's stack
//! pointer and rbp are to be found, or that an interrupted program's registers lie on the stack.

mod entry;
mod layout;
mod saved;
mod step;
mod table;
#[cfg(test)]
mod tests;
mod walk;

pub use entry::{OrcEntry, OrcKind, OrcNumbering, OrcRegister};
pub use layout::{Bits, OrcLayout};
pub use saved::SavedRegisters;
pub use table::OrcTable;
pub use walk::{KernelUnwinder, KernelWalk, OrcTables};
