//! aarch64: registers and page tables.

mod descriptor;
mod paging;
mod registers;

pub use paging::{Aarch64PageTables, Granule, Half};
pub use registers::Registers;
