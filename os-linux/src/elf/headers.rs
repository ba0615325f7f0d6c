//! Program headers and section headers, of 64-bit and of 32-bit images.

use alloc::vec::Vec;
use core::ops::Range;

use object::LittleEndian;
use object::elf::{
    FileHeader32, FileHeader64, PF_X, PT_DYNAMIC, PT_GNU_EH_FRAME, PT_LOAD, PT_NOTE, SHF_COMPRESSED,
};
use object::read::elf::{FileHeader, ProgramHeader as _, SectionHeader as _};
use vmc::Limits;
use vmc_unwind::AddressSize;

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

/// The structures of 64-bit images, and of 32-bit ones.
pub(super) type Elf64 = FileHeader64<LittleEndian>;
pub(super) type Elf32 = FileHeader32<LittleEndian>;

/// What the headers say.
#[derive(Debug)]
pub(super) struct Headers {
    /// Which of the two the image is.
    pub(super) address_size: AddressSize,
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

impl Headers {
    /// The headers of a little-endian ELF file.
    pub(super) fn read(source: &Source<'_, '_>, limits: &Limits) -> Option<Self> {
        // What parses a header says whether it is of its class.
        Self::read_as::<Elf64>(source, limits, AddressSize::Eight)
            .or_else(|| Self::read_as::<Elf32>(source, limits, AddressSize::Four))
    }

    fn read_as<E: FileHeader<Endian = LittleEndian>>(
        source: &Source<'_, '_>,
        limits: &Limits,
        address_size: AddressSize,
    ) -> Option<Self> {
        let endian = LittleEndian;
        let start = source.read_whole(0, size_of::<E>() as u64, size_of::<E>())?;
        let header = E::parse(start.as_slice()).ok()?;
        let entries = usize::from(header.e_phnum(endian)).min(limits.elf_headers);
        let size = size_of::<E::ProgramHeader>();
        if usize::from(header.e_phentsize(endian)) != size {
            return None;
        }
        let len = entries as u64 * size as u64;
        let table = source.read_whole(header.e_phoff(endian).into(), len, limits.elf_headers * size)?;
        let (table, _) = object::pod::slice_from_bytes::<E::ProgramHeader>(&table, entries).ok()?;
        let part = |header: &E::ProgramHeader| Part {
            offset: header.p_offset(endian).into(),
            address: header.p_vaddr(endian).into(),
            size: header.p_filesz(endian).into(),
        };
        let of_kind = |kind| table.iter().filter(move |header| header.p_type(endian) == kind);
        let segments = of_kind(PT_LOAD).map(|header| Segment {
            offset: header.p_offset(endian).into(),
            address: header.p_vaddr(endian).into(),
            file_size: header.p_filesz(endian).into(),
            memory_size: header.p_memsz(endian).into(),
            executable: header.p_flags(endian).contains(PF_X),
        });
        Some(Self {
            address_size,
            segments: segments.collect(),
            eh_frame_hdr: of_kind(PT_GNU_EH_FRAME).next().map(part),
            dynamic: of_kind(PT_DYNAMIC).next().map(part),
            notes: of_kind(PT_NOTE).map(part).collect(),
            sections: Part {
                offset: header.e_shoff(endian).into(),
                address: 0,
                size: u64::from(header.e_shnum(endian)) * size_of::<E::SectionHeader>() as u64,
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
        match self.address_size {
            AddressSize::Eight => self.sections_as::<Elf64>(source, limits),
            AddressSize::Four => self.sections_as::<Elf32>(source, limits),
        }
    }

    fn sections_as<E: FileHeader<Endian = LittleEndian>>(
        &self,
        source: &Source<'_, '_>,
        limits: &Limits,
    ) -> Vec<SectionFacts> {
        let endian = LittleEndian;
        let size = size_of::<E::SectionHeader>();
        let Some(bytes) =
            source.read_whole(self.sections.offset, self.sections.size, limits.elf_headers * size)
        else {
            return Vec::new();
        };
        let count = bytes.len() / size;
        let Ok((table, _)) = object::pod::slice_from_bytes::<E::SectionHeader>(&bytes, count) else {
            return Vec::new();
        };
        let facts = table.iter().map(|header| SectionFacts {
            name: header.sh_name(endian),
            kind: header.sh_type(endian).0,
            link: header.sh_link(endian) as usize,
            compressed: header.sh_flags(endian).contains(SHF_COMPRESSED),
            part: Part {
                offset: header.sh_offset(endian).into(),
                address: header.sh_addr(endian).into(),
                size: header.sh_size(endian).into(),
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
