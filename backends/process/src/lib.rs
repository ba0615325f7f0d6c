//! Guest memory in another process of this host: layout, reads and a page cache for live virtual machines.

pub mod orphan;
