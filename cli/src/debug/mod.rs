//! Debug files that the user gives by `--symbols`: they refine the names of user frames, and tell inlined functions and lines.
//!
//! They are found by build-id, so that no other program's names are taken for this one's. They are no more trusted than the
//! guest: parsing is bounded by their size, and a file that makes no sense is passed over.

mod find;
#[cfg(feature = "lines")]
mod lines;
mod refine;

pub(crate) use find::DebugFiles;
pub(crate) use refine::{Place, Refined, Source, refine};
