//! Entries of DWARF: the outermost ones of a unit, and one as a type.

use alloc::vec::Vec;

use gimli::{
    Abbreviations, AttributeValue, DebugLineStr, DebugStr, DebugStrOffsets, DebugStrOffsetsBase, EntriesRaw,
    LittleEndian, UnitHeader, UnitOffset, constants as dw,
};

use super::{DwarfTypes, Slice};
use crate::graph::{Kind, Part};
use crate::hash;

/// Members of one structure: `struct task_struct` has some three hundred.
const MEMBERS: usize = 1 << 16;
/// Dimensions of one array.
const DIMENSIONS: usize = 16;

type Raw<'a, 's> = EntriesRaw<'a, Slice<'s>>;

/// What of an entry's attributes tells its type.
#[derive(Clone, Copy, Debug, Default)]
struct Facts<'s> {
    name: &'s [u8],
    size: Option<u64>,
    /// Where in `.debug_info` the type stands that it refers to.
    of: Option<usize>,
    declaration: bool,
    /// Where its next sibling stands in its unit.
    sibling: Option<UnitOffset>,
    /// A member's place in bytes, and those of bit-fields, by either custom.
    location: Option<u64>,
    bit_size: Option<u64>,
    data_bit_offset: Option<u64>,
    bit_offset: Option<u64>,
    count: Option<u64>,
    upper_bound: Option<u64>,
}

/// A unit as entries are read in it.
#[derive(Clone, Copy)]
struct Reader<'s> {
    types: &'s DwarfTypes,
    start: usize,
    format: gimli::Format,
    /// Where the unit's part of `.debug_str_offsets` begins.
    strings: usize,
}

impl<'s> Reader<'s> {
    fn new(
        types: &'s DwarfTypes,
        header: &UnitHeader<Slice<'s>>,
        abbreviations: &Abbreviations,
    ) -> gimli::Result<Self> {
        let format = header.format();
        let mut reader = Self {
            types,
            start: header.offset().0,
            format,
            strings: if format == gimli::Format::Dwarf64 { 16 } else { 8 },
        };
        if types.sections.str_offsets.is_empty() {
            return Ok(reader);
        }
        let mut raw = header.entries_raw(abbreviations, None)?;
        if let Some(abbreviation) = raw.read_abbreviation()? {
            for spec in abbreviation.attributes() {
                let attribute = raw.read_attribute(*spec)?;
                if let AttributeValue::DebugStrOffsetsBase(base) = attribute.value() {
                    reader.strings = base.0;
                }
            }
        }
        Ok(reader)
    }

    fn string(&self, value: AttributeValue<Slice<'s>>) -> &'s [u8] {
        let sections = &self.types.sections;
        let string = match value {
            AttributeValue::String(text) => Ok(text),
            AttributeValue::DebugStrRef(at) => DebugStr::new(&sections.str, LittleEndian).get_str(at),
            AttributeValue::DebugLineStrRef(at) => {
                DebugLineStr::from(Slice::new(&sections.line_str, LittleEndian)).get_str(at)
            }
            AttributeValue::DebugStrOffsetsIndex(index) => {
                let offsets = DebugStrOffsets::from(Slice::new(&sections.str_offsets, LittleEndian));
                let base = DebugStrOffsetsBase(self.strings);
                offsets
                    .get_str_offset(self.format, base, index)
                    .and_then(|at| DebugStr::new(&sections.str, LittleEndian).get_str(at))
            }
            _ => return &[],
        };
        string.map(|text| text.slice()).unwrap_or_default()
    }

    /// Reads the attributes of one entry.
    fn facts(&self, raw: &mut Raw<'_, 's>, abbreviation: &gimli::Abbreviation) -> gimli::Result<Facts<'s>> {
        let mut facts = Facts::default();
        for spec in abbreviation.attributes() {
            let attribute = raw.read_attribute(*spec)?;
            let value = attribute.value();
            match attribute.name() {
                dw::DW_AT_name => facts.name = self.string(value),
                dw::DW_AT_byte_size => facts.size = value.udata_value(),
                dw::DW_AT_type => {
                    facts.of = match value {
                        AttributeValue::UnitRef(offset) => self.start.checked_add(offset.0),
                        AttributeValue::DebugInfoRef(offset) => Some(offset.0),
                        _ => None,
                    }
                }
                dw::DW_AT_declaration => facts.declaration = matches!(value, AttributeValue::Flag(true)),
                dw::DW_AT_sibling => {
                    if let AttributeValue::UnitRef(offset) = value {
                        facts.sibling = Some(offset);
                    }
                }
                dw::DW_AT_data_member_location => facts.location = location(value),
                dw::DW_AT_bit_size => facts.bit_size = value.udata_value(),
                dw::DW_AT_data_bit_offset => facts.data_bit_offset = value.udata_value(),
                dw::DW_AT_bit_offset => facts.bit_offset = value.udata_value(),
                dw::DW_AT_count => facts.count = value.udata_value(),
                dw::DW_AT_upper_bound => facts.upper_bound = upper_bound(value),
                _ => {}
            }
        }
        Ok(facts)
    }
}

/// A member's place: a number, or in DWARF 2 an expression that adds one.
fn location(value: AttributeValue<Slice<'_>>) -> Option<u64> {
    let expression = match value {
        AttributeValue::Exprloc(expression) => expression.0,
        AttributeValue::Block(bytes) => bytes,
        other => return other.udata_value(),
    };
    let (operation, number) = expression.slice().split_first()?;
    (*operation == dw::DW_OP_plus_uconst.0).then_some(())?;
    gimli::Reader::read_uleb128(&mut Slice::new(number, LittleEndian)).ok()
}

/// The highest index of an array. Of one without elements it is -1, signed or as wide as a `size_t`; in one or two bytes it
/// is 255 or 65535: compilers take the shortest form for those of `char[256]`.
fn upper_bound(value: AttributeValue<Slice<'_>>) -> Option<u64> {
    match value {
        AttributeValue::Sdata(-1)
        | AttributeValue::Data4(u32::MAX)
        | AttributeValue::Data8(u64::MAX)
        | AttributeValue::Udata(u64::MAX) => None,
        other => other.udata_value(),
    }
}

/// The structures and unions among the outermost entries of a unit that have members: hash of the name, place.
pub(super) fn structures<'s>(
    types: &'s DwarfTypes,
    header: &UnitHeader<Slice<'s>>,
    abbreviations: &Abbreviations,
) -> gimli::Result<Vec<(u64, usize)>> {
    let mut found = Vec::new();
    let reader = Reader::new(types, header, abbreviations)?;
    let mut raw = header.entries_raw(abbreviations, None)?;
    // The depth of what a reader that was set on a sibling counts from.
    let mut base = 0;
    while !raw.is_empty() {
        let offset = raw.next_offset();
        let depth = base + raw.next_depth();
        let Some(abbreviation) = raw.read_abbreviation()? else {
            if depth <= 1 {
                break;
            }
            continue;
        };
        let aggregate = matches!(abbreviation.tag(), dw::DW_TAG_structure_type | dw::DW_TAG_union_type);
        let outermost = depth == 1;
        if !outermost || !(aggregate || abbreviation.has_children()) {
            raw.skip_attributes(abbreviation.attributes())?;
            continue;
        }
        let facts = reader.facts(&mut raw, abbreviation)?;
        if aggregate && !facts.declaration && !facts.name.is_empty() && abbreviation.has_children() {
            found.push((hash(facts.name), reader.start.saturating_add(offset.0)));
        }
        if let Some(sibling) = facts.sibling.filter(|_| abbreviation.has_children())
            && sibling.0 > offset.0
        {
            raw = header.entries_raw(abbreviations, Some(sibling))?;
            base = depth;
        }
    }
    Ok(found)
}

/// The type that stands at `place`; nothing where that is no type.
pub(super) fn kind<'s>(
    types: &'s DwarfTypes,
    header: &UnitHeader<Slice<'s>>,
    abbreviations: &Abbreviations,
    place: usize,
) -> gimli::Result<Option<Kind<'s, usize>>> {
    let reader = Reader::new(types, header, abbreviations)?;
    let Some(offset) = place.checked_sub(reader.start) else { return Ok(None) };
    let mut raw = header.entries_raw(abbreviations, Some(UnitOffset(offset)))?;
    let Some(abbreviation) = raw.read_abbreviation()? else { return Ok(None) };
    let facts = reader.facts(&mut raw, abbreviation)?;
    let (name, of) = (facts.name, facts.of);
    let aggregate = |keyword, raw| {
        if facts.declaration {
            return Ok(Kind::Declared { keyword, name });
        }
        let members = if abbreviation.has_children() { members(&reader, raw)? } else { Vec::new() };
        Ok(Kind::Aggregate { keyword, name, size: facts.size.unwrap_or(0), members })
    };
    let plain = |keyword| Kind::Plain { keyword, name, size: facts.size.unwrap_or(0) };
    Ok(Some(match abbreviation.tag() {
        dw::DW_TAG_base_type => plain(""),
        dw::DW_TAG_enumeration_type if facts.declaration => Kind::Declared { keyword: "enum ", name },
        dw::DW_TAG_enumeration_type => plain("enum "),
        dw::DW_TAG_pointer_type | dw::DW_TAG_reference_type => Kind::Pointer(of),
        dw::DW_TAG_structure_type => aggregate("struct ", raw)?,
        dw::DW_TAG_union_type => aggregate("union ", raw)?,
        dw::DW_TAG_typedef => Kind::Alias { name, of },
        dw::DW_TAG_const_type => Kind::Qualified { word: "const ", of },
        dw::DW_TAG_volatile_type => Kind::Qualified { word: "volatile ", of },
        dw::DW_TAG_restrict_type | dw::DW_TAG_atomic_type => Kind::Qualified { word: "", of },
        dw::DW_TAG_subroutine_type => Kind::Function,
        dw::DW_TAG_array_type => match of {
            Some(of) => {
                let count = if abbreviation.has_children() { elements(&reader, raw)? } else { 0 };
                Kind::Array(of, count)
            }
            None => return Ok(None),
        },
        _ => return Ok(None),
    }))
}

/// The members of the structure whose children `raw` stands at.
fn members<'s>(reader: &Reader<'s>, mut raw: Raw<'_, 's>) -> gimli::Result<Vec<Part<'s, usize>>> {
    let mut found = Vec::new();
    // Types may be defined within structures: only what stands at the first level is a member.
    while raw.next_depth() > 0 && found.len() < MEMBERS {
        let depth = raw.next_depth();
        let Some(abbreviation) = raw.read_abbreviation()? else { continue };
        if depth != 1 || abbreviation.tag() != dw::DW_TAG_member {
            raw.skip_attributes(abbreviation.attributes())?;
            continue;
        }
        let facts = reader.facts(&mut raw, abbreviation)?;
        let Some(of) = facts.of else { continue };
        found.push(Part { name: facts.name, bit_offset: place(&facts), bit_size: facts.bit_size, of });
    }
    Ok(found)
}

/// Where a member lies, in bits.
fn place(facts: &Facts<'_>) -> u64 {
    let bits = facts.location.unwrap_or(0).saturating_mul(8);
    match (facts.bit_size, facts.data_bit_offset, facts.bit_offset) {
        (_, Some(offset), _) => offset,
        // Until DWARF 3, and of compilers that keep to it: from the highest bit of a unit of storage.
        (Some(width), None, Some(from_top)) => {
            let storage = facts.size.unwrap_or(4).saturating_mul(8);
            bits.saturating_add(storage.saturating_sub(from_top).saturating_sub(width))
        }
        _ => bits,
    }
}

/// How many elements the array has whose children `raw` stands at.
fn elements<'s>(reader: &Reader<'s>, mut raw: Raw<'_, 's>) -> gimli::Result<u64> {
    let (mut count, mut dimensions) = (1u64, 0);
    while raw.next_depth() > 0 && dimensions < DIMENSIONS {
        let Some(abbreviation) = raw.read_abbreviation()? else { continue };
        let facts = reader.facts(&mut raw, abbreviation)?;
        if abbreviation.tag() == dw::DW_TAG_subrange_type {
            dimensions += 1;
            let here = facts.count.or(facts.upper_bound.map(|last| last.saturating_add(1)));
            count = count.saturating_mul(here.unwrap_or(0));
        }
    }
    Ok(if dimensions == 0 { 0 } else { count })
}
