//! What differs on i386, the 32-bit programs of an x86_64 kernel among it: its registers, its words of four bytes, and signal
//! frames that nothing describes.
//!
//! Source: System V ABI, Intel386 supplement. Rules are evaluated in full at each step: few programs are 32-bit, and the
//! [`Cache`](crate::Cache) keeps what x86_64 has.

mod registers;
mod signal;
mod walk;

pub use registers::Registers;
pub use walk::Walk;
