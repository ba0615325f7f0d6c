//! Where an image's debug file is: in a build-id tree, under the name that the image gives it, or anywhere below the
//! directories that were named.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use object::Object;
use object::read::elf::ElfFile64;
use vmc::view::BuildId;

use super::link::{Name, file_name};
use super::scan::Scanned;

/// Bytes of a debug file: a browser's has some 4 GiB.
pub(super) const FILE_BYTES: u64 = 8 << 30;
/// Remarks that are kept.
const REMARKS: usize = 1000;

/// The directories that were named.
#[derive(Debug)]
pub(crate) struct DebugFiles {
    directories: Vec<PathBuf>,
    /// What is below them; made when nothing is where it should be.
    scanned: Option<Scanned>,
    /// Files that were passed over, and why.
    remarks: BTreeSet<String>,
}

impl DebugFiles {
    pub(crate) fn new(directories: &[PathBuf]) -> Self {
        Self { directories: directories.to_vec(), scanned: None, remarks: BTreeSet::new() }
    }

    /// Was no directory named?
    pub(crate) fn is_empty(&self) -> bool {
        self.directories.is_empty()
    }

    /// Which files were passed over although they have the right name, and why.
    pub(crate) fn remarks(&self) -> impl Iterator<Item = &String> {
        self.remarks.iter()
    }

    /// The bytes of the debug file for an image.
    pub(crate) fn read(&mut self, image: &Name) -> Option<Vec<u8>> {
        if let Some(bytes) = image.id.as_ref().and_then(|id| self.in_tree(id)) {
            return Some(bytes);
        }
        let name = image.link.as_ref().and_then(|link| file_name(&link.name));
        let named = |directory: &PathBuf| {
            name.map(|name| [directory.join(name), directory.join(".debug").join(name)])
        };
        let usual: Vec<PathBuf> = self.directories.iter().filter_map(named).flatten().collect();
        if let Some(bytes) = self.first_linked(&usual, image) {
            return Some(bytes);
        }
        let directories = &self.directories;
        let scanned = self.scanned.get_or_insert_with(|| Scanned::below(directories));
        let by_id = image.id.as_ref().and_then(|id| read_if(scanned.with_id(id)?, |bytes| has_id(bytes, id)));
        if by_id.is_some() {
            return by_id;
        }
        let called: Vec<PathBuf> =
            scanned.called(name?).iter().filter(|path| !usual.contains(path)).cloned().collect();
        self.first_linked(&called, image)
    }

    /// By the layout of `/usr/lib/debug`.
    fn in_tree(&self, id: &BuildId) -> Option<Vec<u8>> {
        let text = id.to_string();
        let (first, rest) = text.split_at_checked(2)?;
        let name = Path::new(first).join(format!("{rest}.debug"));
        let trees =
            self.directories.iter().flat_map(|directory| [directory.join(".build-id"), directory.clone()]);
        trees.into_iter().find_map(|tree| read_if(&tree.join(&name), |bytes| has_id(bytes, id)))
    }

    /// The first of these files that the image's link means.
    fn first_linked(&mut self, paths: &[PathBuf], image: &Name) -> Option<Vec<u8>> {
        let wanted = image.link.as_ref()?.crc;
        for path in paths {
            let mut crc = None;
            let meant = |bytes: &[u8]| {
                image.id.as_ref().is_some_and(|id| has_id(bytes, id))
                    || *crc.insert(crc32fast::hash(bytes)) == wanted
            };
            if let Some(bytes) = read_if(path, meant) {
                return Some(bytes);
            }
            if let Some(crc) = crc.filter(|_| self.remarks.len() < REMARKS) {
                self.remarks.insert(format!(
                    "{} is not the debug file that was looked for: its CRC32 is {crc:#010x}, not {wanted:#010x}",
                    path.display()
                ));
            }
        }
        None
    }
}

/// The file's bytes, if it is one and they are right.
fn read_if(path: &Path, right: impl FnOnce(&[u8]) -> bool) -> Option<Vec<u8>> {
    let facts = fs::metadata(path).ok()?;
    if !facts.is_file() || facts.len() > FILE_BYTES {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FILE_BYTES).read_to_end(&mut bytes).ok()?;
    right(&bytes).then_some(bytes)
}

fn has_id(bytes: &[u8], id: &BuildId) -> bool {
    build_id(bytes).is_some_and(|found| *found == *id.0)
}

pub(super) fn build_id(bytes: &[u8]) -> Option<&[u8]> {
    ElfFile64::<object::LittleEndian>::parse(bytes).ok()?.build_id().ok()?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debug::UnwindFiles;
    use std::process::Command;
    use vmc::view::DebugLink;
    use vmc_linux::DebugFiles as _;

    /// A program without a build-id, whose debug file is `kept` and is called `a.debug` by the program; what the program
    /// says of it, by objcopy's word. The directory is removed by the caller.
    fn program(name: &str) -> Option<(PathBuf, Name)> {
        let directory = std::env::temp_dir().join(format!("vmc-link-{name}-{}", std::process::id()));
        fs::create_dir_all(directory.join("named")).unwrap();
        fs::write(directory.join("a.c"), "int main(int c, char **v) { return v[c] != 0; }").unwrap();
        let commands = [
            "gcc -g -fno-asynchronous-unwind-tables -Wl,--build-id=none -o a a.c",
            "objcopy --only-keep-debug a a.debug",
            "objcopy --strip-debug --add-gnu-debuglink=a.debug a bare",
        ];
        for command in commands {
            let mut words = command.split(' ');
            let mut tool = Command::new(words.next().unwrap());
            if !tool.args(words).current_dir(&directory).status().is_ok_and(|status| status.success()) {
                crate::skipped::skip(&format!("`{command}` does not work here"));
                fs::remove_dir_all(directory).unwrap();
                return None;
            }
        }
        fs::rename(directory.join("a.debug"), directory.join("kept")).unwrap();
        let bare = fs::read(directory.join("bare")).unwrap();
        let file = ElfFile64::<object::LittleEndian>::parse(&*bare).unwrap();
        let (name, crc) = file.gnu_debuglink().unwrap().unwrap();
        Some((directory, Name { id: None, link: Some(DebugLink { name: name.into(), crc }) }))
    }

    #[test]
    fn a_linked_file_is_found_by_name_and_checksum() {
        let Some((directory, image)) = program("found") else { return };
        let named = directory.join("named");
        let kept = fs::read(directory.join("kept")).unwrap();
        let read = |image: &Name| {
            let mut files = DebugFiles::new(std::slice::from_ref(&named));
            (files.read(image), files.remarks().count())
        };
        assert_eq!(read(&image), (None, 0));
        for place in ["a.debug", ".debug/a.debug", "deep/er/a.debug"] {
            let path = named.join(place);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &kept).unwrap();
            assert!(read(&image) == (Some(kept.clone()), 0), "{place}");
            // Another file of that name is told, and passed over.
            fs::write(&path, [&kept[..], b"!"].concat()).unwrap();
            assert!(read(&image) == (None, 1), "{place}");
            fs::remove_file(&path).unwrap();
        }
        // Beside a wrong one the right one is found.
        fs::write(named.join("a.debug"), b"\x7fELF").unwrap();
        fs::write(named.join("deep/er/a.debug"), &kept).unwrap();
        assert!(read(&image) == (Some(kept.clone()), 1));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn no_link_leads_out_of_the_directories() {
        let Some((directory, image)) = program("hostile") else { return };
        let mut files = DebugFiles::new(&[directory.join("named")]);
        let absolute = directory.join("kept");
        for name in
            ["kept", "../kept", "../../kept", "named/../../kept", "..", ".", "", absolute.to_str().unwrap()]
        {
            let link = image.link.clone().map(|link| DebugLink { name: name.as_bytes().into(), ..link });
            assert_eq!(files.read(&Name { id: None, link }), None, "{name:?}");
        }
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_is_found_names_and_unwinds() {
        let Some((directory, image)) = program("used") else { return };
        fs::rename(directory.join("kept"), directory.join("named/a.debug")).unwrap();
        let mut files = DebugFiles::new(&[directory.join("named")]);
        let mut unwind = UnwindFiles { files: &mut files, limit: 128 << 20 };
        let sections = unwind.unwind_sections(None, image.link.as_ref()).unwrap();
        assert!(unwind.unwind_sections(None, None).is_none());
        // `.eh_frame` of a debug file is a shadow; `.debug_frame` describes `main`.
        assert!(sections.eh_frame.bytes.is_empty() && !sections.debug_frame.bytes.is_empty());
        let bytes = fs::read(directory.join("a")).unwrap();
        let program = ElfFile64::<object::LittleEndian>::parse(&*bytes).unwrap();
        let main = object::ObjectSymbol::address(&program.symbol_by_name("main").unwrap());
        let table = vmc_unwind::UnwindTable::new(sections);
        assert_eq!(table.covering(main + 1).map(|function| function.start), Some(main));
        fs::remove_dir_all(directory).unwrap();
    }
}
