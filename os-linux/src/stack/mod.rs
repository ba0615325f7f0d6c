//! Stacks of threads: where they begin, which images their code lies in, and the walk.

mod kernel;
mod modules;
mod perf_map;
mod registers;
mod walk;

pub use modules::{DebugFiles, Stacks};
