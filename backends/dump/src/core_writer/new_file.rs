//! A file that has its name only when it is complete.
//!
//! It has none at all while it is written, where the file system can do that (`O_TMPFILE`): whatever ends the process, nothing is
//! left behind. Elsewhere it has another name in the same directory until then.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Error, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat};

/// A file in the making. Without [`keep`](Self::keep) it is gone.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    name: PathBuf,
    /// The name that it has until it is complete.
    partial: Option<PathBuf>,
    replace: bool,
}

impl NewFile {
    /// Begins the file `name`, readable by its owner alone: memory holds secrets. Only where it may `replace` one may there be a
    /// file of this name, and only a regular one.
    ///
    /// # Errors
    /// What the system says; [`ErrorKind::AlreadyExists`] where there is something of this name that is not to be replaced.
    pub fn create(name: &Path, replace: bool) -> io::Result<Self> {
        match fs::symlink_metadata(name) {
            Ok(found) if !replace || !found.is_file() => return Err(ErrorKind::AlreadyExists.into()),
            Err(why) if why.kind() != ErrorKind::NotFound => return Err(why),
            _ => {}
        }
        if name.file_name().is_none() {
            return Err(Error::new(ErrorKind::InvalidInput, "it is no name of a file"));
        }
        let name = name.to_path_buf();
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        if let Ok(file) = rustix::fs::open(directory(&name), flags, Mode::RUSR | Mode::WUSR) {
            return Ok(Self { file: file.into(), name, partial: None, replace });
        }
        let partial = beside(&name);
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&partial)?;
        Ok(Self { file, name, partial: Some(partial), replace })
    }

    /// The file.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Gives the complete file its name.
    ///
    /// # Errors
    /// What the system says; [`ErrorKind::AlreadyExists`] where something of this name has come up meanwhile.
    pub fn keep(mut self) -> io::Result<()> {
        if !self.replace {
            match &self.partial {
                None => return link(&self.file, &self.name),
                Some(partial) => match fs::hard_link(partial, &self.name) {
                    Err(why) if why.kind() != ErrorKind::AlreadyExists && !self.name.exists() => {}
                    // The other name goes with this.
                    linked => return linked,
                },
            }
        }
        let partial = match &self.partial {
            Some(partial) => partial.clone(),
            None => {
                let partial = beside(&self.name);
                link(&self.file, &partial)?;
                self.partial = Some(partial.clone());
                partial
            }
        };
        fs::rename(&partial, &self.name)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // After a rename there is nothing of this name any more.
            let _ = fs::remove_file(partial);
        }
    }
}

/// Gives a file without a name one that is free.
fn link(file: &File, name: &Path) -> io::Result<()> {
    let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
    match linkat(CWD, &opened, CWD, name, AtFlags::SYMLINK_FOLLOW) {
        // Without /proc there is another way, which not everybody may go.
        Err(rustix::io::Errno::NOENT) => Ok(linkat(file, "", CWD, name, AtFlags::EMPTY_PATH)?),
        linked => Ok(linked?),
    }
}

fn directory(name: &Path) -> &Path {
    name.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A name in the same directory that no other process has.
fn beside(name: &Path) -> PathBuf {
    let mut partial = OsString::from(".");
    partial.push(name.file_name().unwrap_or_default());
    partial.push(format!(".{}.partial", std::process::id()));
    directory(name).join(partial)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn entries(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// What a file system without nameless files makes of it.
    fn named(file: NewFile) -> NewFile {
        let partial = beside(&file.name);
        let (name, replace) = (file.name.clone(), file.replace);
        let made = File::options().read(true).write(true).create_new(true).open(&partial).unwrap();
        NewFile { file: made, name, partial: Some(partial), replace }
    }

    #[test]
    fn a_name_comes_with_the_whole_file_alone() {
        let dir = std::env::temp_dir().join(format!("vmc-new-file-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let name = dir.join("core");
        for way in [|file| file, named] {
            // Not kept: nothing is left.
            let new = way(NewFile::create(&name, false).unwrap());
            new.file().write_all(b"x").unwrap();
            drop(new);
            assert_eq!(entries(&dir), [""; 0]);
            let new = way(NewFile::create(&name, false).unwrap());
            new.file().write_all(b"one").unwrap();
            assert!(!name.exists());
            new.keep().unwrap();
            assert_eq!((entries(&dir), fs::read(&name).unwrap()), (vec!["core".to_owned()], b"one".to_vec()));
            // There is one, and it stays.
            assert_eq!(NewFile::create(&name, false).unwrap_err().kind(), ErrorKind::AlreadyExists);
            let new = way(NewFile::create(&name, true).unwrap());
            new.file().write_all(b"two").unwrap();
            assert_eq!(fs::read(&name).unwrap(), b"one");
            new.keep().unwrap();
            assert_eq!((entries(&dir), fs::read(&name).unwrap()), (vec!["core".to_owned()], b"two".to_vec()));
            fs::remove_file(&name).unwrap();
            // One comes up meanwhile.
            let new = way(NewFile::create(&name, false).unwrap());
            fs::write(&name, b"other").unwrap();
            assert_eq!(new.keep().unwrap_err().kind(), ErrorKind::AlreadyExists);
            assert_eq!(
                (entries(&dir), fs::read(&name).unwrap()),
                (vec!["core".to_owned()], b"other".to_vec())
            );
            fs::remove_file(&name).unwrap();
        }
        // Neither a directory nor a device is replaced.
        assert_eq!(NewFile::create(&dir, true).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(
            NewFile::create(Path::new("/dev/null"), true).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        assert!(NewFile::create(&dir.join("none/core"), false).is_err());
        fs::remove_dir(dir).unwrap();
    }
}
