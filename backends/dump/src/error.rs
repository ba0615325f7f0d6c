//! Why an image could not be opened.

use std::io;
use std::path::PathBuf;

/// Why an image could not be opened. Each says what was looked for and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file could not be opened or mapped.
    #[error("{path}: cannot be opened: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is a directory, a pipe or a device.
    #[error("{path}: is {found}, not a memory image", path = path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// There is nothing in it.
    #[error("{path}: is empty, not a memory image", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It is too small to be the memory of a machine, and no known format.
    #[error("{path}: {len} bytes of no known format are too few for a memory image", path = path.display())]
    TooSmall {
        /// The file.
        path: PathBuf,
        /// Its size.
        len: u64,
    },
    /// Its beginning is text.
    #[error("{path}: is a text file, not a memory image", path = path.display())]
    Text {
        /// The file.
        path: PathBuf,
    },
    /// A format that is known, but not read.
    #[error("{path}: is {found}, which is not read; {advice}", path = path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What to do instead.
        advice: &'static str,
    },
    /// An ELF core whose headers contradict themselves.
    #[error("{path}: is an ELF core that cannot be understood: {reason}", path = path.display())]
    BadCore {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// A LiME image whose first header is none.
    #[error("{path}: begins like a LiME image, but its first range is none that a machine has (version 1, 52-bit addresses)", path = path.display())]
    BadRange {
        /// The file.
        path: PathBuf,
    },
    /// A Windows crash dump whose headers are cut off or contradict themselves.
    #[error("{path}: is a Windows crash dump that cannot be understood: {reason}", path = path.display())]
    BadCrash {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Where RAM begins was given for an image that says it itself.
    #[error("{path}: is no raw image but {format}: it says itself where its memory lies (--ram-base)", path = path.display())]
    BaseNotRaw {
        /// The file.
        path: PathBuf,
        /// What it is.
        format: &'static str,
    },
    /// An ELF core of a machine that is not known here.
    #[error("{path}: is an ELF core of machine type {machine}; x86_64 (62) and aarch64 (183) are known", path = path.display())]
    Machine {
        /// The file.
        path: PathBuf,
        /// `e_machine`.
        machine: u16,
    },
    /// The compressed data is damaged or cut short.
    #[error("{path}: cannot be unpacked after {done} bytes: {reason}", path = path.display())]
    Unpack {
        /// The file.
        path: PathBuf,
        /// How many bytes came out before.
        done: u64,
        /// What the decompressor or the system says.
        reason: String,
    },
    /// It unpacks to more than is allowed.
    #[error(
        "{path}: unpacks to more than {limit} bytes, which is more than a machine's image of its size has; \
        --unpacked-limit raises that", path = path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// What it unpacks to does not fit on the disk.
    #[error(
        "{path}: cannot be unpacked: after {done} bytes only {free} are left free on the disk; \
        --cache-dir names another", path = path.display()
    )]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// How many bytes came out before, holes among them.
        done: u64,
        /// How many bytes are free.
        free: u64,
    },
}
