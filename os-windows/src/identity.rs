//! What a Windows kernel, or another image, is known by.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use vmc::{PhysAddr, VirtAddr};

/// What an image says of its PDB file: the `RSDS` record of its debug directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CodeView {
    /// The file's name. The guest's word: anything may stand in it, paths too.
    pub name: String,
    /// The GUID's bytes as they lie in memory.
    pub guid: [u8; 16],
    /// How often the file was written since it got the GUID.
    pub age: u32,
}

impl CodeView {
    /// The GUID in the order in which it is written: 32 upper-case hex digits.
    #[must_use]
    pub fn guid_text(&self) -> String {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.guid;
        let order = [d, c, b, a, f, e, h, g];
        order.into_iter().chain(rest).map(|byte| alloc::format!("{byte:02X}")).collect()
    }
}

impl fmt::Display for CodeView {
    /// As symbol stores name the file's folder: the GUID, and the age in hex.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:X}", self.guid_text(), self.age)
    }
}

/// What a kernel is known by, before its symbols and types are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelIdentity {
    /// Where its image begins.
    pub base: VirtAddr,
    /// The image's size in bytes, 0 where nothing tells it.
    pub size: u64,
    /// What its header says of its PDB, where the header is in memory.
    pub code_view: Option<CodeView>,
    /// When it was linked (or a hash in place of that), by its header or the list of modules.
    pub timestamp: Option<u32>,
    /// The build number, where something tells it without symbols.
    pub build: Option<u32>,
}

impl fmt::Display for KernelIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the Windows kernel at {}", self.base)?;
        match (&self.code_view, self.timestamp) {
            (Some(pdb), _) => write!(f, " ({} {pdb})", vmc::text::printable(&pdb.name)),
            (None, Some(timestamp)) => write!(f, " (timestamp {timestamp:#x}, size {:#x})", self.size),
            (None, None) => Ok(()),
        }
    }
}

/// What is known of a guest beforehand: from the header of a crash dump, or from the user. Each is verified where it can be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// The page table root of the System process.
    pub page_table_root: Option<PhysAddr>,
    /// Where ntoskrnl begins.
    pub kernel_base: Option<VirtAddr>,
    /// The variable `PsLoadedModuleList`.
    pub loaded_module_list: Option<VirtAddr>,
    /// The variable `PsActiveProcessHead`.
    pub active_process_head: Option<VirtAddr>,
    /// The block `KdDebuggerDataBlock`.
    pub debugger_data: Option<VirtAddr>,
    /// ntoskrnl's size in bytes, timestamp: from the list of drivers of a triage dump.
    pub kernel_size: Option<u64>,
    /// The same list's timestamp of it.
    pub kernel_timestamp: Option<u32>,
    /// The build number.
    pub build: Option<u32>,
    /// How many processors there are.
    pub processors: Option<u32>,
    /// The guest's clock, in nanoseconds since 1970 (UTC).
    pub system_time: Option<i128>,
    /// The kernel's modules in their order: a triage dump has them in place of the kernel's own list.
    pub modules: Vec<LoadedModule>,
}

impl Hints {
    /// The kernel's size and timestamp, where they are told or the list of modules has an image at its base.
    pub(crate) fn kernel_image(&self) -> (Option<u64>, Option<u32>) {
        let listed = self.modules.iter().find(|module| Some(module.base) == self.kernel_base);
        let size = self.kernel_size.or_else(|| listed.map(|module| module.size));
        (size, self.kernel_timestamp.or_else(|| listed.and_then(|module| module.timestamp)))
    }
}

/// A module of the kernel, as something other than the kernel's own list tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadedModule {
    /// Its name, or its path.
    pub name: String,
    /// Where it begins.
    pub base: VirtAddr,
    /// Its size in bytes.
    pub size: u64,
    /// When it was linked (or a hash in place of that).
    pub timestamp: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_record_names_its_folder_as_symbol_stores_do() {
        // The bytes of GUID 5278AFF8-6C34-1677-D7D7-835C85B7B844 as they lie in memory.
        let guid =
            [0xf8, 0xaf, 0x78, 0x52, 0x34, 0x6c, 0x77, 0x16, 0xd7, 0xd7, 0x83, 0x5c, 0x85, 0xb7, 0xb8, 0x44];
        let record = CodeView { name: "ntkrnlmp.pdb".into(), guid, age: 0x1a };
        assert_eq!(record.to_string(), "5278AFF86C341677D7D7835C85B7B8441A");
    }
}
