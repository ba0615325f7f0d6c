//! Types out of volatility3's symbol files (ISF), as its own tools, dwarf2json and others write them.
//!
//! Source: volatility3's `schemas/schema-6.2.0.json`: `base_types`, `user_types`, `enums` and `symbols` by name; a field has an offset in
//! bytes and a type, which nests. What is anonymous in C has a name of its own (`unnamed_…`), and the member that has it
//! is marked `anonymous`.
//!
//! One pass over the file finds where what is described (`index`); a description is read when it is asked for (`describe`). Names
//! are lent out of the file's text.

mod describe;
mod index;
mod json;
mod pdb;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use once_cell::race::OnceBox;
use vmc::Limits;
use vmc::layout::{LayoutError, Layouts, Member, StructLayout, Types};
use vmc::symbols::{SymbolTable, SymbolTableBuilder};

use crate::error::TypesError;
use crate::graph::{self, Graph, Kind, Part};
use describe::{Description, Head};
use index::{Index, Names, Symbol};
use json::{Damage, Span};
pub use pdb::IsfPdb;

/// A symbol of an ISF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsfSymbol<'i> {
    /// Its name.
    pub name: &'i str,
    /// Its address at link time; in a Windows image's file relative to the image's base.
    pub address: u64,
    /// What stands there, in base64, where the file tells it: the banner.
    pub constant_data: Option<&'i str>,
}

/// Types and symbols out of an ISF.
pub struct IsfTypes {
    text: String,
    index: Index,
    /// The structures and unions that were asked for, by their numbers.
    aggregates: Vec<OnceBox<Aggregate>>,
    depth: usize,
    most_members: usize,
}

/// A structure or union.
struct Aggregate {
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

impl fmt::Debug for IsfTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IsfTypes")
            .field("bytes", &self.text.len())
            .field("user_types", &self.index.user_types.entries.len())
            .field("symbols", &self.index.symbols.len())
            .finish_non_exhaustive()
    }
}

impl IsfTypes {
    /// The types and symbols in `json`.
    ///
    /// # Errors
    /// As [`IsfTypes::parse_owned`].
    pub fn parse(json: &[u8], limits: &Limits) -> Result<Self, TypesError> {
        Self::parse_owned(json.into(), limits)
    }

    /// The types and symbols in `json`, which is kept: nothing is copied out of it.
    ///
    /// # Errors
    /// [`TypesError`] where it is no ISF, or has more types or symbols than the limits. What is wrong within the description of a
    /// type comes up when the type is asked for.
    pub fn parse_owned(json: Vec<u8>, limits: &Limits) -> Result<Self, TypesError> {
        let text = index::text(json)?;
        let index = Index::of(&text, limits)?;
        let types = index.user_types.entries.len();
        if types == 0 {
            return Err(TypesError::Empty);
        }
        let mut aggregates = Vec::new();
        aggregates.resize_with(types, OnceBox::new);
        Ok(Self { text, index, aggregates, depth: limits.type_depth, most_members: limits.type_members })
    }

    fn lend(&self, symbol: &Symbol) -> IsfSymbol<'_> {
        IsfSymbol {
            name: symbol.name.of(&self.text),
            address: symbol.address,
            constant_data: symbol.constant_data.map(|span| span.of(&self.text)),
        }
    }

    /// Its symbols, in the file's order.
    pub fn symbols(&self) -> impl Iterator<Item = IsfSymbol<'_>> {
        self.index.symbols.iter().map(|symbol| self.lend(symbol))
    }

    /// The symbol `name`.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<IsfSymbol<'_>> {
        self.symbols().find(|symbol| symbol.name == name)
    }

    /// All symbols, by their addresses as [`IsfSymbol`] has them.
    #[must_use]
    pub fn symbol_table(&self) -> SymbolTable {
        let mut builder = SymbolTableBuilder::with_capacity(self.index.symbols.len());
        for symbol in self.symbols() {
            builder.push(symbol.name.as_bytes(), symbol.address, 0, '?');
        }
        builder.build()
    }

    /// Which PDB it was made from, if it says so: files about Windows' images do.
    #[must_use]
    pub fn pdb(&self) -> Option<IsfPdb<'_>> {
        pdb::read(&self.text, self.index.metadata?)
    }

    /// The constants of the enumeration `name`, with their values, in the file's order.
    ///
    /// # Errors
    /// [`LayoutError`] where there is no such enumeration, or its description is damaged.
    pub fn enumerators(&self, name: &str) -> Result<impl Iterator<Item = (&str, i128)>, LayoutError> {
        let missing = || LayoutError::NoType { name: name.to_string() };
        let number = self.index.enums.find(&self.text, name).ok_or_else(missing)?;
        let id = Id::Enum(number);
        let head = self.head(&self.index.enums, number, id)?;
        let constants = head.constants(&self.text).map_err(|damage| self.damaged(id, damage))?;
        Ok(constants.into_iter().map(|(name, value)| (name.of(&self.text), value)))
    }

    fn damaged(&self, id: Id, damage: Damage) -> LayoutError {
        LayoutError::Damaged { id: self.number(id), reason: damage.what }
    }

    /// What is said of the type of this number.
    fn head(&self, names: &Names, number: u32, id: Id) -> Result<Head, LayoutError> {
        const NO_ENTRY: Damage = Damage { at: 0, what: "there is no type of this number" };
        let entry = names.entries.get(number as usize).ok_or(NO_ENTRY);
        entry.and_then(|entry| Head::at(&self.text, entry.place)).map_err(|damage| self.damaged(id, damage))
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

    fn aggregate(&self, number: u32) -> Result<&Aggregate, LayoutError> {
        const NO_SLOT: Damage = Damage { at: 0, what: "there is no type of this number" };
        let id = Id::User(number);
        let slot = self.aggregates.get(number as usize).ok_or_else(|| self.damaged(id, NO_SLOT))?;
        slot.get_or_try_init(|| {
            let head = self.head(&self.index.user_types, number, id)?;
            let described = head.members(&self.text).map_err(|damage| self.damaged(id, damage))?;
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
            Ok(Box::new(Aggregate { keyword, size: head.size, members }))
        })
    }

    fn plain(
        &self,
        keyword: &'static str,
        names: &Names,
        number: u32,
        id: Id,
    ) -> Result<Kind<'_, Id>, LayoutError> {
        let size = self.head(names, number, id)?.size;
        Ok(Kind::Plain { keyword, name: self.name(names, number), size })
    }

    fn name(&self, names: &Names, number: u32) -> &[u8] {
        names.entries.get(number as usize).map_or(&[], |entry| entry.name.of(&self.text).as_bytes())
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
            Id::Base(number) => return self.plain("", &self.index.base_types, number, id),
            Id::Enum(number) => return self.plain("enum ", &self.index.enums, number, id),
            Id::User(number) => {
                let Aggregate { keyword, size, members } = self.aggregate(number)?;
                let name = self.name(&self.index.user_types, number);
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

impl Types for IsfTypes {
    fn member(&self, structure: &str, path: &str) -> Result<Member, LayoutError> {
        graph::member(self, structure, path)
    }

    fn size_of(&self, structure: &str) -> Result<u64, LayoutError> {
        graph::size_of(self, structure)
    }
}

impl Layouts for IsfTypes {
    fn layout(&self, name: &str, limits: &Limits) -> Result<StructLayout, LayoutError> {
        graph::layout(self, name, limits)
    }
}
