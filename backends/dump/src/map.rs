//! The mapping of a file, and what happens when the file shrinks under it: the one place of this crate where `unsafe` stands.
#![allow(unsafe_code, reason = "mapping a file and handling a signal are unsafe by nature; see SAFETY below")]

use std::fs::File;
use std::io;
use std::sync::OnceLock;

use memmap2::Mmap;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// What is said when a mapped file has shrunk.
static LOST: OnceLock<&'static str> = OnceLock::new();

/// Has the process say `line` on stderr and end with status 1 when an image's file shrinks, or its disk fails, while it is
/// read; without it the system ends the process by SIGBUS and a reader is left to guess.
///
/// For programs: it takes the process' handler of SIGBUS, and the first line that is given stays.
///
/// # Errors
/// What the system says where it takes no handler.
pub fn say_when_lost(line: &'static str) -> io::Result<()> {
    LOST.get_or_init(|| line);
    let action = SigAction::new(SigHandler::Handler(lost), SaFlags::SA_RESETHAND, SigSet::empty());
    // SAFETY: the handler calls nothing but `write` and `_exit`, which a handler may call, and reads a cell that was set before
    // and never changes.
    unsafe { sigaction(Signal::SIGBUS, &action) }?;
    Ok(())
}

extern "C" fn lost(_: libc::c_int) {
    let line = LOST.get().copied().unwrap_or_default();
    // SAFETY: the pointer and the length are those of a string that lives as long as the process; `_exit` does not return, so
    // the access that failed is not tried again.
    unsafe {
        libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len());
        libc::_exit(1)
    }
}

/// Maps all of `file`, read-only.
pub(crate) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is private and read-only, and its bytes are only ever read as plain bytes: whatever value they
    // have is valid. Another process that writes to the file changes numbers that are bounds-checked after each read
    // and never kept as references to anything but bytes. A file that shrinks under the mapping raises SIGBUS, which ends
    // the process, by `lost` or by itself, without touching other memory.
    unsafe { Mmap::map(file) }
}
