//! x86_64: registers and page tables.

mod paging;
mod registers;

pub use paging::{Levels, X86PageTables};
pub use registers::Registers;
