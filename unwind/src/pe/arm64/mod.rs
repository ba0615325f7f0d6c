//! ARM64: unwind records, packed and in full, decoded to what prologs and epilogs do.
//!
//! Source: "ARM64 exception handling" (`.pdata` records, packed unwind data, `.xdata` records, unwind codes).

mod codes;
mod packed;
mod record;

pub use codes::{Code, CodeError, Codes, Operation, Register};
pub use packed::Packed;
pub use record::{Entry, Epilog, Record, RecordError, UnwindData};
