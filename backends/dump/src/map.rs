//! The mapping of a file: the one place of this crate where `unsafe` stands.
#![allow(unsafe_code, reason = "mapping a file is unsafe by nature; see SAFETY below")]

use std::fs::File;
use std::io;

use memmap2::Mmap;

/// Maps all of `file`, read-only.
pub(crate) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is private and read-only, and its bytes are only ever read as plain bytes: whatever value they
    // have is valid. Another process that writes to the file changes numbers that are bounds-checked after each read
    // and never kept as references to anything but bytes. A file that shrinks under the mapping raises SIGBUS, which ends
    // the process without touching other memory.
    unsafe { Mmap::map(file) }
}
