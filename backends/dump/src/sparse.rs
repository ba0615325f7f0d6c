//! A file in which zeros are holes, of bounded size, that leaves others room on the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What is written at once.
pub(crate) const BLOCK: usize = 1 << 18;
/// What is looked at for zeros.
const PIECE: usize = 1 << 12;
const ZEROS: [u8; PIECE] = [0; PIECE];
/// How often the disk is asked for its room, in bytes that were written.
const ASK_EVERY: u64 = 64 << 20;
/// What is left free on the disk, at most; on a small one a sixteenth of it.
const RESERVE: u64 = 256 << 20;

/// Why nothing more may be written.
#[derive(Debug)]
pub(crate) enum Budget {
    /// The file would have more than its limit.
    TooLarge,
    /// The disk has too little room left.
    NoSpace {
        /// How many bytes are free.
        free: u64,
    },
    /// The system does not write.
    Write(io::Error),
}

/// Writes a file from its start.
#[derive(Debug)]
pub(crate) struct SparseWriter<'f> {
    file: &'f File,
    limit: u64,
    at: u64,
    /// How many bytes may be written until the disk is asked again.
    unasked: u64,
}

impl<'f> SparseWriter<'f> {
    /// Writes to the empty `file`, no more than `limit` bytes, holes among them.
    pub(crate) const fn new(file: &'f File, limit: u64) -> Self {
        Self { file, limit, at: 0, unasked: 0 }
    }

    /// How long the file is.
    pub(crate) const fn position(&self) -> u64 {
        self.at
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Budget> {
        self.allow(bytes.len() as u64)?;
        // Pieces lie as the disk's blocks do, and those with something in them are written together.
        let mut from = self.at;
        let mut rest = bytes;
        let mut run: &[u8] = &[];
        while !rest.is_empty() {
            let behind = from + run.len() as u64;
            let len = (PIECE - (behind % PIECE as u64) as usize).min(rest.len());
            let (piece, others) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            if ZEROS.get(..len) == Some(piece) {
                self.put(run, from)?;
                from = behind + len as u64;
                run = &[];
            } else {
                let start = (from - self.at) as usize;
                run = bytes.get(start..start + run.len() + len).unwrap_or_default();
            }
            rest = others;
        }
        self.put(run, from)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Leaves a hole.
    pub(crate) fn skip(&mut self, len: u64) -> Result<(), Budget> {
        self.allow(len)?;
        self.at += len;
        Ok(())
    }

    /// Writes over what is there.
    pub(crate) fn replace(&self, at: u64, bytes: &[u8]) -> Result<(), Budget> {
        self.file.write_all_at(bytes, at).map_err(Budget::Write)
    }

    /// Forgets what was written from `at` on.
    pub(crate) fn back_to(&mut self, at: u64) {
        self.at = self.at.min(at);
    }

    /// The last bytes may be a hole.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.file.set_len(self.at)
    }

    fn allow(&self, len: u64) -> Result<(), Budget> {
        if self.at.checked_add(len).is_none_or(|end| end > self.limit) {
            Err(Budget::TooLarge)
        } else {
            Ok(())
        }
    }

    fn put(&mut self, run: &[u8], at: u64) -> Result<(), Budget> {
        if run.is_empty() {
            return Ok(());
        }
        let len = run.len() as u64;
        if self.unasked < len {
            let free = rustix::fs::fstatvfs(self.file).map_err(|why| Budget::Write(why.into()))?;
            let reserve = (free.f_blocks.saturating_mul(free.f_frsize) / 16).min(RESERVE);
            let free = free.f_bavail.saturating_mul(free.f_frsize);
            let usable = free.saturating_sub(reserve);
            if usable < len {
                return Err(Budget::NoSpace { free });
            }
            self.unasked = ASK_EVERY.min(usable);
        }
        self.unasked -= len;
        self.file.write_all_at(run, at).map_err(Budget::Write)
    }
}
