//! Files about a Windows guest's images: PDBs and volatility3's ISFs, below the directories that `--symbols` gives, in the cache, or
//! from a symbol server where `--download` asks for that.
//!
//! What an image says of its PDB names the file: `NAME/GUID-AGE.json.xz` as volatility3 keeps ISFs, `NAME/GUIDAGE/NAME` as symbol
//! stores keep PDBs. Only where nothing lies there, the directories are gone through. The name is the guest's word: only plain
//! ones are made part of a path. What a file says of itself has to be what the image says.

mod download;
mod msf;
mod store;
mod walk;

pub(crate) use download::check_url;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vmc::Limits;
use vmc::symbols::SymbolTable;
use vmc_types::{IsfTypes, PdbTypes};
use vmc_windows::{CodeView, Fits, GivenKernel, KernelIdentity, SymbolFiles};

use super::kernel::{read_whole, shown};
use crate::args::Args;
use crate::notes::Notes;
use crate::target;
use download::{NotFetched, Server};
use walk::Lying;

/// Bytes of an ISF, unpacked.
const ISF_BYTES: u64 = 256 << 20;
/// Bytes of a PDB: public ones of kernels have some 12 MiB, a browser's 2 GiB.
const PDB_BYTES: u64 = 4 << 30;
/// Files that are tried for a kernel whose PDB is not known.
const TRIED: usize = 512;
/// Remarks that are kept.
const REMARKS: usize = 100;
/// What kernels' PDBs are called.
const KERNELS: [&str; 4] = ["ntkrnlmp.pdb", "ntoskrnl.pdb", "ntkrpamp.pdb", "ntkrnlpa.pdb"];

/// Types and symbols of Windows' images, as they are looked for.
#[derive(Debug)]
pub(crate) struct WindowsFiles<'a> {
    /// Those that were named.
    directories: &'a [PathBuf],
    /// The symbol store in the cache.
    kept: Option<PathBuf>,
    server: Option<Server>,
    /// Is nothing fetched for the time being?
    offline: bool,
    /// Does the command answer without any of them?
    derived_is_enough: bool,
    lying: Option<Lying>,
    limits: Limits,
    notes: &'a Notes,
    /// Files that were passed over, and why.
    remarks: BTreeSet<String>,
    /// Why nothing can be fetched.
    trouble: Option<String>,
    /// The symbols of images that were asked for.
    known: HashMap<CodeView, Option<Arc<SymbolTable>>>,
}

impl<'a> WindowsFiles<'a> {
    pub(crate) fn new(args: &'a Args, notes: &'a Notes) -> Self {
        let common = &args.common;
        let kept = target::cache_dir(common).map(|cache| cache.join("symbols"));
        let url = common.download.as_deref();
        Self {
            directories: &common.symbols,
            server: url.zip(kept.clone()).map(|(url, kept)| Server::new(url, kept)),
            kept,
            offline: false,
            derived_is_enough: args.command.takes_what_is_derived(),
            lying: None,
            limits: Limits::default(),
            notes,
            remarks: BTreeSet::new(),
            trouble: None,
            known: HashMap::new(),
        }
    }

    /// Which files were passed over, and why.
    pub(crate) fn remarks(&self) -> impl Iterator<Item = &String> {
        self.remarks.iter()
    }

    /// Why nothing can be fetched, where that was tried.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Fetches nothing while `offline`: while a guest is held, above all.
    pub(crate) const fn stay_offline(&mut self, offline: bool) {
        self.offline = offline;
    }

    fn remark(&mut self, remark: String) {
        if self.remarks.len() < REMARKS {
            self.remarks.insert(remark);
        }
    }

    /// The directories that were named, and the symbol store in the cache.
    fn tops(&self) -> Vec<PathBuf> {
        self.directories.iter().chain(&self.kept).cloned().collect()
    }

    fn lying(&mut self) -> &Lying {
        let directories = self.directories;
        self.lying.get_or_insert_with(|| Lying::below(directories))
    }

    /// The first of the files that is of `image`; why others are not is noted.
    fn first(&mut self, files: &[PathBuf], image: &CodeView) -> Option<GivenKernel> {
        for path in files {
            match read(path, Some(image), &self.limits) {
                Ok(found) => return Some(found),
                Err(why) => self.remark(format!("{}: {why}", shown(path))),
            }
        }
        None
    }

    /// The file of an image: where its name says, or lying about, or fetched.
    fn of_image(&mut self, image: &CodeView, is_kernel: bool) -> Option<GivenKernel> {
        let tops = self.tops();
        let mut files = store::isfs(&tops, image);
        files.extend(store::pdbs(&tops, image));
        if let Some(found) = self.first(&files, image) {
            return Some(found);
        }
        let lying = self.lying();
        let about: Vec<PathBuf> = lying.isf(image).into_iter().chain(lying.pdb(image)).cloned().collect();
        let about: Vec<PathBuf> = about.into_iter().filter(|path| !files.contains(path)).collect();
        let unnamed = if is_kernel { lying.unnamed.clone() } else { Vec::new() };
        if let Some(found) = self.first(&about, image) {
            return Some(found);
        }
        for path in unnamed {
            if let Ok(found) = read_isf(&path, Some(image), true, &self.limits) {
                return Some(found);
            }
        }
        let fetched = self.fetch(image)?;
        self.first(&[fetched], image)
    }

    /// Fetches the PDB of an image, where that was asked for.
    fn fetch(&mut self, image: &CodeView) -> Option<PathBuf> {
        let name = store::plain(&image.name)?;
        let server = self.server.as_mut().filter(|server| server.may_ask(image))?;
        if self.offline {
            self.remark(format!("{name} {image}: it is not fetched while the guest stands still"));
            return None;
        }
        self.notes.at_once(&format_args!("fetching {name} {image} from {}", server.url()));
        match server.fetch(image) {
            Ok(path) => return Some(path),
            Err(NotFetched::Absent(why)) => self.remark(why),
            Err(NotFetched::Nothing(why)) => self.trouble = Some(why),
        }
        None
    }

    /// The first file of any kernel whose symbols fit this one.
    fn that_fits(&mut self, fits: &Fits<'_>) -> Option<GivenKernel> {
        let tops = self.tops();
        let mut files: Vec<PathBuf> = KERNELS.iter().flat_map(|name| store::all(&tops, name)).collect();
        let lying = self.lying();
        let more: Vec<PathBuf> =
            lying.all().into_iter().filter(|path| of_kernel(path)).chain(lying.unnamed.clone()).collect();
        files.extend(more.into_iter().filter(|path| !files.contains(path)).collect::<Vec<_>>());
        files.truncate(TRIED);
        let mut others = 0;
        for path in files {
            match read(&path, None, &self.limits) {
                Ok(found) if fits(&found.symbols) => return Some(found),
                Ok(_) => others += 1,
                Err(why) => self.remark(format!("{}: {why}", shown(&path))),
            }
        }
        if others > 0 {
            self.remark(format!("{others} files are of kernels whose symbols are not where this one's are"));
        }
        None
    }
}

/// May it be a kernel's, by its own name or that of its folder?
fn of_kernel(path: &Path) -> bool {
    let is =
        |name: Option<&std::ffi::OsStr>| name.is_some_and(|name| KERNELS.iter().any(|known| name == *known));
    let folder = path.parent().and_then(Path::file_name);
    let of_another = folder.and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(".pdb"));
    is(path.file_name())
        || is(folder)
        || (path.extension().is_none_or(|ending| ending != "pdb") && !of_another)
}

/// Types and symbols out of a file, which has to be of `image` where that is known.
fn read(path: &Path, image: Option<&CodeView>, limits: &Limits) -> Result<GivenKernel, String> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if store::isf_stem(name).is_some() {
        return read_isf(path, image, false, limits);
    }
    read_pdb(path, image, limits)
}

/// The same of an ISF; where it does not tell what it is of, it counts only if it need not say.
fn read_isf(
    path: &Path,
    image: Option<&CodeView>,
    has_to_say: bool,
    limits: &Limits,
) -> Result<GivenKernel, String> {
    let types = IsfTypes::parse_owned(read_whole(path, ISF_BYTES)?, limits).map_err(|why| why.to_string())?;
    let made_of =
        types.pdb().map(|pdb| CodeView { name: pdb.database.to_owned(), guid: pdb.guid, age: pdb.age });
    match (&made_of, image) {
        (Some(of), Some(image)) if of.guid != image.guid => {
            return Err(format!("it is of another image: its GUID is {}", of.guid_text()));
        }
        (None, Some(_)) if has_to_say => return Err("it does not say what it is of".to_owned()),
        _ => {}
    }
    let symbols = types.symbol_table();
    let code_view = image.cloned().or(made_of);
    Ok(GivenKernel { source: "isf", types: Box::new(types), symbols, code_view })
}

impl SymbolFiles for WindowsFiles<'_> {
    fn kernel(&mut self, kernel: &KernelIdentity, fits: &Fits<'_>) -> Option<GivenKernel> {
        let found = match &kernel.code_view {
            Some(image) => self.of_image(image, true),
            None => self.that_fits(fits),
        }?;
        if let Some(image) = &found.code_view {
            self.known.insert(image.clone(), Some(Arc::new(found.symbols.clone())));
        }
        Some(found)
    }

    fn derived_is_enough(&self) -> bool {
        self.derived_is_enough
    }

    fn image(&mut self, image: &CodeView) -> Option<Arc<SymbolTable>> {
        if let Some(known) = self.known.get(image) {
            return known.clone();
        }
        let found = self.of_image(image, false).map(|found| Arc::new(found.symbols));
        // What was not fetched because of the guest may be another time.
        if found.is_some() || !self.offline {
            self.known.insert(image.clone(), found.clone());
        }
        found
    }
}

/// The same of a PDB, which has to be of `image` where that is known: its age, too.
fn read_pdb(path: &Path, image: Option<&CodeView>, limits: &Limits) -> Result<GivenKernel, String> {
    // Before all of it is read.
    let file = File::open(path).map_err(|why| why.to_string())?;
    let other = |guid, age| {
        let found = CodeView { name: String::new(), guid, age };
        Err(format!("it is of another image: its GUID and age are {found}"))
    };
    match (msf::guid(&file), image) {
        (None, _) => return Err("it is no PDB".to_owned()),
        (Some(guid), Some(image)) if guid != image.guid => return other(guid, image.age),
        _ => {}
    }
    let types = PdbTypes::parse(&read_whole(path, PDB_BYTES)?, limits).map_err(|why| why.to_string())?;
    match image {
        Some(image) if (types.guid(), types.age()) != (image.guid, image.age) => {
            return other(types.guid(), types.age());
        }
        _ => {}
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let own = CodeView { name, guid: types.guid(), age: types.age() };
    let symbols = types.symbols().clone();
    Ok(GivenKernel {
        source: "pdb",
        types: Box::new(types),
        symbols,
        code_view: Some(image.cloned().unwrap_or(own)),
    })
}
