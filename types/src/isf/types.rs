//! The types of an ISF as a graph: what has a name by its number, all else by where it is described.

use alloc::boxed::Box;
use alloc::vec::Vec;

use vmc::layout::LayoutError;

use super::IsfTypes;
use super::describe::{Description, Head};
use super::index::{Entry, Names};
use super::json::{Damage, Span};
use crate::graph::{self, Graph, Kind, Part};

const NO_TYPE: Damage = Damage { at: 0, what: "there is no type of this number" };

/// A structure or union.
pub(super) struct Aggregate {
    keyword: &'static str,
    size: u64,
    members: Vec<(Span, u64, Option<u64>, Id)>,
}

/// What numbers a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Id {
    /// One of the structures and unions.
    User(u32),
    /// One of the numbers.
    Base(u32),
    Enum(u32),
    /// What is described at this place of the text.
    At(u32),
    Void,
}

impl IsfTypes {
    pub(super) fn damaged(&self, id: Id, damage: Damage) -> LayoutError {
        LayoutError::Damaged { id: self.number(id), reason: damage.what }
    }

    /// The type that is described at a place, if any is.
    fn resolve(&self, place: Option<u32>) -> Result<Id, LayoutError> {
        let Some(place) = place else { return Ok(Id::Void) };
        let described = Description::at(&self.text, place);
        let described = described.map_err(|damage| self.damaged(Id::At(place), damage))?;
        Ok(self.id(&described, place))
    }

    fn id(&self, described: &Description, place: u32) -> Id {
        let name = described.name.of(&self.text);
        let found = |names: &Names| names.find(&self.text, name);
        match described.kind.of(&self.text) {
            "pointer" | "array" | "function" => Id::At(place),
            "base" if name == "void" => Id::Void,
            "base" => found(&self.index.base_types).map_or(Id::Void, Id::Base),
            "enum" => found(&self.index.enums).map_or(Id::At(place), Id::Enum),
            _ => found(&self.index.user_types).map_or(Id::At(place), Id::User),
        }
    }

    fn read_aggregate(&self, id: Id, head: &Head) -> Result<Aggregate, LayoutError> {
        let described = head.members(&self.text, self.most_members);
        let described = described.map_err(|damage| self.damaged(id, damage))?;
        let mut members = Vec::with_capacity(described.len());
        for member in described {
            let bits = member.offset.saturating_mul(8);
            members.push(match member.description.kind.of(&self.text) {
                "bitfield" => (
                    member.name,
                    bits.saturating_add(member.description.bit_position),
                    Some(member.description.bit_length),
                    self.resolve(member.description.of)?,
                ),
                _ => (member.name, bits, None, self.id(&member.description, member.place)),
            });
        }
        let keyword = if head.is_union { "union " } else { "struct " };
        Ok(Aggregate { keyword, size: head.size, members })
    }

    fn aggregate(&self, number: u32, entry: &Entry) -> Result<&Aggregate, LayoutError> {
        let id = Id::User(number);
        let slot = self.aggregates.get(number as usize).ok_or_else(|| self.damaged(id, NO_TYPE))?;
        slot.get_or_init(|| Box::new(self.read_aggregate(id, &entry.head))).as_ref().map_err(Clone::clone)
    }

    /// What is said of the type of this number.
    pub(super) fn entry(&self, names: &Names, number: u32, id: Id) -> Result<Entry, LayoutError> {
        names.entries.get(number as usize).copied().ok_or_else(|| self.damaged(id, NO_TYPE))
    }

    fn plain(&self, keyword: &'static str, entry: &Entry) -> Kind<'_, Id> {
        Kind::Plain { keyword, name: entry.name.of(&self.text).as_bytes(), size: entry.head.size }
    }
}

impl Graph for IsfTypes {
    type Id = Id;

    fn named(&self, name: &str) -> Option<Id> {
        self.index.user_types.find(&self.text, name).map(Id::User)
    }

    fn kind(&self, id: Id) -> Result<Kind<'_, Id>, LayoutError> {
        let place = match id {
            Id::Void => return Ok(Kind::Alias { name: b"void", of: None }),
            Id::Base(number) => return Ok(self.plain("", &self.entry(&self.index.base_types, number, id)?)),
            Id::Enum(number) => return Ok(self.plain("enum ", &self.entry(&self.index.enums, number, id)?)),
            Id::User(number) => {
                let entry = self.entry(&self.index.user_types, number, id)?;
                let Aggregate { keyword, size, members } = self.aggregate(number, &entry)?;
                let name = entry.name.of(&self.text).as_bytes();
                let members = members.iter().map(|(name, bit_offset, bit_size, of)| Part {
                    name: name.of(&self.text).as_bytes(),
                    bit_offset: *bit_offset,
                    bit_size: *bit_size,
                    of: *of,
                });
                return Ok(Kind::Aggregate {
                    keyword,
                    name: if graph::is_anonymous(name) { &[] } else { name },
                    size: *size,
                    members: members.collect(),
                });
            }
            Id::At(place) => place,
        };
        let described = Description::at(&self.text, place).map_err(|damage| self.damaged(id, damage))?;
        let name = described.name.of(&self.text).as_bytes();
        Ok(match described.kind.of(&self.text) {
            "pointer" => Kind::Pointer(Some(self.resolve(described.subtype)?).filter(|to| *to != Id::Void)),
            "array" => Kind::Array(self.resolve(described.subtype)?, described.count),
            "function" => Kind::Function,
            "enum" => Kind::Declared { keyword: "enum ", name },
            "union" => Kind::Declared { keyword: "union ", name },
            _ => Kind::Declared { keyword: "struct ", name },
        })
    }

    fn number(&self, id: Id) -> u32 {
        match id {
            Id::User(number) | Id::Base(number) | Id::Enum(number) | Id::At(number) => number,
            Id::Void => 0,
        }
    }

    fn depth(&self) -> usize {
        self.depth
    }

    fn most_members(&self) -> usize {
        self.most_members
    }
}
