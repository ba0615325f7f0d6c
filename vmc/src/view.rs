//! The OS-neutral view of a guest: the rows that OS crates fill in and that are printed.
//!
//! A row holds what could be read. What could not is absent, and [`RowErrors`] says why.

mod container;
mod errors;
mod mapping;
mod module;
mod process;
mod stack;
mod system;
mod ways;

pub use container::{Container, ContainerRoot};
pub use errors::RowErrors;
pub use mapping::{Mapping, Permissions};
pub use module::{BuildId, DebugLink, Module, ModuleDetails, ModuleSection};
pub use process::{Credentials, Process, ProcessDetails, Thread};
pub use stack::{FoundBy, Frame, FrameModule, FrameSymbol, Space, Stack, Stop};
pub use system::{DirectoryEntry, FilePart, Interface, LogRecord, Mount, OpenFile, PartKind, Socket};
pub use ways::{Way, Ways};
