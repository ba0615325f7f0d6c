//! What differs on x86_64: its registers, the compact form of its rules and how a rule is applied.

pub(crate) mod bare;
mod called;
mod code;
mod forward;
mod frame_pointer;
mod reach;
pub(crate) mod registers;
pub(crate) mod rule;
mod signal;
pub(crate) mod step;

pub(crate) use forward::to_return;
pub use registers::Registers;
pub(crate) use registers::{RIP, RSP};
