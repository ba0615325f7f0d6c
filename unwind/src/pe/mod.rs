//! Stacks of code in PE images, by the tables that Windows itself unwinds with (`.pdata` and `.xdata`).
//!
//! Source: Microsoft's documents "x64 exception handling" and "ARM64 exception handling" (the ABI's unwind data), and the PE
//! format's exception directory.

pub mod arm64;
pub mod functions;
pub mod x64;

pub use functions::{FunctionEntry, Functions, PeModule, PeModules};
