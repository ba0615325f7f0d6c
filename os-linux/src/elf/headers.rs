//! Program headers and section headers.

use alloc::vec::Vec;
use core::ops::Range;

use object::LittleEndian;
use object::elf::{
    FileHeader64, PF_X, PT_DYNAMIC, PT_GNU_EH_FRAME, PT_LOAD, PT_NOTE, ProgramHeader64, SHF_COMPRESSED,
    SectionHeader64,
};
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};
use vmc::Limits;

use super::image::Source;

/// A loadable segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) address: u64,
    pub(super) file_size: u64,
    pub(super) memory_size: u64,
    pub(super) executable: bool,
}

impl Segment {
    /// The whole pages of the file that it maps.
    pub(super) fn file_pages(&self) -> Range<u64> {
        let end = self.offset.saturating_add(self.file_size);
        self.offset & !0xfff..end.checked_next_multiple_of(4096).unwrap_or(u64::MAX)
    }
}

/// A part of the image by address or offset, and its size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) offset: u64,
    pub(super) address: u64,
    pub(super) size: u64,
}

/// What the headers say.
#[derive(Debug)]
pub(super) struct Headers {
    pub(super) segments: Vec<Segment>,
    pub(super) eh_frame_hdr: Option<Part>,
    pub(super) dynamic: Option<Part>,
    pub(super) notes: Vec<Part>,
    sections: Part,
    section_names: usize,
}

/// A section.
#[derive(Clone, Debug)]
pub(super) struct SectionFacts {
    pub(super) name: u32,
    pub(super) kind: u32,
    pub(super) link: usize,
    pub(super) compressed: bool,
    pub(super) part: Part,
}

const HEADER: u64 = 64;

impl Headers {
    /// The headers of a 64-bit little-endian ELF file.
    pub(super) fn read(source: &Source<'_, '_>, limits: &Limits) -> Option<Self> {
        let endian = LittleEndian;
        let start = source.read_whole(0, HEADER, HEADER as usize)?;
        let header = FileHeader64::<LittleEndian>::parse(start.as_slice()).ok()?;
        let entries = usize::from(header.e_phnum(endian)).min(limits.elf_headers);
        if usize::from(header.e_phentsize(endian)) != size_of::<ProgramHeader64<LittleEndian>>() {
            return None;
        }
        let table =
            source.read_whole(header.e_phoff(endian), entries as u64 * 56, limits.elf_headers * 56)?;
        let (table, _) =
            object::pod::slice_from_bytes::<ProgramHeader64<LittleEndian>>(&table, entries).ok()?;
        let part = |header: &ProgramHeader64<LittleEndian>| Part {
            offset: header.p_offset(endian),
            address: header.p_vaddr(endian),
            size: header.p_filesz(endian),
        };
        let of_kind = |kind| table.iter().filter(move |header| header.p_type(endian) == kind);
        let segments = of_kind(PT_LOAD).map(|header| Segment {
            offset: header.p_offset(endian),
            address: header.p_vaddr(endian),
            file_size: header.p_filesz(endian),
            memory_size: header.p_memsz(endian),
            executable: header.p_flags(endian).contains(PF_X),
        });
        Some(Self {
            segments: segments.collect(),
            eh_frame_hdr: of_kind(PT_GNU_EH_FRAME).next().map(part),
            dynamic: of_kind(PT_DYNAMIC).next().map(part),
            notes: of_kind(PT_NOTE).map(part).collect(),
            sections: Part {
                offset: header.e_shoff(endian),
                address: 0,
                size: u64::from(header.e_shnum(endian)) * 64,
            },
            section_names: usize::from(header.e_shstrndx(endian).0),
        })
    }

    /// The segment whose bytes in the file hold the link-time address.
    pub(super) fn segment_at(&self, address: u64) -> Option<&Segment> {
        let holds =
            |segment: &&Segment| address >= segment.address && address - segment.address < segment.file_size;
        self.segments.iter().find(holds)
    }

    /// The section headers, where the page cache has them: nothing maps them.
    pub(super) fn sections(&self, source: &Source<'_, '_>, limits: &Limits) -> Vec<SectionFacts> {
        let endian = LittleEndian;
        let Some(bytes) =
            source.read_whole(self.sections.offset, self.sections.size, limits.elf_headers * 64)
        else {
            return Vec::new();
        };
        let count = bytes.len() / 64;
        let Ok((table, _)) = object::pod::slice_from_bytes::<SectionHeader64<LittleEndian>>(&bytes, count)
        else {
            return Vec::new();
        };
        let facts = table.iter().map(|header| SectionFacts {
            name: header.sh_name(endian),
            kind: header.sh_type(endian).0,
            link: header.sh_link(endian) as usize,
            compressed: header.sh_flags(endian).contains(SHF_COMPRESSED),
            part: Part {
                offset: header.sh_offset(endian),
                address: header.sh_addr(endian),
                size: header.sh_size(endian),
            },
        });
        facts.collect()
    }

    /// The names of the sections.
    pub(super) fn section_names(
        &self,
        sections: &[SectionFacts],
        source: &Source<'_, '_>,
        limits: &Limits,
    ) -> Option<Vec<u8>> {
        let names = sections.get(self.section_names)?.part;
        source.read_whole(names.offset, names.size, limits.string_bytes * 16)
    }
}
