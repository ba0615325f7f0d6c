//! aarch64: its registers, signed return addresses, the compact form of its rules, its code and its signal frames.
//!
//! What differs from x86: a call leaves the return address in x30 (the link register), and a function that calls nothing may
//! never store it; a frame may take nothing off the stack, so that its CFA is its stack pointer; return addresses may be
//! signed (pointer authentication); programs without unwind tables mostly chain frame records (x29).

mod bare;
mod code;
mod forward;
pub mod kernel;
mod reach;
pub(crate) mod registers;
pub(crate) mod rule;
mod signal;
mod signature;
mod step;

pub use registers::{Registers, runs_32_bit_code};
pub use signature::Signature;
