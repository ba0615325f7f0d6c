//! Types out of DWARF, versions 2 to 5.
//!
//! Source: DWARF 5, chapters 5 and 7. Each unit's outermost entries are gone through once to see which structures it has;
//! what they contain is skipped by `DW_AT_sibling`. Type units are not read: the kernel is not built with them.

mod entry;

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;

use gimli::{Abbreviations, DebugAbbrev, DebugInfo, DebugInfoOffset, EndianSlice, LittleEndian, UnitHeader};
use hashbrown::HashMap;
use once_cell::race::OnceBox;
use vmc::Limits;
use vmc::layout::{LayoutError, Layouts, Member, StructLayout, Types};

use crate::bytes::Bytes;
use crate::error::TypesError;
use crate::graph::{self, Graph, Kind};
use crate::hash;

pub(crate) type Slice<'d> = EndianSlice<'d, LittleEndian>;

/// The sections that types are in, unpacked; what a file lacks is empty.
#[derive(Clone, Debug, Default)]
pub struct Sections {
    /// `.debug_info`.
    pub info: Bytes,
    /// `.debug_abbrev`.
    pub abbrev: Bytes,
    /// `.debug_str`.
    pub str: Bytes,
    /// `.debug_line_str`.
    pub line_str: Bytes,
    /// `.debug_str_offsets`.
    pub str_offsets: Bytes,
}

/// A unit, without its bytes.
#[derive(Debug)]
struct Unit {
    /// Where it begins in `.debug_info`, and where the next one does.
    start: usize,
    end: usize,
    abbreviations: OnceBox<Abbreviations>,
}

/// Types out of DWARF.
#[derive(Debug)]
pub struct DwarfTypes {
    sections: Sections,
    units: Vec<Unit>,
    /// Structures and unions with members, by the hash of their name: where the first of each stands.
    named: HashMap<u64, usize>,
    depth: usize,
    most_members: usize,
}

impl DwarfTypes {
    /// The types in these sections.
    ///
    /// # Errors
    /// [`TypesError`] where they are damaged, or have no structure.
    pub fn load(sections: Sections, limits: &Limits) -> Result<Self, TypesError> {
        let mut types = Self {
            sections,
            units: Vec::new(),
            named: HashMap::new(),
            depth: limits.type_depth,
            most_members: limits.type_members,
        };
        let (mut units, mut named) = (Vec::new(), HashMap::new());
        let info = DebugInfo::new(&types.sections.info, LittleEndian);
        let mut headers = info.units();
        loop {
            let failed = |why: gimli::Error| TypesError::Dwarf { unit: units.len(), reason: why.to_string() };
            let Some(header) = headers.next().map_err(failed)? else { break };
            let (unit, found) = types.unit(&header).map_err(failed)?;
            for (name, place) in found {
                if named.len() < limits.btf_types {
                    named.entry(name).or_insert(place);
                }
            }
            units.push(unit);
        }
        if named.is_empty() {
            return Err(TypesError::Empty);
        }
        (types.units, types.named) = (units, named);
        Ok(types)
    }

    /// A unit, and the structures that it has.
    fn unit(&self, header: &UnitHeader<Slice<'_>>) -> gimli::Result<(Unit, Vec<(u64, usize)>)> {
        let start = header.offset().0;
        let end = start.saturating_add(header.length_including_self());
        let abbreviations = header.abbreviations(&self.abbrev())?;
        let found = entry::structures(self, header, &abbreviations)?;
        Ok((Unit { start, end, abbreviations: OnceBox::new() }, found))
    }

    fn abbrev(&self) -> DebugAbbrev<Slice<'_>> {
        DebugAbbrev::new(&self.sections.abbrev, LittleEndian)
    }

    /// The unit that the entry at `place` is in.
    fn unit_of(&self, place: usize) -> Option<(UnitHeader<Slice<'_>>, &Abbreviations)> {
        let behind = self.units.partition_point(|unit| unit.start <= place);
        let unit = self.units.get(behind.checked_sub(1)?).filter(|unit| place < unit.end)?;
        let info = DebugInfo::new(&self.sections.info, LittleEndian);
        let header = info.header_from_offset(DebugInfoOffset(unit.start)).ok()?;
        let abbreviations =
            unit.abbreviations.get_or_try_init(|| header.abbreviations(&self.abbrev()).map(Box::new));
        Some((header, abbreviations.ok()?))
    }
}

impl Graph for DwarfTypes {
    type Id = usize;

    fn named(&self, name: &str) -> Option<usize> {
        let place = *self.named.get(&hash(name.as_bytes()))?;
        // Another name may have the same hash.
        match self.kind(place) {
            Ok(Kind::Aggregate { name: found, .. }) if found == name.as_bytes() => Some(place),
            _ => None,
        }
    }

    fn kind(&self, id: usize) -> Result<Kind<'_, usize>, LayoutError> {
        let damaged = |reason| LayoutError::Damaged { id: self.number(id), reason };
        let (header, abbreviations) = self.unit_of(id).ok_or_else(|| damaged("it is in no unit"))?;
        let read = entry::kind(self, &header, abbreviations, id);
        read.map_err(|_| damaged("its entry cannot be read"))?.ok_or_else(|| damaged("it is no type"))
    }

    fn number(&self, id: usize) -> u32 {
        u32::try_from(id).unwrap_or(u32::MAX)
    }

    fn depth(&self) -> usize {
        self.depth
    }

    fn most_members(&self) -> usize {
        self.most_members
    }
}

impl Types for DwarfTypes {
    fn member(&self, structure: &str, path: &str) -> Result<Member, LayoutError> {
        graph::member(self, structure, path)
    }

    fn size_of(&self, structure: &str) -> Result<u64, LayoutError> {
        graph::size_of(self, structure)
    }
}

impl Layouts for DwarfTypes {
    fn layout(&self, name: &str, limits: &Limits) -> Result<StructLayout, LayoutError> {
        graph::layout(self, name, limits)
    }
}
