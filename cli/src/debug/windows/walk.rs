//! What lies about below the directories: PDBs by the GUID in them, ISFs by their names, those with other names for a last look.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::PathBuf;

use vmc_windows::CodeView;

use super::{msf, store};

/// Files that are looked at by their names, and how deep directories are gone into.
const FILES: usize = 200_000;
const DEPTH: usize = 10;
/// PDBs that are opened for their GUID.
const PDBS: usize = 20_000;
/// ISFs whose names do not tell what they are of.
const UNNAMED: usize = 64;

/// The files below some directories.
#[derive(Debug, Default)]
pub(super) struct Lying {
    pdbs: HashMap<[u8; 16], PathBuf>,
    isfs: HashMap<String, PathBuf>,
    /// ISFs that have to be read to know what they are of.
    pub(super) unnamed: Vec<PathBuf>,
}

impl Lying {
    /// Looks at all of them, in the order of their paths.
    pub(super) fn below(directories: &[PathBuf]) -> Self {
        let mut found = Self::default();
        let (mut left, mut pdbs) = (FILES, PDBS);
        let mut open: Vec<(PathBuf, usize)> =
            directories.iter().rev().map(|path| (path.clone(), 0)).collect();
        while let Some((place, depth)) = open.pop() {
            if place.is_file() {
                found.add(place, &mut pdbs);
                continue;
            }
            let Ok(entries) = fs::read_dir(&place) else { continue };
            let mut inside = Vec::new();
            for entry in entries.flatten() {
                let Some(fewer) = left.checked_sub(1) else { break };
                left = fewer;
                // Links to directories may lead in circles.
                let Ok(kind) = entry.file_type() else { continue };
                if depth < DEPTH && !(kind.is_symlink() && entry.path().is_dir()) {
                    inside.push((entry.path(), depth + 1));
                }
            }
            // What comes last is taken first.
            inside.sort_by(|a, b| b.cmp(a));
            open.append(&mut inside);
        }
        found
    }

    fn add(&mut self, path: PathBuf, pdbs: &mut usize) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return };
        if let Some(stem) = store::isf_stem(name) {
            let named = stem.len() > 33 && stem.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-');
            if named {
                self.isfs.entry(stem.to_ascii_uppercase()).or_insert(path);
            } else if self.unnamed.len() < UNNAMED {
                self.unnamed.push(path);
            }
        } else if name.to_ascii_lowercase().ends_with(".pdb")
            && let Some(fewer) = pdbs.checked_sub(1)
        {
            *pdbs = fewer;
            if let Some(guid) = File::open(&path).ok().and_then(|file| msf::guid(&file)) {
                self.pdbs.entry(guid).or_insert(path);
            }
        }
    }

    /// The ISF of an image, by its name.
    pub(super) fn isf(&self, image: &CodeView) -> Option<&PathBuf> {
        self.isfs.get(&store::stem(image))
    }

    /// The PDB of an image.
    pub(super) fn pdb(&self, image: &CodeView) -> Option<&PathBuf> {
        self.pdbs.get(&image.guid)
    }

    /// All files that are of a known image each, in the order of their paths.
    pub(super) fn all(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = self.isfs.values().chain(self.pdbs.values()).cloned().collect();
        paths.sort();
        paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_what_is_in_them() {
        let top = std::env::temp_dir().join(format!("vmc-lying-{}", std::process::id()));
        let image = CodeView { name: "nt.pdb".into(), guid: *b"0123456789abcdef", age: 1 };
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::write(top.join("a/b/renamed.PDB"), msf::tests::pdb(image.guid)).unwrap();
        fs::write(top.join("a/nt.pdb"), msf::tests::pdb([9; 16])).unwrap();
        fs::write(top.join("a/other.pdb"), "no PDB").unwrap();
        fs::write(top.join(format!("a/b/{}.json.xz", store::stem(&image))), "").unwrap();
        fs::write(top.join("a/kernel.json"), "").unwrap();
        std::os::unix::fs::symlink(&top, top.join("a/circle")).unwrap();
        let lying = Lying::below(std::slice::from_ref(&top));
        assert_eq!(lying.pdb(&image), Some(&top.join("a/b/renamed.PDB")));
        assert_eq!(lying.isf(&image), Some(&top.join(format!("a/b/{}.json.xz", store::stem(&image)))));
        assert_eq!(lying.unnamed, [top.join("a/kernel.json")]);
        let other = CodeView { guid: [8; 16], ..image };
        assert_eq!((lying.pdb(&other), lying.isf(&other)), (None, None));
        fs::remove_dir_all(top).unwrap();
    }
}
