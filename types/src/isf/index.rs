//! What an ISF has, and where it stands: found in one pass over the file.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use hashbrown::HashMap;
use vmc::Limits;

use super::describe::Head;
use super::json::{Cursor, Damage, Span};
use crate::error::TypesError;
use crate::hash;

/// Something with a name, and what is said of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) name: Span,
    pub(super) head: Head,
}

/// Entries by name. Of several that have one name the last counts, as in most readers of JSON.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) entries: Vec<Entry>,
    by_hash: HashMap<u64, u32>,
}

impl Names {
    fn push(&mut self, text: &str, entry: Entry) {
        let number = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.by_hash.insert(hash(entry.name.of(text).as_bytes()), number);
        self.entries.push(entry);
    }

    /// The number of what has this name.
    pub(super) fn find(&self, text: &str, name: &str) -> Option<u32> {
        let number = *self.by_hash.get(&hash(name.as_bytes()))?;
        // Another name may have the same hash.
        let entry = self.entries.get(number as usize)?;
        (entry.name.of(text) == name).then_some(number)
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Symbol {
    pub(super) name: Span,
    pub(super) address: u64,
    pub(super) constant_data: Option<Span>,
}

/// All that has a name.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) base_types: Names,
    pub(super) enums: Names,
    pub(super) user_types: Names,
    pub(super) symbols: Vec<Symbol>,
    /// Where the description of the file itself begins.
    pub(super) metadata: Option<u32>,
}

impl Index {
    pub(super) fn of(text: &str, limits: &Limits) -> Result<Self, TypesError> {
        let mut index = Self::default();
        let (mut has_base, mut has_user) = (false, false);
        let mut cursor = Cursor::new(text, 0);
        cursor.object(|cursor, key| match key.of(text) {
            "base_types" => {
                has_base = true;
                names(cursor, text, &mut index.base_types, limits)
            }
            "enums" => names(cursor, text, &mut index.enums, limits),
            "user_types" => {
                has_user = true;
                names(cursor, text, &mut index.user_types, limits)
            }
            "symbols" => cursor.object(|cursor, name| {
                if index.symbols.len() >= limits.symbols {
                    return Err(cursor.damage("more symbols than the limit"));
                }
                index.symbols.push(symbol(cursor, text, name)?);
                Ok(())
            }),
            "metadata" => {
                index.metadata = Some(cursor.place());
                cursor.skip()
            }
            _ => cursor.skip(),
        })?;
        cursor.end()?;
        let bad = |reason: &str| TypesError::Isf { reason: reason.to_owned() };
        if !has_base || !has_user {
            return Err(bad("it has no base_types or no user_types"));
        }
        let types = [&index.base_types, &index.enums, &index.user_types];
        if types.iter().map(|names| names.entries.len()).sum::<usize>() > limits.btf_types {
            return Err(bad("it has more types than the limit"));
        }
        Ok(index)
    }
}

fn names(cursor: &mut Cursor<'_>, text: &str, into: &mut Names, limits: &Limits) -> Result<(), Damage> {
    cursor.object(|cursor, name| {
        if into.entries.len() >= limits.btf_types {
            return Err(cursor.damage("more types than the limit"));
        }
        let head = Head::read(cursor, text)?;
        into.push(text, Entry { name, head });
        Ok(())
    })
}

fn symbol(cursor: &mut Cursor<'_>, text: &str, name: Span) -> Result<Symbol, Damage> {
    let mut symbol = Symbol { name, ..Symbol::default() };
    cursor.object(|cursor, key| {
        match key.of(text) {
            "address" => symbol.address = cursor.unsigned()?,
            "constant_data" if cursor.peek() == Some(b'"') => symbol.constant_data = Some(cursor.string()?),
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    Ok(symbol)
}

/// The text of a file: escapes that need not be are undone.
pub(super) fn text(json: Vec<u8>) -> Result<String, TypesError> {
    let bad = |reason: &str| TypesError::Isf { reason: reason.to_owned() };
    if u32::try_from(json.len()).is_err() {
        return Err(bad("it has more than 4 GiB"));
    }
    String::from_utf8(super::json::plain(json)).map_err(|_| bad("it is no UTF-8"))
}
