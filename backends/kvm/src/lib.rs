//! Live KVM guests of any VMM: registers and memory from outside, without an agent.

mod arch;
mod error;
mod find;
mod machine;
mod options;
mod registers;
mod tracer;
mod wire;

pub use error::AttachError;
pub use machine::Machine;
pub use options::{AttachOptions, Step, Watcher};
pub use registers::SystemRegisters;
