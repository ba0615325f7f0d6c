//! Debug files that the user gives by `--symbols`: they refine the names of user frames, tell inlined functions and lines, and
//! help to unwind what brings no unwind information itself.
//!
//! They are found by build-id or by the name and checksum in `.gnu_debuglink`, so that no other program's names are taken for
//! this one's. They are no more trusted than the
//! guest: parsing is bounded by their size, and a file that makes no sense is passed over.

mod find;
mod frames;
mod guest;
mod kernel;
#[cfg(feature = "lines")]
mod lines;
mod link;
mod refine;
mod scan;
mod windows;

pub(crate) use find::DebugFiles;
pub(crate) use frames::UnwindFiles;
pub(crate) use guest::GuestFiles;
pub(crate) use kernel::KernelFiles;
pub(crate) use refine::{Place, Refined, Source, refine};
pub(crate) use windows::{WindowsFiles, check_url};
