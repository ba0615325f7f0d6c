//! What differs on x86_64: its registers, the compact form of its rules and how a rule is applied.

pub(crate) mod registers;
pub(crate) mod rule;
pub(crate) mod step;

pub use registers::Registers;
