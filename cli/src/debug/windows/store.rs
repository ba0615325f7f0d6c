//! Where symbol files lie below a directory, by their names.

use std::fs;
use std::path::{Path, PathBuf};

use vmc_windows::CodeView;

/// Endings of ISFs.
const ENDINGS: [&str; 4] = [".json.xz", ".json", ".json.gz", ".json.zst"];
/// The folders in which volatility3 keeps those of Windows, below what is given to it.
const WITHIN: [&str; 3] = ["", "windows", "symbols/windows"];
/// Bytes of a file's name.
const NAME_BYTES: usize = 128;

/// Is it an ISF, by its name? Its name without the ending.
pub(super) fn isf_stem(name: &str) -> Option<&str> {
    ENDINGS.iter().find_map(|ending| name.strip_suffix(ending))
}

/// What volatility3 calls the file of an image, without the ending.
pub(super) fn stem(image: &CodeView) -> String {
    format!("{}-{}", image.guid_text(), image.age)
}

/// The ISFs of one image that are where they should be.
pub(super) fn isfs(directories: &[PathBuf], image: &CodeView) -> Vec<PathBuf> {
    let Some(name) = plain(&image.name) else { return Vec::new() };
    let stem = stem(image);
    let folders = folders(directories, name);
    let files = folders.flat_map(|folder| ENDINGS.map(|ending| folder.join(format!("{stem}{ending}"))));
    // They may lie there without folders, too.
    let bare =
        directories.iter().flat_map(|folder| ENDINGS.map(|ending| folder.join(format!("{stem}{ending}"))));
    files.chain(bare).filter(|path| path.is_file()).collect()
}

/// Where the PDB of an image lies in a symbol store, below its top: `NAME/GUIDAGE/NAME`.
pub(super) fn in_store(image: &CodeView) -> Option<PathBuf> {
    let name = plain(&image.name)?;
    Some(Path::new(name).join(image.to_string()).join(name))
}

/// The files that may be the PDB of an image: in symbol stores, and right in the directories.
pub(super) fn pdbs(directories: &[PathBuf], image: &CodeView) -> Vec<PathBuf> {
    let (Some(name), Some(stored)) = (plain(&image.name), in_store(image)) else { return Vec::new() };
    let file = stored.strip_prefix(name).map(Path::to_path_buf).unwrap_or_default();
    let places = folders(directories, name).map(move |folder| folder.join(&file));
    // They may lie there without folders, too: which one it is, the file says. It may have been named itself.
    let bare = directories.iter().flat_map(|top| [top.join(name), top.clone()]);
    places.chain(bare).filter(|path| path.is_file()).collect()
}

/// All ISFs, and all PDBs of symbol stores, of images of that name, in the order of their names.
pub(super) fn all(directories: &[PathBuf], name: &str) -> Vec<PathBuf> {
    let entries = folders(directories, name).filter_map(|folder| fs::read_dir(folder).ok());
    let mut paths: Vec<PathBuf> = entries
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .map(|path| if path.is_dir() { path.join(name) } else { path })
        .filter(|path| path.is_file())
        .filter(|path| {
            let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
            file == name || isf_stem(file).is_some()
        })
        .collect();
    paths.sort();
    paths.dedup();
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
pub(super) fn plain(name: &str) -> Option<&str> {
    let last = name.rsplit(['\\', '/']).next()?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits =
        !last.is_empty() && last.len() <= NAME_BYTES && !last.starts_with('.') && last.chars().all(allowed);
    fits.then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str) -> CodeView {
        CodeView { name: name.into(), guid: [0x11; 16], age: 0x1a }
    }

    #[test]
    fn no_path_comes_out_of_a_guest() {
        assert_eq!(plain("ntkrnlmp.pdb"), Some("ntkrnlmp.pdb"));
        assert_eq!(plain(r"D:\build\x64\my-tool_1.pdb"), Some("my-tool_1.pdb"));
        let long = "a".repeat(200);
        for wild in
            ["", "..", ".", ".hidden", "../..", "a/..", "x\0y.pdb", "a b.pdb", "nt.pdb\n", "ü.pdb", &long]
        {
            assert_eq!(plain(wild), None, "{wild:?}");
            let tops = [PathBuf::from("/"), PathBuf::from("/etc")];
            assert!(isfs(&tops, &image(wild)).is_empty() && pdbs(&tops, &image(wild)).is_empty());
            assert_eq!(in_store(&image(wild)), None);
        }
        // Folders that the guest names are left out.
        assert_eq!(in_store(&image("../../etc/x")), in_store(&image("x")));
        let stored = in_store(&image("/etc/passwd")).unwrap();
        assert_eq!(stored, Path::new("passwd").join("111111111111111111111111111111111A").join("passwd"));
    }

    #[test]
    fn files_are_found_where_stores_keep_them() {
        let top = std::env::temp_dir().join(format!("vmc-store-{}", std::process::id()));
        let image = image("nt.pdb");
        let places = [
            "nt.pdb/111111111111111111111111111111111A/nt.pdb",
            "windows/nt.pdb/11111111111111111111111111111111-26.json.xz",
            "11111111111111111111111111111111-26.json",
        ];
        for place in places {
            fs::create_dir_all(top.join(place).parent().unwrap()).unwrap();
            fs::write(top.join(place), "x").unwrap();
        }
        let tops = std::slice::from_ref(&top);
        assert_eq!(pdbs(tops, &image), [top.join(places[0])]);
        assert_eq!(isfs(tops, &image), [top.join(places[1]), top.join(places[2])]);
        assert_eq!(all(tops, "nt.pdb"), [top.join(places[0]), top.join(places[1])]);
        fs::remove_dir_all(top).unwrap();
    }
}
