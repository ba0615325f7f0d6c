//! Files about a Windows guest's images that `--symbols` gives: PDBs, and volatility3's ISF.
//!
//! What an image says of its PDB names the file: `NAME/GUIDAGE/NAME`, as symbol stores keep it, or `NAME/GUID-AGE.json.xz`, as
//! volatility3 keeps them. The name is the guest's word: only plain ones are made part of a path.

mod store;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use vmc::Limits;
use vmc::symbols::{SymbolTable, SymbolTableBuilder};
use vmc_types::{IsfTypes, PdbTypes};
use vmc_windows::{CodeView, Fits, GivenKernel, KernelIdentity, SymbolFiles};

use super::kernel::{read_whole, shown};

/// Bytes of a PDB: public ones of kernels have some 12 MiB, a browser's 2 GiB.
const PDB_BYTES: u64 = 4 << 30;
/// Bytes of an ISF, unpacked.
const ISF_BYTES: u64 = 256 << 20;
/// Files that are tried for a kernel whose PDB is not known.
const TRIED: usize = 512;
/// What kernels' PDBs are called.
const KERNELS: [&str; 4] = ["ntkrnlmp.pdb", "ntoskrnl.pdb", "ntkrpamp.pdb", "ntkrnlpa.pdb"];

/// The directories that were named, as types and symbols of Windows' images are looked for in them.
#[derive(Debug)]
pub(crate) struct WindowsFiles<'d> {
    directories: &'d [PathBuf],
    limits: Limits,
    /// Files that were passed over, and why.
    remarks: BTreeSet<String>,
}

impl<'d> WindowsFiles<'d> {
    pub(crate) fn new(directories: &'d [PathBuf]) -> Self {
        Self { directories, limits: Limits::default(), remarks: BTreeSet::new() }
    }

    /// Which files were passed over, and why.
    pub(crate) fn remarks(&self) -> impl Iterator<Item = &String> {
        self.remarks.iter()
    }

    /// The first PDB that is of the image; why others are not is noted.
    fn program_database(&mut self, image: &CodeView) -> Option<PdbTypes> {
        for path in store::program_databases(self.directories, image) {
            let read = read_whole(&path, PDB_BYTES)
                .and_then(|bytes| PdbTypes::parse(&bytes, &self.limits).map_err(|why| why.to_string()));
            match read {
                Ok(types) if types.guid() == image.guid && types.age() == image.age => return Some(types),
                Ok(types) => {
                    let found = CodeView { name: String::new(), guid: types.guid(), age: types.age() };
                    self.remarks.insert(format!("{}: it is of {found}, not of {image}", shown(&path)));
                }
                Err(why) => {
                    self.remarks.insert(format!("{}: {why}", shown(&path)));
                }
            }
        }
        None
    }

    /// The first of the files that helps; why others do not is noted.
    fn first(
        &mut self,
        files: Vec<PathBuf>,
        fits: impl Fn(&SymbolTable) -> bool,
    ) -> Option<(IsfTypes, SymbolTable)> {
        for path in files {
            let read = read_whole(&path, ISF_BYTES)
                .and_then(|bytes| IsfTypes::parse(&bytes, &self.limits).map_err(|why| why.to_string()));
            let types = match read {
                Ok(types) => types,
                Err(why) => {
                    self.remarks.insert(format!("{}: {why}", shown(&path)));
                    continue;
                }
            };
            let symbols = table(&types, &self.limits);
            if fits(&symbols) {
                return Some((types, symbols));
            }
            self.remarks.insert(format!("{}: its symbols are not where this kernel's are", shown(&path)));
        }
        None
    }
}

/// The symbols of an ISF: their addresses are relative to the image's base.
fn table(types: &IsfTypes, limits: &Limits) -> SymbolTable {
    let mut builder = SymbolTableBuilder::default();
    for symbol in types.symbols().take(limits.symbols) {
        builder.push(symbol.name.as_bytes(), symbol.address, 0, '?');
    }
    builder.build()
}

impl SymbolFiles for WindowsFiles<'_> {
    fn kernel(&mut self, kernel: &KernelIdentity, fits: &Fits<'_>) -> Option<GivenKernel> {
        if let Some(types) = kernel.code_view.as_ref().and_then(|pdb| self.program_database(pdb)) {
            let symbols = types.symbols().clone();
            let code_view = kernel.code_view.clone();
            return Some(GivenKernel { source: "pdb", types: Box::new(types), symbols, code_view });
        }
        let (found, code_view) = match &kernel.code_view {
            Some(pdb) => (self.first(store::named(self.directories, pdb), |_| true)?, Some(pdb.clone())),
            None => {
                let mut files: Vec<PathBuf> =
                    KERNELS.iter().flat_map(|name| store::all(self.directories, name)).collect();
                files.truncate(TRIED);
                (self.first(files, fits)?, None)
            }
        };
        let (types, symbols) = found;
        Some(GivenKernel { source: "isf", types: Box::new(types), symbols, code_view })
    }

    fn image(&mut self, image: &CodeView) -> Option<Arc<SymbolTable>> {
        if let Some(types) = self.program_database(image) {
            return Some(Arc::new(types.into_symbols()));
        }
        let files = store::named(self.directories, image);
        self.first(files, |_| true).map(|(_, symbols)| Arc::new(symbols))
    }
}
