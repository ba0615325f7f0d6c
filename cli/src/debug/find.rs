//! Where the debug file of a build-id is: in a build-id tree, or anywhere below the directories that were named.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use object::Object;
use object::read::elf::ElfFile64;
use vmc::view::BuildId;

/// Bytes of a debug file: a browser's has some 4 GiB.
const FILE_BYTES: u64 = 8 << 30;
/// Files that are opened to see their build-id, and how deep directories are gone into.
const FILES: usize = 20_000;
const DEPTH: usize = 8;
/// Bytes of a file's start that its build-id is looked for in.
const HEAD: u64 = 1 << 20;

/// The directories that were named.
#[derive(Debug)]
pub(crate) struct DebugFiles {
    directories: Vec<PathBuf>,
    /// Files by the build-id that they have themselves; made when a tree has not what is looked for.
    scanned: Option<HashMap<Vec<u8>, PathBuf>>,
}

impl DebugFiles {
    pub(crate) fn new(directories: &[PathBuf]) -> Self {
        Self { directories: directories.to_vec(), scanned: None }
    }

    /// Was no directory named?
    pub(crate) fn is_empty(&self) -> bool {
        self.directories.is_empty()
    }

    /// The bytes of the debug file for `id`.
    pub(crate) fn read(&mut self, id: &BuildId) -> Option<Vec<u8>> {
        let text = id.to_string();
        let (first, rest) = text.split_at_checked(2)?;
        let name = Path::new(first).join(format!("{rest}.debug"));
        for directory in &self.directories {
            for tree in [directory.join(".build-id"), directory.clone()] {
                if let Some(bytes) = matching(&tree.join(&name), id) {
                    return Some(bytes);
                }
            }
        }
        let directories = &self.directories;
        let scanned = self.scanned.get_or_insert_with(|| scan(directories));
        matching(scanned.get(&*id.0)?, id)
    }
}

/// The file's bytes, if it is one and has this build-id.
fn matching(path: &Path, id: &BuildId) -> Option<Vec<u8>> {
    let facts = fs::metadata(path).ok()?;
    if !facts.is_file() || facts.len() > FILE_BYTES {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FILE_BYTES).read_to_end(&mut bytes).ok()?;
    let matches = build_id(&bytes)? == &*id.0;
    matches.then_some(bytes)
}

fn build_id(bytes: &[u8]) -> Option<&[u8]> {
    ElfFile64::<object::LittleEndian>::parse(bytes).ok()?.build_id().ok()?
}

/// All ELF files below the directories, by their build-ids.
fn scan(directories: &[PathBuf]) -> HashMap<Vec<u8>, PathBuf> {
    let mut found = HashMap::new();
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
                if let Some(id) = build_id_of(&entry.path()) {
                    found.entry(id).or_insert_with(|| entry.path());
                }
            }
        }
    }
    found
}

/// A file's build-id: out of its first bytes where program headers lead there, else out of the whole.
fn build_id_of(path: &Path) -> Option<Vec<u8>> {
    let mut file = File::open(path).ok()?;
    let mut head = Vec::new();
    file.by_ref().take(4).read_to_end(&mut head).ok()?;
    if head != object::elf::ELFMAG {
        return None;
    }
    file.by_ref().take(HEAD - 4).read_to_end(&mut head).ok()?;
    if let Some(id) = build_id(&head) {
        return Some(id.to_vec());
    }
    file.take(FILE_BYTES).read_to_end(&mut head).ok()?;
    build_id(&head).map(<[u8]>::to_vec)
}
