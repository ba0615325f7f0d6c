//! DWARF call frame information: one image's table, and the rows that it gives for addresses.
//!
//! Everything here is in link-time addresses: one [`UnwindTable`] serves all processes that map the file.

mod compact;
mod quick;
mod row;
mod search;
mod section;
mod table;

pub(crate) use compact::{Unfinished, words};
pub use row::{CfaRule, ExpressionAt, RegisterRule, Row};
pub use search::eh_frame_address;
pub use section::{AddressSize, Section, Sections};
pub(crate) use table::Described;
pub use table::{RowError, Scratch, UnwindTable};
