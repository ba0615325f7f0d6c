//! A file that is being fetched.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file that is gone unless it is kept.
pub(super) struct Part {
    pub(super) file: File,
    path: PathBuf,
}

impl Part {
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        let pid = std::process::id();
        for number in 0..100 {
            let path = folder.join(format!(".{pid}-{number}.part"));
            match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok(Self { file, path }),
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
                Err(why) => return Err(why),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    pub(super) fn keep_as(mut self, place: &Path) -> io::Result<()> {
        fs::rename(&self.path, place)?;
        self.path = PathBuf::new();
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // Nobody asks for it under this name.
            let _ = fs::remove_file(&self.path);
        }
    }
}
