//! BTF's header and records.

use vmc::bytes::{cstr_at, u16_at, u32_at};

/// Where the sections lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    types: (usize, usize),
    strings: (usize, usize),
}

impl Header {
    pub(super) fn parse(data: &[u8]) -> Result<Self, &'static str> {
        const CUT: &str = "its header is cut off";
        if u16_at(data, 0).ok_or(CUT)? != 0xeb9f {
            return Err("it does not begin with BTF's magic number");
        }
        if data.get(2) != Some(&1) {
            return Err("its version is not 1");
        }
        let word = |at| u32_at(data, at).map(|word| word as usize).ok_or(CUT);
        let header = word(4)?;
        let section = |at: usize| Some((header.checked_add(word(at).ok()?)?, word(at + 4).ok()?));
        Ok(Self { types: section(8).ok_or(CUT)?, strings: section(16).ok_or(CUT)? })
    }

    pub(super) fn types<'d>(&self, data: &'d [u8]) -> Option<&'d [u8]> {
        part(data, self.types)
    }

    pub(super) fn string<'d>(&self, data: &'d [u8], offset: usize) -> Option<&'d [u8]> {
        cstr_at(part(data, self.strings)?, offset)
    }

    /// The length of the strings in bytes.
    pub(super) const fn strings_len(&self) -> usize {
        self.strings.1
    }
}

fn part(data: &[u8], (start, len): (usize, usize)) -> Option<&[u8]> {
    data.get(start..start.checked_add(len)?)
}

/// Kinds of types (`BTF_KIND_*`), as far as they differ here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Pointer,
    Array,
    Struct,
    Union,
    Enum,
    Forward,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Function,
    Prototype,
    Variable,
    Section,
    Float,
    DeclTag,
    TypeTag,
}

/// A type's record.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawType {
    pub(super) name: u32,
    pub(super) kind: Kind,
    /// Do members keep the size of a bit-field in their offset?
    pub(super) bit_fields: bool,
    /// Members, enumerators, parameters.
    pub(super) count: usize,
    /// The size in bytes, or the number of the type that this one refers to.
    pub(super) size_or_type: u32,
    /// Where what follows the record begins, in the section.
    pub(super) behind: usize,
    /// The length of the record with what follows it.
    pub(super) len: usize,
}

impl RawType {
    pub(super) fn at(section: &[u8], at: usize) -> Option<Self> {
        let record = section.get(at..)?;
        let name = u32_at(record, 0)?;
        let info = u32_at(record, 4)?;
        let size_or_type = u32_at(record, 8)?;
        let count = (info & 0xffff) as usize;
        let (kind, extra) = match (info >> 24) & 0x1f {
            1 => (Kind::Int, 4),
            2 => (Kind::Pointer, 0),
            3 => (Kind::Array, 12),
            4 => (Kind::Struct, count * 12),
            5 => (Kind::Union, count * 12),
            6 => (Kind::Enum, count * 8),
            7 => (Kind::Forward, 0),
            8 => (Kind::Typedef, 0),
            9 => (Kind::Volatile, 0),
            10 => (Kind::Const, 0),
            11 => (Kind::Restrict, 0),
            12 => (Kind::Function, 0),
            13 => (Kind::Prototype, count * 8),
            14 => (Kind::Variable, 4),
            15 => (Kind::Section, count * 12),
            16 => (Kind::Float, 0),
            17 => (Kind::DeclTag, 4),
            18 => (Kind::TypeTag, 0),
            19 => (Kind::Enum, count * 12),
            _ => return None,
        };
        let len = 12 + extra;
        record.get(..len)?;
        Some(Self { name, kind, bit_fields: info >> 31 == 1, count, size_or_type, behind: at + 12, len })
    }
}

/// A member of a structure or union.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawMember {
    pub(super) name: u32,
    pub(super) id: u32,
    pub(super) bit_offset: u64,
    /// The size of a bit-field; zero for other members.
    pub(super) bit_size: u32,
}

/// The members of `raw`, a structure or union in `section`.
pub(super) fn members<'s>(section: &'s [u8], raw: &RawType) -> impl Iterator<Item = RawMember> + 's {
    let bit_fields = raw.bit_fields;
    let records = section.get(raw.behind..).unwrap_or_default().chunks_exact(12).take(raw.count);
    records.filter_map(move |record| {
        let place = u32_at(record, 8)?;
        let (bit_offset, bit_size) = if bit_fields { (place & 0xff_ffff, place >> 24) } else { (place, 0) };
        Some(RawMember {
            name: u32_at(record, 0)?,
            id: u32_at(record, 4)?,
            bit_offset: u64::from(bit_offset),
            bit_size,
        })
    })
}

/// An array's element type and count.
pub(super) fn array(section: &[u8], raw: &RawType) -> Option<(u32, u32)> {
    Some((u32_at(section, raw.behind)?, u32_at(section, raw.behind + 8)?))
}
