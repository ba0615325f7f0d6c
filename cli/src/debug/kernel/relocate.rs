//! Relocations of debug sections in files that were not linked: kernel modules (`.ko`).
//!
//! In such a file (`ET_REL`) a reference from one section into another is zero until the linker, for which the module loader
//! stands in, has put symbol plus addend there. Source of the numbers: the psABI supplements of x86-64 (table 4.9) and of
//! aarch64 (section 5.7.3). Both put the addend into the relocation (`RELA`), none into the section.

use object::elf;
use object::read::elf::ElfFile64;
use object::{
    Architecture, Object, ObjectKind, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget,
};

/// How a relocation is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Not at all.
    Nothing,
    /// By so many bytes of the sum.
    Sum(usize),
}

/// Puts the sums into a section's unpacked bytes. Those of linked files have them already.
pub(super) fn apply<'d>(
    file: &ElfFile64<'d, object::LittleEndian>,
    section: &impl ObjectSection<'d>,
    bytes: &mut [u8],
) -> Result<(), String> {
    for (at, relocation) in section.relocations() {
        let RelocationFlags::Elf { r_type } = relocation.flags() else { continue };
        if relocation.has_implicit_addend() {
            return Err(format!("a relocation at {at:#x} has no addend"));
        }
        let width = match way(file.architecture(), r_type) {
            Some(Way::Sum(width)) => width,
            Some(Way::Nothing) => continue,
            None => return Err(format!("a relocation of kind {} at {at:#x} is not understood", r_type.0)),
        };
        let symbol = match relocation.target() {
            RelocationTarget::Symbol(index) => {
                let symbol = file.symbol_by_index(index);
                symbol
                    .map_err(|_| format!("a relocation at {at:#x} is by a symbol that is not there"))?
                    .address()
            }
            // By no symbol: the addend is all.
            _ => 0,
        };
        let sum = symbol.wrapping_add_signed(relocation.addend()).to_le_bytes();
        let place = usize::try_from(at).ok().and_then(|at| bytes.get_mut(at..at.checked_add(width)?));
        match (place, sum.get(..width)) {
            (Some(place), Some(sum)) => place.copy_from_slice(sum),
            _ => return Err(format!("a relocation at {at:#x} is beyond its end")),
        }
    }
    Ok(())
}

/// Does the section of this file have to be relocated?
pub(super) fn needed<'d>(
    file: &ElfFile64<'d, object::LittleEndian>,
    section: &impl ObjectSection<'d>,
) -> bool {
    file.kind() == ObjectKind::Relocatable && section.relocations().next().is_some()
}

fn way(machine: Architecture, kind: elf::RelocationType) -> Option<Way> {
    Some(match (machine, kind) {
        (Architecture::X86_64, elf::R_X86_64_NONE) | (Architecture::Aarch64, elf::R_AARCH64_NONE) => {
            Way::Nothing
        }
        (Architecture::X86_64, elf::R_X86_64_64) | (Architecture::Aarch64, elf::R_AARCH64_ABS64) => {
            Way::Sum(8)
        }
        (Architecture::X86_64, elf::R_X86_64_32 | elf::R_X86_64_32S)
        | (Architecture::Aarch64, elf::R_AARCH64_ABS32) => Way::Sum(4),
        _ => return None,
    })
}
