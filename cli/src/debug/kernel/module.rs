//! A kernel module's DWARF (`.ko`, or its debug part `.ko.debug`) as types of the kernel: a module has the structures that its
//! source includes, `task_struct` and its kin nearly always among them.
//!
//! Which release a module is for, `vermagic=` in its `.modinfo` says (`MODULE_INFO`, include/linux/vermagic.h, Linux 6.12). Debug
//! parts have lost what is in that section; there a directory has to have the release's name. Two builds may share a release:
//! that the types are those of this kernel, its first task has to show.

use std::path::Path;
use std::sync::Arc;

use object::{Object, ObjectKind, ObjectSection};
use vmc::Limits;
use vmc::layout::Types;
use vmc_linux::{Checks, GivenTypes, KernelIdentity};
use vmc_types::DwarfTypes;

use super::elf;

/// What a module has to describe, so that a kernel's tasks, their memory and its modules can be read.
const NEEDED: [&str; 3] = ["task_struct", "mm_struct", "module"];
/// What the entry of `.modinfo` begins with that tells the release.
const VERMAGIC: &[u8] = b"vermagic=";

/// The kernel's types, if the module is for that very kernel.
pub(super) fn types(
    path: &Path,
    bytes: Vec<u8>,
    kernel: &KernelIdentity,
    checks: &Checks<'_>,
    limits: &Limits,
) -> Result<GivenTypes, String> {
    let types = load(path, bytes, &kernel.release, limits)?;
    if !(checks.types)(&types) {
        return Err("its DWARF does not describe this kernel's first task".into());
    }
    Ok(GivenTypes { source: "dwarf", types: Box::new(types) })
}

/// The types of a module for a kernel of this release.
fn load(path: &Path, bytes: Vec<u8>, release: &str, limits: &Limits) -> Result<DwarfTypes, String> {
    let bytes = Arc::new(bytes);
    let file = elf::parse(&bytes)?;
    if file.kind() != ObjectKind::Relocatable {
        return Err("it is no kernel module: it is linked already".into());
    }
    let info = file.section_by_name(".modinfo").and_then(|section| section.data().ok()).unwrap_or_default();
    match vermagic(info) {
        // What follows the release is how the kernel was configured.
        Some(magic) if magic.split(|byte| *byte == b' ').next() == Some(release.as_bytes()) => {}
        Some(magic) => {
            let magic: String = String::from_utf8_lossy(magic).chars().take(100).collect();
            return Err(format!("it is of another kernel: its vermagic is {magic:?}"));
        }
        None if path.iter().any(|part| part == release) => {}
        None => {
            return Err(format!("nothing says that it is of {release}: neither vermagic nor a directory"));
        }
    }
    let sections = elf::sections(&file, &bytes)?;
    if sections.info.is_empty() {
        return Err("it has no DWARF (.debug_info)".into());
    }
    let types = DwarfTypes::load(sections, limits).map_err(|why| why.to_string())?;
    match NEEDED.iter().find(|name| types.size_of(name).is_err()) {
        Some(missing) => Err(format!("its DWARF has no {missing}")),
        None => Ok(types),
    }
}

/// What `.modinfo`, strings that end with a zero byte, says of the kernel.
fn vermagic(info: &[u8]) -> Option<&[u8]> {
    info.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(VERMAGIC))
}
