//! The file of a recording: it takes its name when there is something in it; what had that name before stays until then.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use vmc_dump::NewFile;

/// What is written to.
pub(super) enum Out {
    /// A file that is new, or replaces one.
    New(NewFile),
    /// What is there and no regular file: a pipe, a terminal.
    There(File),
}

impl Out {
    /// Begins to write to `path`.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        // What a link leads to is replaced, not the link.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let found = fs::metadata(path).ok();
        if found.as_ref().is_some_and(|found| !found.is_file()) {
            return Ok(Self::There(File::options().write(true).open(path)?));
        }
        let new = NewFile::create(path, true)?;
        let mode = found.map_or_else(|| 0o666 & !umask(), |found| found.permissions().mode() & 0o777);
        new.file().set_permissions(Permissions::from_mode(mode))?;
        Ok(Self::New(new))
    }

    pub(super) const fn file(&self) -> &File {
        match self {
            Self::New(new) => new.file(),
            Self::There(file) => file,
        }
    }

    /// Everything is written.
    pub(super) fn keep(self) -> io::Result<()> {
        match self {
            Self::New(new) => new.keep(),
            Self::There(_) => Ok(()),
        }
    }
}

/// What files that are made are not to be for others.
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask =
        status.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("Umask:")?.trim(), 8).ok());
    mask.unwrap_or(0o077)
}
