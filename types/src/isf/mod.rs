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
mod types;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use once_cell::race::OnceBox;
use vmc::Limits;
use vmc::layout::{LayoutError, Layouts, Member, StructLayout, Types};
use vmc::symbols::{SymbolTable, SymbolTableBuilder};

use crate::error::TypesError;
use crate::graph;
use index::{Index, Symbol};
pub use pdb::IsfPdb;
use types::{Aggregate, Id};

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
    aggregates: Vec<OnceBox<Result<Aggregate, LayoutError>>>,
    depth: usize,
    most_members: usize,
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
        let entry = self.entry(&self.index.enums, number, id)?;
        let constants = entry.head.constants(&self.text).map_err(|damage| self.damaged(id, damage))?;
        Ok(constants.into_iter().map(|(name, value)| (name.of(&self.text), value)))
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
