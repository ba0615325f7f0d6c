//! The headers of an ELF core: which part of the file holds which memory.
//!
//! One note segment comes first and the loadable ones after it, aligned to nothing (`p_align` 0), as the kernel's `/proc/vmcore` and
//! QEMU have it: crash tells a dump of a whole machine by that. Where program headers are too many for their count, the first
//! section header has it (`PN_XNUM`, ELF gABI).

use object::LittleEndian;
use object::elf::{
    ELFCLASS64, ELFDATA2LSB, ELFMAG, ELFOSABI_NONE, EM_AARCH64, EM_X86_64, ET_CORE, EV_CURRENT, FileFlags,
    FileHeader64, FileVersion, Ident, PF_R, PF_W, PF_X, PN_XNUM, PT_LOAD, PT_NOTE, ProgramFlags,
    ProgramHeader64, ProgramType, SHT_NULL, SectionFlags, SectionHeader64, SymbolSection,
};
use object::endian::{U16, U32, U64};
use object::pod::bytes_of;
use vmc::Architecture;

const E: LittleEndian = LittleEndian;
pub(super) const FILE_HEADER: u64 = size_of::<FileHeader64<LittleEndian>>() as u64;
pub(super) const PROGRAM_HEADER: u64 = size_of::<ProgramHeader64<LittleEndian>>() as u64;
pub(super) const SECTION_HEADER: u64 = size_of::<SectionHeader64<LittleEndian>>() as u64;

/// A loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) offset: u64,
    pub(super) virt: u64,
    pub(super) physical: u64,
    pub(super) len: u64,
}

/// Are so many program headers more than the file header can count?
pub(super) const fn too_many(count: u64) -> bool {
    count >= PN_XNUM as u64
}

/// How many bytes the headers of `loads` loadable segments take.
pub(super) const fn len(loads: u64) -> u64 {
    let count = loads.saturating_add(1);
    let section = if too_many(count) { SECTION_HEADER } else { 0 };
    FILE_HEADER.saturating_add(count.saturating_mul(PROGRAM_HEADER)).saturating_add(section)
}

/// The headers of a core with notes in the `notes_len` bytes behind them.
pub(super) fn encode(architecture: Architecture, loads: &[Load], notes_len: u64) -> Vec<u8> {
    let count = loads.len() as u64 + 1;
    let many = too_many(count);
    let notes_at = len(loads.len() as u64);
    let sections_at = if many { notes_at - SECTION_HEADER } else { 0 };
    let half = |number: u64| U16::new(E, number as u16);
    let header = FileHeader64 {
        e_ident: Ident {
            magic: ELFMAG,
            class: ELFCLASS64,
            data: ELFDATA2LSB,
            version: FileVersion(EV_CURRENT.0),
            os_abi: ELFOSABI_NONE,
            abi_version: 0,
            padding: [0; 7],
        },
        e_type: U16::new(E, ET_CORE),
        e_machine: U16::new(
            E,
            match architecture {
                Architecture::X86_64 => EM_X86_64,
                Architecture::Aarch64 => EM_AARCH64,
            },
        ),
        e_version: U32::new(E, EV_CURRENT.0.into()),
        e_entry: U64::new(E, 0),
        e_phoff: U64::new(E, FILE_HEADER),
        e_shoff: U64::new(E, sections_at),
        e_flags: U32::new(E, FileFlags(0)),
        e_ehsize: half(FILE_HEADER),
        e_phentsize: half(PROGRAM_HEADER),
        e_phnum: half(if many { PN_XNUM.into() } else { count }),
        e_shentsize: half(if many { SECTION_HEADER } else { 0 }),
        e_shnum: half(many.into()),
        e_shstrndx: U16::new(E, SymbolSection(0)),
    };
    let mut bytes = bytes_of(&header).to_vec();
    let note = Load { offset: notes_at, virt: 0, physical: 0, len: notes_len };
    bytes.extend(bytes_of(&segment(PT_NOTE, ProgramFlags(0), &note)));
    for load in loads {
        bytes.extend(bytes_of(&segment(PT_LOAD, PF_R | PF_W | PF_X, load)));
    }
    if many {
        let section = SectionHeader64 {
            sh_name: U32::new(E, 0),
            sh_type: U32::new(E, SHT_NULL),
            sh_flags: U64::new(E, SectionFlags(0)),
            sh_addr: U64::new(E, 0),
            sh_offset: U64::new(E, 0),
            sh_size: U64::new(E, 0),
            sh_link: U32::new(E, 0),
            sh_info: U32::new(E, count as u32),
            sh_addralign: U64::new(E, 0),
            sh_entsize: U64::new(E, 0),
        };
        bytes.extend(bytes_of(&section));
    }
    bytes
}

fn segment(kind: ProgramType, flags: ProgramFlags, load: &Load) -> ProgramHeader64<LittleEndian> {
    ProgramHeader64 {
        p_type: U32::new(E, kind),
        p_flags: U32::new(E, flags),
        p_offset: U64::new(E, load.offset),
        p_vaddr: U64::new(E, load.virt),
        p_paddr: U64::new(E, load.physical),
        p_filesz: U64::new(E, load.len),
        p_memsz: U64::new(E, load.len),
        p_align: U64::new(E, 0),
    }
}
