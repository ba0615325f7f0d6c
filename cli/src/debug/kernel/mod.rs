//! Files about the guest's kernel that `--symbols` gives: `vmlinux` with debug information, BTF, volatility3's ISF, System.map;
//! where there is none of these, a module with debug information.
//!
//! A kernel that tells its types and symbols itself needs none. A file counts only if it is of the very kernel: by build-id,
//! by banner, or by symbols that are where the kernel's are; BTF and modules by the kernel's first task.

mod candidates;
mod elf;
mod isf;
mod map;
mod module;
mod read;
mod relocate;
mod xz;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use vmc::Limits;
use vmc_linux::{Checks, Fits, GivenSymbols, GivenTypes, KernelIdentity};
use vmc_types::Btf;

use candidates::{Candidate, Kind};
pub(super) use read::whole as read_whole;

/// Files that are opened for one kernel.
const FILES: usize = 64;

/// The directories that were named, as the kernel's types and symbols are looked for in them.
#[derive(Debug)]
pub(crate) struct KernelFiles<'d> {
    directories: &'d [PathBuf],
    limits: Limits,
    /// Files that were passed over, and why.
    remarks: BTreeSet<String>,
}

impl<'d> KernelFiles<'d> {
    pub(crate) fn new(directories: &'d [PathBuf]) -> Self {
        Self { directories, limits: Limits::default(), remarks: BTreeSet::new() }
    }

    /// Which files were passed over, and why.
    pub(crate) fn remarks(&self) -> impl Iterator<Item = &String> {
        self.remarks.iter()
    }

    fn candidates(&self, kernel: &KernelIdentity, kinds: &[Kind]) -> Vec<Candidate> {
        let mut found = candidates::below(self.directories, kernel);
        found.retain(|candidate| kinds.contains(&candidate.kind));
        found.truncate(FILES);
        found
    }

    /// The first file that helps; why others do not is noted.
    fn first<T>(
        &mut self,
        candidates: Vec<Candidate>,
        mut try_one: impl FnMut(&Candidate, Vec<u8>, &Limits) -> Result<T, String>,
    ) -> Option<T> {
        for candidate in candidates {
            let bytes = read::whole(&candidate.path, most(candidate.kind));
            match bytes.and_then(|bytes| try_one(&candidate, bytes, &self.limits)) {
                Ok(found) => return Some(found),
                Err(why) => {
                    self.remarks.insert(format!("{}: {why}", shown(&candidate.path)));
                }
            }
        }
        None
    }
}

/// Bytes that a file of its kind may have, unpacked.
const fn most(kind: Kind) -> u64 {
    match kind {
        Kind::Elf | Kind::Module => read::BYTES,
        Kind::Isf => 256 << 20,
        Kind::Btf | Kind::Map => 64 << 20,
    }
}

/// A path in one line.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string().escape_debug().to_string()
}

impl vmc_linux::KernelFiles for KernelFiles<'_> {
    fn symbols(&mut self, kernel: &KernelIdentity, fits: &Fits<'_>) -> Option<GivenSymbols> {
        let candidates = self.candidates(kernel, &[Kind::Elf, Kind::Map, Kind::Isf]);
        self.first(candidates, |candidate, bytes, limits| {
            let (source, table) = match candidate.kind {
                Kind::Elf => ("vmlinux", elf::symbols(&bytes, limits)?),
                Kind::Isf => ("isf", isf::symbols(&bytes, limits)?),
                _ => ("system-map", map::symbols(&bytes, limits)?),
            };
            if fits(&table) {
                Ok(GivenSymbols { source, table })
            } else {
                Err("its symbols are not where this kernel's are".into())
            }
        })
    }

    fn types(&mut self, kernel: &KernelIdentity, checks: &Checks<'_>) -> Option<GivenTypes> {
        let candidates = self.candidates(kernel, &[Kind::Elf, Kind::Btf, Kind::Isf]);
        let whole = self.first(candidates, |candidate, bytes, limits| match candidate.kind {
            Kind::Elf => elf::types(bytes, kernel, checks, limits),
            Kind::Isf => isf::types(&bytes, kernel, checks, limits),
            _ => btf(bytes, checks, limits),
        });
        // A module knows a part of the kernel's types alone.
        whole.or_else(|| {
            let modules = self.candidates(kernel, &[Kind::Module]);
            self.first(modules, |candidate, bytes, limits| {
                module::types(&candidate.path, bytes, kernel, checks, limits)
            })
        })
    }
}

/// BTF says nothing of the kernel that it is of: what it describes has to be in memory.
fn btf(bytes: Vec<u8>, checks: &Checks<'_>, limits: &Limits) -> Result<GivenTypes, String> {
    let btf = Btf::parse(bytes.into(), limits).map_err(|why| format!("its BTF cannot be read: {why}"))?;
    if (checks.types)(&btf) {
        Ok(GivenTypes { source: "btf", types: Box::new(btf) })
    } else {
        Err("its BTF does not describe this kernel's first task".into())
    }
}

/// Is a file of the kernel that was found? By its build-id, by its banner, or by its symbols.
fn same_kernel(
    kernel: &KernelIdentity,
    build_id: Option<&[u8]>,
    banner: Option<&str>,
    symbols: impl FnOnce() -> Result<bool, String>,
) -> Result<(), String> {
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match (build_id, kernel.build_id.as_deref()) {
        (Some(theirs), Some(ours)) if theirs == ours => return Ok(()),
        (Some(theirs), Some(ours)) => {
            return Err(format!(
                "it is of another kernel: its build-id is {}, not {}",
                hex(theirs),
                hex(ours)
            ));
        }
        _ => {}
    }
    match (banner, kernel.banner.as_deref()) {
        (Some(theirs), Some(ours)) if theirs == ours.trim_end() => Ok(()),
        (Some(theirs), Some(_)) => {
            let theirs: String = theirs.chars().take(100).collect();
            Err(format!("it is of another kernel: its banner is {:?}", theirs))
        }
        _ if symbols()? => Ok(()),
        _ => Err("its symbols are not where this kernel's are".into()),
    }
}
