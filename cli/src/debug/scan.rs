//! All debug files below some directories, by build-id and by name.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use vmc::view::BuildId;

use super::find::{FILE_BYTES, build_id};

/// Files that are opened to see their build-id, and how deep directories are gone into.
const FILES: usize = 20_000;
const DEPTH: usize = 8;
/// Files of one name that are kept: each is read to see if it is the right one.
const SAME_NAME: usize = 16;
/// Bytes of a file's start that its build-id is looked for in.
const HEAD: u64 = 1 << 20;

/// What is there.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    by_id: HashMap<Vec<u8>, PathBuf>,
    by_name: HashMap<OsString, Vec<PathBuf>>,
}

impl Scanned {
    /// All ELF files below the directories.
    pub(super) fn below(directories: &[PathBuf]) -> Self {
        let mut found = Self::default();
        let mut open: Vec<(PathBuf, usize)> = directories.iter().map(|path| (path.clone(), 0)).collect();
        let mut left = FILES;
        while let Some((directory, depth)) = open.pop() {
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for entry in entries.flatten() {
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() && depth < DEPTH {
                    open.push((entry.path(), depth + 1));
                } else if kind.is_file() {
                    let Some(fewer) = left.checked_sub(1) else { return found };
                    left = fewer;
                    found.add(entry.path(), entry.file_name());
                }
            }
        }
        found
    }

    fn add(&mut self, path: PathBuf, name: OsString) {
        let Some(id) = elf_file(&path) else { return };
        if let Some(id) = id {
            self.by_id.entry(id).or_insert_with(|| path.clone());
        }
        let same = self.by_name.entry(name).or_default();
        if same.len() < SAME_NAME {
            same.push(path);
        }
    }

    /// The file with this build-id.
    pub(super) fn with_id(&self, id: &BuildId) -> Option<&Path> {
        self.by_id.get(&*id.0).map(PathBuf::as_path)
    }

    /// The files of this name.
    pub(super) fn called(&self, name: &str) -> &[PathBuf] {
        self.by_name.get(OsStr::new(name)).map(Vec::as_slice).unwrap_or_default()
    }
}

/// An ELF file's build-id, if it has one: out of its first bytes where program headers lead there, else out of the whole.
/// Nothing where it is no ELF file.
fn elf_file(path: &Path) -> Option<Option<Vec<u8>>> {
    let mut file = File::open(path).ok()?;
    let mut head = Vec::new();
    file.by_ref().take(4).read_to_end(&mut head).ok()?;
    if head != object::elf::ELFMAG {
        return None;
    }
    file.by_ref().take(HEAD - 4).read_to_end(&mut head).ok()?;
    if let Some(id) = build_id(&head) {
        return Some(Some(id.to_vec()));
    }
    file.take(FILE_BYTES).read_to_end(&mut head).ok()?;
    Some(build_id(&head).map(<[u8]>::to_vec))
}
