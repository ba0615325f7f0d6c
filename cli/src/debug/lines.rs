//! Inlined functions and source lines out of DWARF.

use std::borrow::Cow;

use addr2line::Context;
use addr2line::gimli::{Dwarf, DwarfSections, EndianSlice, LittleEndian, SectionId};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection};

use super::refine::{Function, Source};

type Slice<'d> = EndianSlice<'d, LittleEndian>;

/// Bytes of one section, unpacked.
const SECTION_BYTES: u64 = 8 << 30;
/// Functions that may be inlined into one another at one address.
const INLINED: usize = 64;

/// The DWARF sections of a debug file.
pub(super) struct Sections<'d>(DwarfSections<Cow<'d, [u8]>>);

impl<'d> Sections<'d> {
    pub(super) fn of(file: &ElfFile64<'d, object::LittleEndian>) -> Option<Self> {
        let load = |id: SectionId| -> Result<Cow<'d, [u8]>, object::Error> {
            let Some(section) = file.section_by_name(id.name()) else { return Ok(Cow::Borrowed(&[])) };
            let data = section.compressed_data()?;
            if data.uncompressed_size > SECTION_BYTES {
                return Ok(Cow::Borrowed(&[]));
            }
            data.decompress()
        };
        DwarfSections::load(load).ok().map(Self)
    }

    /// What can be looked up in them.
    pub(super) fn lines(&self) -> Option<Lines<'_>> {
        let dwarf: Dwarf<Slice<'_>> = self.0.borrow(|section| EndianSlice::new(section, LittleEndian));
        Context::from_dwarf(dwarf).ok().map(Lines)
    }
}

/// Functions and lines by address.
pub(super) struct Lines<'d>(Context<Slice<'d>>);

impl Lines<'_> {
    /// The functions at `address`, innermost first, each with where it stands.
    pub(super) fn at(&self, address: u64) -> Vec<Function> {
        let mut found = Vec::new();
        // addr2line adds to it without a check.
        if address > i64::MAX.cast_unsigned() {
            return found;
        }
        let Ok(mut frames) = self.0.find_frames(address).skip_all_loads() else { return found };
        while let Ok(Some(frame)) = frames.next() {
            let name = frame.function.and_then(|function| function.raw_name().ok().map(Cow::into_owned));
            let source = frame
                .location
                .and_then(|location| Some(Source { file: location.file?.to_owned(), line: location.line? }));
            found.push(Function { name, source });
            if found.len() >= INLINED {
                break;
            }
        }
        found
    }
}
