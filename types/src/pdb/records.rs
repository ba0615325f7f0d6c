//! The type records of a PDB (CodeView), as a graph.
//!
//! Source: `cvinfo.h` of Microsoft's microsoft-pdb. Types have numbers; those below 0x1000 say themselves what they are. A structure is
//! often declared first and described by another record of the same name.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use hashbrown::HashMap;
use pdb2::{
    FallibleIterator, Indirection, PointerType, PrimitiveKind, PrimitiveType, TypeData, TypeFinder,
    TypeIndex, TypeInformation,
};
use vmc::Limits;

use super::bad;
use crate::error::TypesError;
use crate::graph::byte_size;
use crate::owned::{Node, Owned};

/// The kinds of records that make types (`LF_…`): what else there is (arguments, methods, tables of functions) has no layout.
const MODIFIER: u16 = 0x1001;
const POINTER: u16 = 0x1002;
const PROCEDURE: u16 = 0x1008;
const MEMBER_FUNCTION: u16 = 0x1009;
const FIELD_LIST: u16 = 0x1203;
const BIT_FIELD: u16 = 0x1205;
const ARRAY: u16 = 0x1503;
const CLASS: u16 = 0x1504;
const STRUCTURE: u16 = 0x1505;
const UNION: u16 = 0x1506;
const ENUMERATION: u16 = 0x1507;
/// The first number of a record; smaller ones are types in themselves.
const FIRST: u32 = 0x1000;
/// Parts of one list of fields: each holds 64 KiB.
const PARTS: usize = 4096;

/// Members that structures may have beyond four times those that are listed.
const SHARED: usize = 1 << 16;

/// A list of fields: name, offset in bytes and type of each; and the list that goes on with it.
struct Fields {
    fields: Vec<(String, u64, TypeIndex)>,
    more: Option<TypeIndex>,
}

/// A structure or union whose members are still to be added.
struct Unfinished {
    number: u32,
    fields: TypeIndex,
}

struct Reader<'i> {
    /// Knows the types that their numbers alone describe.
    simple_types: TypeFinder<'i>,
    types: Owned,
    /// Bit fields: what is their type, length and position.
    bit_fields: HashMap<u32, (TypeIndex, u8, u8)>,
    lists: HashMap<u32, Fields>,
    unfinished: Vec<Unfinished>,
    /// Types that are declared, and what would describe them.
    declared: Vec<(u32, String)>,
    /// By the names that linkers use, which tell apart what has one name in C.
    unique: HashMap<String, u32>,
    /// Arrays with their sizes in bytes: how many elements that makes is known in the end.
    arrays: Vec<(u32, u64)>,
    simple: HashMap<u32, u32>,
}

/// All types.
pub(super) fn graph(information: &TypeInformation<'_>, limits: &Limits) -> Result<Owned, TypesError> {
    if information.len() > limits.btf_types {
        return Err(TypesError::Pdb { reason: "it has more types than the limit".to_owned() });
    }
    let mut reader = Reader {
        simple_types: information.finder(),
        types: Owned::new(limits),
        bit_fields: HashMap::new(),
        lists: HashMap::new(),
        unfinished: Vec::new(),
        declared: Vec::new(),
        unique: HashMap::new(),
        arrays: Vec::new(),
        simple: HashMap::new(),
    };
    // A record's number in the graph is its own, less the first: the simple ones come behind.
    reader.types.nodes.resize_with(information.len(), || Node::Void);
    let mut records = information.iter();
    while let Some(record) = records.next().map_err(|why| bad(&why))? {
        let wanted = matches!(
            record.raw_kind(),
            MODIFIER
                | POINTER
                | PROCEDURE
                | MEMBER_FUNCTION
                | FIELD_LIST
                | BIT_FIELD
                | ARRAY
                | CLASS
                | STRUCTURE
                | UNION
                | ENUMERATION
        );
        // What one record lacks, others may have.
        if wanted && let Ok(data) = record.parse() {
            reader.take(record.index(), data);
        }
    }
    reader.finish();
    Ok(reader.types)
}

impl Reader<'_> {
    fn take(&mut self, index: TypeIndex, data: TypeData<'_>) {
        let Some(number) = index.0.checked_sub(FIRST) else { return };
        let node = match data {
            TypeData::Class(class) => {
                let name = class.name.to_string().into_owned();
                let unique = class.unique_name.map(|name| name.to_string().into_owned());
                self.aggregate(
                    "struct ",
                    number,
                    (name, unique),
                    class.size,
                    class.fields,
                    class.properties.forward_reference(),
                )
            }
            TypeData::Union(union) => {
                let name = union.name.to_string().into_owned();
                let unique = union.unique_name.map(|name| name.to_string().into_owned());
                self.aggregate(
                    "union ",
                    number,
                    (name, unique),
                    union.size,
                    Some(union.fields),
                    union.properties.forward_reference(),
                )
            }
            TypeData::Enumeration(names) => {
                let of = self.number(names.underlying_type);
                let size = byte_size(&self.types, of).unwrap_or(4);
                Node::Plain { keyword: "enum ", name: names.name.to_string().into_owned(), size }
            }
            TypeData::Pointer(pointer) => self.pointer(pointer),
            TypeData::Modifier(modifier) => {
                let word = match (modifier.constant, modifier.volatile) {
                    (true, true) => "const volatile ",
                    (true, false) => "const ",
                    (false, true) => "volatile ",
                    (false, false) => "",
                };
                Node::Same { word, of: self.number(modifier.underlying_type) }
            }
            TypeData::Array(array) => {
                let bytes = array.dimensions.last().copied().unwrap_or_default();
                self.arrays.push((number, bytes.into()));
                Node::Array(self.number(array.element_type), 0)
            }
            TypeData::Procedure(_) | TypeData::MemberFunction(_) => Node::Function,
            TypeData::Bitfield(bits) => {
                self.bit_fields.insert(index.0, (bits.underlying_type, bits.length, bits.position));
                Node::Same { word: "", of: self.number(bits.underlying_type) }
            }
            TypeData::FieldList(list) => {
                let fields = list.fields.into_iter().filter_map(|field| match field {
                    TypeData::Member(member) => {
                        Some((member.name.to_string().into_owned(), member.offset, member.field_type))
                    }
                    TypeData::BaseClass(base) => Some((String::new(), base.offset.into(), base.base_class)),
                    _ => None,
                });
                self.lists.insert(index.0, Fields { fields: fields.collect(), more: list.continuation });
                Node::Void
            }
            _ => Node::Void,
        };
        if let Some(slot) = self.types.nodes.get_mut(number as usize) {
            *slot = node;
        }
    }

    fn aggregate(
        &mut self,
        keyword: &'static str,
        number: u32,
        (name, unique): (String, Option<String>),
        size: u64,
        fields: Option<TypeIndex>,
        declared: bool,
    ) -> Node {
        let key = unique.unwrap_or_else(|| name.clone());
        if declared {
            self.declared.push((number, key));
            return Node::Declared { keyword, name };
        }
        // Of several that have one name the first counts.
        self.unique.entry(key).or_insert(number);
        self.types.named.entry(name.clone()).or_insert(number);
        if let Some(fields) = fields {
            self.unfinished.push(Unfinished { number, fields });
        }
        Node::Aggregate { keyword, name, size, members: Vec::new() }
    }

    fn pointer(&mut self, pointer: PointerType) -> Node {
        let to = self.number(pointer.underlying_type);
        if pointer.attributes.size() == 8 {
            return Node::Pointer(Some(to));
        }
        Node::Plain { keyword: "", name: "void * __ptr32".to_owned(), size: pointer.attributes.size().into() }
    }

    /// The number in the graph of a type.
    fn number(&mut self, index: TypeIndex) -> u32 {
        if let Some(number) = index.0.checked_sub(FIRST) {
            return number;
        }
        if let Some(number) = self.simple.get(&index.0) {
            return *number;
        }
        let of = self.simple_node(index);
        let number = self.types.push(of);
        self.simple.insert(index.0, number);
        number
    }

    /// A type that its number alone describes: the low byte says which, the next one whether it is a pointer to it.
    fn simple_node(&mut self, index: TypeIndex) -> Node {
        let found = self.simple_types.find(index).and_then(|found| found.parse());
        let Ok(TypeData::Primitive(PrimitiveType { kind, indirection })) = found else { return Node::Void };
        match indirection {
            Some(Indirection::Near64) => {
                let to = TypeIndex(index.0 & 0xff);
                let to = (kind != PrimitiveKind::Void).then(|| self.number(to));
                Node::Pointer(to)
            }
            Some(_) => Node::Plain { keyword: "", name: "void * __ptr32".to_owned(), size: 4 },
            None => match plain(kind) {
                Some((name, size)) => Node::Plain { keyword: "", name: name.to_owned(), size },
                None => Node::Void,
            },
        }
    }

    /// What needs all records: what declarations mean, members, elements of arrays.
    fn finish(&mut self) {
        for (number, key) in core::mem::take(&mut self.declared) {
            if let Some(found) = self.unique.get(&key)
                && let Some(slot) = self.types.nodes.get_mut(number as usize)
            {
                *slot = Node::Same { word: "", of: *found };
            }
        }
        // Structures may share a list, few do.
        let listed: usize = self.lists.values().map(|list| list.fields.len()).sum();
        let mut left = listed.saturating_mul(4).saturating_add(SHARED);
        for Unfinished { number, fields } in core::mem::take(&mut self.unfinished) {
            let found = self.members(fields, &mut left);
            if let Some(Node::Aggregate { members, .. }) = self.types.nodes.get_mut(number as usize) {
                *members = found;
            }
        }
        // Inner arrays have smaller numbers than those that they are elements of.
        for (number, bytes) in core::mem::take(&mut self.arrays) {
            let Some(Node::Array(of, _)) = self.types.nodes.get(number as usize) else { continue };
            let of = *of;
            let count = byte_size(&self.types, of).ok().and_then(|size| bytes.checked_div(size)).unwrap_or(0);
            if let Some(slot) = self.types.nodes.get_mut(number as usize) {
                *slot = Node::Array(of, count);
            }
        }
    }

    /// The members in a list of fields and those that go on with it.
    fn members(&mut self, list: TypeIndex, left: &mut usize) -> Vec<(String, u64, Option<u64>, u32)> {
        let mut found = Vec::new();
        let mut at = Some(list);
        for _ in 0..PARTS {
            let Some(list) = at.and_then(|at| self.lists.get(&at.0)) else { break };
            at = list.more;
            let Some(fewer) = left.checked_sub(list.fields.len()) else { break };
            *left = fewer;
            let fields: Vec<_> = list.fields.clone();
            for (name, offset, of) in fields {
                let bits = offset.saturating_mul(8);
                let (bits, width, of) = match self.bit_fields.get(&of.0).copied() {
                    Some((of, length, position)) => {
                        (bits.saturating_add(position.into()), Some(length.into()), of)
                    }
                    None => (bits, None, of),
                };
                let of = self.number(of);
                found.push((name, bits, width, of));
            }
        }
        found.sort_by_key(|(_, bits, ..)| *bits);
        found
    }
}

/// Name and size in bytes of a simple type.
const fn plain(kind: PrimitiveKind) -> Option<(&'static str, u64)> {
    use PrimitiveKind as P;
    Some(match kind {
        P::Char | P::RChar | P::I8 => ("char", 1),
        P::UChar | P::U8 | P::Char8 => ("unsigned char", 1),
        P::Bool8 => ("bool", 1),
        P::WChar => ("wchar_t", 2),
        P::RChar16 => ("char16_t", 2),
        P::RChar32 => ("char32_t", 4),
        P::Short | P::I16 => ("short", 2),
        P::UShort | P::U16 | P::Bool16 => ("unsigned short", 2),
        P::Long => ("long", 4),
        P::I32 => ("int", 4),
        P::HRESULT => ("HRESULT", 4),
        P::ULong => ("unsigned long", 4),
        P::U32 | P::Bool32 => ("unsigned int", 4),
        P::Quad | P::I64 => ("long long", 8),
        P::UQuad | P::U64 | P::Bool64 => ("unsigned long long", 8),
        P::I128 | P::U128 => ("__int128", 16),
        P::F32 => ("float", 4),
        P::F64 => ("double", 8),
        P::F80 => ("long double", 10),
        _ => return None,
    })
}
