//! What can be said of a kernel of which no file is at hand: what it exports, and the layouts that public headers fix.
//!
//! `_KUSER_SHARED_DATA` is the same for all x64 Windows where it has a member at all (ntddk.h of the WDK); `NtBuildNumber` is in it
//! since Windows 10, zeros stand there before. The loader's entries begin alike since NT (winternl.h of the SDK has those of user mode,
//! whose beginning the kernel's share). Processes and threads have their members where each build likes: of them nothing is derived.

use alloc::boxed::Box;
use alloc::vec::Vec;

use vmc::Limits;
use vmc::layout::{LayoutError, Layouts, Member, StructLayout, StructMember, Types};
use vmc::{VirtAddr, VirtualMemory};

use crate::files::GivenKernel;
use crate::stack::names::exports;
use crate::types::KernelTypes;

/// Members with their offsets and sizes, in bytes.
type Known = &'static [(&'static str, u64, u64)];

/// The structures.
const STRUCTURES: [(&str, Known); 2] = [
    (
        "_KUSER_SHARED_DATA",
        &[
            ("SystemTime", 0x14, 12),
            ("NtSystemRoot", 0x30, 520),
            ("NtBuildNumber", 0x260, 4),
            ("NtMajorVersion", 0x26c, 4),
            ("NtMinorVersion", 0x270, 4),
            ("ActiveProcessorCount", 0x3c0, 4),
        ],
    ),
    (
        "_KLDR_DATA_TABLE_ENTRY",
        &[
            ("InLoadOrderLinks", 0, 16),
            ("DllBase", 0x30, 8),
            ("SizeOfImage", 0x40, 4),
            ("FullDllName", 0x48, 16),
            ("BaseDllName", 0x58, 16),
        ],
    ),
];

/// Layouts that public headers fix.
#[derive(Clone, Copy, Debug)]
struct PublicHeaders;

fn members(structure: &str) -> Result<Known, LayoutError> {
    let found = STRUCTURES.iter().find(|(name, _)| *name == structure);
    found.map(|(_, members)| *members).ok_or_else(|| LayoutError::NoType { name: structure.into() })
}

impl Types for PublicHeaders {
    fn member(&self, structure: &str, path: &str) -> Result<Member, LayoutError> {
        let found = members(structure)?.iter().find(|(name, ..)| *name == path);
        let missing = || LayoutError::NoMember { structure: structure.into(), member: path.into() };
        found.map(|(_, offset, size)| Member { offset: *offset, size: *size }).ok_or_else(missing)
    }

    fn size_of(&self, structure: &str) -> Result<u64, LayoutError> {
        // Builds add to their ends.
        Err(LayoutError::NoType { name: structure.into() })
    }
}

impl Layouts for PublicHeaders {
    fn layout(&self, name: &str, _: &Limits) -> Result<StructLayout, LayoutError> {
        let known = members(name)?;
        let member = |(name, offset, size): &(&str, u64, u64)| StructMember {
            name: (*name).into(),
            bit_offset: offset * 8,
            bit_size: size * 8,
            type_name: alloc::format!("unsigned char [{size}]"),
        };
        let size = known.iter().map(|(_, offset, size)| offset + size).max().unwrap_or_default();
        Ok(StructLayout { name: name.into(), size, members: known.iter().map(member).collect::<Vec<_>>() })
    }
}

/// Types and symbols of the kernel at `base`, as far as they can be had without a file.
pub(crate) fn kernel(memory: &dyn VirtualMemory, base: VirtAddr, limits: &Limits) -> GivenKernel {
    GivenKernel {
        source: KernelTypes::DERIVED,
        types: Box::new(PublicHeaders),
        symbols: exports(memory, base, limits),
        code_view: None,
    }
}
