//! Where symbol files lie below a directory.

use std::fs;
use std::path::{Path, PathBuf};

use vmc_windows::CodeView;

/// Endings of ISFs.
const ENDINGS: [&str; 3] = [".json.xz", ".json", ".json.gz"];
/// The folders in which volatility3 keeps those of Windows, below what is given to it.
const WITHIN: [&str; 3] = ["", "windows", "symbols/windows"];
/// Bytes of a file's name.
const NAME_BYTES: usize = 128;

/// The file of an image where symbol stores keep it: `NAME/GUIDAGE/NAME`.
pub(super) fn program_databases(directories: &[PathBuf], image: &CodeView) -> Vec<PathBuf> {
    let Some(name) = plain(&image.name) else { return Vec::new() };
    let folder = image.to_string();
    let stored = folders(directories, &name).map(|named| named.join(&folder).join(&name)).collect::<Vec<_>>();
    // They may lie there without folders, too: whether it is the one that is meant, the file says.
    let bare = directories.iter().map(|directory| directory.join(&name));
    stored.into_iter().chain(bare).filter(|path| path.is_file()).collect()
}

/// The ISFs of one image that are there.
pub(super) fn named(directories: &[PathBuf], image: &CodeView) -> Vec<PathBuf> {
    let Some(name) = plain(&image.name) else { return Vec::new() };
    let stem = format!("{}-{}", image.guid_text(), image.age);
    let folders = folders(directories, &name);
    let files = folders.flat_map(|folder| ENDINGS.map(|ending| folder.join(format!("{stem}{ending}"))));
    // They may lie there without folders, too.
    let bare =
        directories.iter().flat_map(|folder| ENDINGS.map(|ending| folder.join(format!("{stem}{ending}"))));
    files.chain(bare).filter(|path| path.is_file()).collect()
}

/// All files of images of that name, in the order of their names.
pub(super) fn all(directories: &[PathBuf], name: &str) -> Vec<PathBuf> {
    let entries = folders(directories, name).filter_map(|folder| fs::read_dir(folder).ok());
    let paths = entries.flat_map(|entries| entries.flatten().map(|entry| entry.path()));
    let is_isf = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        ENDINGS.iter().any(|ending| name.ends_with(ending)) && path.is_file()
    };
    let mut paths: Vec<PathBuf> = paths.filter(is_isf).collect();
    paths.sort();
    paths
}

fn folders<'p>(directories: &'p [PathBuf], name: &'p str) -> impl Iterator<Item = PathBuf> + use<'p> {
    directories.iter().flat_map(move |directory| {
        let own = directory.file_name().is_some_and(|last| last == name).then(|| directory.clone());
        own.into_iter().chain(WITHIN.map(|within| directory.join(within).join(name)))
    })
}

/// A guest's name for a PDB as the name of one file: its last part, if that is made of nothing but letters, digits, `.`, `_` and `-`,
/// and does not begin with a dot.
fn plain(name: &str) -> Option<String> {
    let last = name.rsplit(['\\', '/']).next()?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits =
        !last.is_empty() && last.len() <= NAME_BYTES && !last.starts_with('.') && last.chars().all(allowed);
    fits.then(|| Path::new(last).to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_comes_out_of_a_guest() {
        assert_eq!(plain("ntkrnlmp.pdb").as_deref(), Some("ntkrnlmp.pdb"));
        assert_eq!(plain(r"D:\build\x64\my-tool_1.pdb").as_deref(), Some("my-tool_1.pdb"));
        for wild in [
            "",
            "..",
            ".",
            ".hidden",
            "../..",
            "a/..",
            "x\0y.pdb",
            "a b.pdb",
            "ntkrnlmp.pdb\n",
            "ü.pdb",
            &"a".repeat(200),
        ] {
            assert_eq!(plain(wild), None, "{wild:?}");
        }
        assert_eq!(plain("../../etc/x").as_deref(), Some("x"));
        let image = CodeView { name: "../../etc/..".into(), guid: [0; 16], age: 1 };
        assert!(named(&[PathBuf::from("/")], &image).is_empty());
    }
}
