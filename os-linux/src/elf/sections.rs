//! The sections for unwinding.

use vmc::VirtAddr;
use vmc::bytes::cstr_at;
use vmc_unwind::{NoTable, Section, Sections, UnwindTable, eh_frame_address};

use super::headers::{Part, SectionFacts};
use super::image::ElfImage;

impl ElfImage<'_, '_> {
    /// The unwind table: by the program header for `.eh_frame_hdr`, which is mapped, else by the section headers.
    pub(super) fn read_table(&self) -> Result<UnwindTable, NoTable> {
        let limit = self.limits.unwind_bytes;
        let address_size = self.headers.address_size;
        let by_name = self.section_named(b".eh_frame");
        let Some(header) = self.headers.eh_frame_hdr else {
            let Some(part) = by_name else { return self.debug_frame().ok_or(NoTable::None) };
            let eh_frame = self.section(part.address, part.size, limit).ok_or(NoTable::None)?;
            return Ok(UnwindTable::new(Sections { eh_frame, address_size, ..Sections::default() }));
        };
        let eh_frame_hdr = self.section(header.address, header.size, limit).ok_or(NoTable::None)?;
        let Some(address) = eh_frame_address(&eh_frame_hdr, address_size) else {
            let lacking = eh_frame_hdr.missing.first();
            return Err(
                lacking.map_or(NoTable::None, |_| NoTable::NotResident(VirtAddr::new(header.address)))
            );
        };
        // No program header tells where `.eh_frame` ends. Without section headers it ends with its segment.
        let size = match by_name {
            Some(part) if part.address == address => part.size,
            _ => u64::MAX,
        };
        let eh_frame = self.section(address, size, limit).ok_or(NoTable::None)?;
        Ok(UnwindTable::new(Sections { eh_frame_hdr, eh_frame, address_size, ..Sections::default() }))
    }

    /// The table of `.debug_frame`, which nothing maps.
    pub(super) fn debug_frame(&self) -> Option<UnwindTable> {
        let debug_frame = match self.section_named(b".debug_frame") {
            Some(part) => {
                let (bytes, missing) = self.source.read(part.offset, part.size, self.limits.unwind_bytes)?;
                Section { address: 0, bytes, missing }
            }
            None => Section::new(0, self.unpacked(b".debug_frame", b".zdebug_frame")?),
        };
        let address_size = self.headers.address_size;
        Some(UnwindTable::new(Sections { debug_frame, address_size, ..Sections::default() }))
    }

    fn section(&self, address: u64, size: u64, limit: usize) -> Option<Section> {
        let (bytes, missing) = self.read_at(address, size, limit)?;
        Some(Section { address, bytes, missing })
    }

    /// The section of this name, where the page cache has the section headers. Compressed ones are passed over.
    pub(super) fn section_named(&self, name: &[u8]) -> Option<Part> {
        let sections = self.headers.sections(&self.source, self.limits);
        let names = self.headers.section_names(&sections, &self.source, self.limits)?;
        let named = |section: &&SectionFacts| cstr_at(&names, section.name as usize) == Some(name);
        let found = sections.iter().find(|section| named(section) && !section.compressed);
        found.map(|section| section.part)
    }
}
