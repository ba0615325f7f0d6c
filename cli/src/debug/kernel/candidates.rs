//! Which files below the directories may be about the kernel, the likeliest first.

use std::fs;
use std::path::{Path, PathBuf};

use vmc_linux::KernelIdentity;

/// Files that are looked at by their names, and how deep directories are gone into.
const FILES: usize = 200_000;
const DEPTH: usize = 10;

/// What a file may be, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An ELF file: `vmlinux`, or a debug file of its build-id.
    Elf,
    /// BTF alone.
    Btf,
    /// volatility3's ISF.
    Isf,
    /// System.map.
    Map,
    /// A kernel module, or its debug part.
    Module,
}

/// A file that may be about the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    /// Smaller is likelier.
    rank: (u8, usize),
}

/// The candidates below some directories.
pub(super) fn below(directories: &[PathBuf], kernel: &KernelIdentity) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    let by_id = kernel.build_id.as_ref().map(|id| {
        let text: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let (first, rest) = text.split_at_checked(2).unwrap_or_default();
        Path::new(first).join(format!("{rest}.debug"))
    });
    for directory in directories {
        for tree in [directory.join(".build-id"), directory.clone()] {
            if let Some(path) = by_id.as_ref().map(|name| tree.join(name)).filter(|path| path.is_file()) {
                found.push(Candidate { path, kind: Kind::Elf, rank: (0, 0) });
            }
        }
    }
    let mut open: Vec<(PathBuf, usize)> = directories.iter().map(|path| (path.clone(), 0)).collect();
    let mut left = FILES;
    while let Some((directory, depth)) = open.pop() {
        // A file may be named in place of a directory.
        if depth == 0 && directory.is_file() {
            found.extend(candidate(&directory, kernel, depth));
            continue;
        }
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Some(fewer) = left.checked_sub(1) else { break };
            left = fewer;
            let path = entry.path();
            // Links to files count: distributions' trees are full of them. Those to directories may lead in circles.
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && depth < DEPTH {
                open.push((path, depth + 1));
            } else if !kind.is_dir() {
                found.extend(candidate(&path, kernel, depth));
            }
        }
    }
    found.retain(|candidate| candidate.path.is_file());
    found.sort_by(|a, b| (a.rank, &a.path).cmp(&(b.rank, &b.path)));
    found.dedup_by(|a, b| a.path == b.path);
    found
}

/// The file as a candidate; nothing where its name says that it is something else.
fn candidate(path: &Path, kernel: &KernelIdentity, depth: usize) -> Option<Candidate> {
    let whole = path.file_name()?.to_str()?;
    let packed = [".xz", ".gz", ".zst"].iter().find_map(|ending| whole.strip_suffix(ending));
    let name = packed.unwrap_or(whole);
    let kind = if name.ends_with(".json") {
        Kind::Isf
    } else if name.ends_with(".btf") {
        Kind::Btf
    } else if name.starts_with("System.map") {
        Kind::Map
    } else if name.ends_with(".ko") || name.ends_with(".ko.debug") {
        Kind::Module
    } else if name.starts_with("vmlinux") {
        Kind::Elf
    } else {
        return None;
    };
    // The release may be a directory's name, too: lib/modules/RELEASE/vmlinux.
    let released = path.to_string_lossy().contains(kernel.release.as_str());
    let order = match kind {
        Kind::Elf => 0,
        Kind::Btf => 1,
        Kind::Map => 2,
        Kind::Isf => 3,
        Kind::Module => 4,
    };
    let rank = if released { 1 } else { 6 } + order;
    Some(Candidate { path: path.to_path_buf(), kind, rank: (rank, depth) })
}
