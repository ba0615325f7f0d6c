//! Samples: the stacks of the threads that are on vCPUs, taken many times a second of a guest that stands for as little as can be.
//!
//! What has to be read while the guest stands is read by [`hold`](super::Stacks::hold), a byte a page: memory that keeps what was read
//! has those pages then. [`trace`](super::Stacks::trace) walks over them afterwards, while the guest runs, and cuts a walk where it
//! came to memory that was not held; [`name`](super::Stacks::name) is asked once for each new address.
//!
//! Translations are kept from sample to sample; those that a sample went by are held against the page tables when the guest
//! runs again ([`Held::moved`]).

mod hold;
mod identity;
mod name;
mod trace;

pub use hold::Held;
pub use identity::Mark;
pub use trace::{Point, Trace};
