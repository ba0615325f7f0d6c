//! Descriptions of types, read where they stand when they are asked for.

use alloc::vec::Vec;

use super::json::{Cursor, Damage, Span};

/// Bytes of one description, those that it holds included: it is read each time when the type is asked for.
const BYTES: u32 = 16 << 10;

/// What is said of a type where it is used: `{"kind": …}`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Description {
    pub(super) kind: Span,
    pub(super) name: Span,
    pub(super) count: u64,
    pub(super) bit_length: u64,
    pub(super) bit_position: u64,
    /// Where the description of what it points to or consists of begins.
    pub(super) subtype: Option<u32>,
    /// The same of the number that a bit field is a part of.
    pub(super) of: Option<u32>,
}

impl Description {
    /// The one that begins at `place`.
    pub(super) fn at(text: &str, place: u32) -> Result<Self, Damage> {
        Self::read(&mut Cursor::new(text, place), text)
    }

    fn read(cursor: &mut Cursor<'_>, text: &str) -> Result<Self, Damage> {
        let mut found = Self::default();
        let start = cursor.place();
        cursor.object(|cursor, key| {
            match key.of(text) {
                "kind" => found.kind = cursor.string()?,
                "name" => found.name = cursor.string()?,
                "count" => found.count = cursor.unsigned()?,
                "bit_length" => found.bit_length = cursor.unsigned()?,
                "bit_position" => found.bit_position = cursor.unsigned()?,
                "subtype" => found.subtype = nested(cursor)?,
                "type" => found.of = nested(cursor)?,
                _ => cursor.skip()?,
            }
            Ok(())
        })?;
        if cursor.place().saturating_sub(start) > BYTES {
            return Err(cursor.damage("a type's description without end"));
        }
        Ok(found)
    }
}

/// Where another description begins, if there is one: it may be `null`.
fn nested(cursor: &mut Cursor<'_>) -> Result<Option<u32>, Damage> {
    let place = cursor.place();
    let is = cursor.peek() == Some(b'{');
    cursor.skip()?;
    Ok(is.then_some(place))
}

/// A member: its name (empty: anonymous), its offset in bytes, and its type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) name: Span,
    pub(super) offset: u64,
    pub(super) description: Description,
    /// Where the type's description begins.
    pub(super) place: u32,
}

/// What is said of a structure, union, enumeration or number.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    pub(super) size: u64,
    pub(super) is_union: bool,
    /// Where the object of its fields begins.
    pub(super) fields: Option<u32>,
    /// The same of its constants.
    pub(super) constants: Option<u32>,
}

impl Head {
    /// The next one.
    pub(super) fn read(cursor: &mut Cursor<'_>, text: &str) -> Result<Self, Damage> {
        let mut found = Self::default();
        let mut has_size = false;
        cursor.object(|cursor, key| {
            match key.of(text) {
                "size" => {
                    found.size = cursor.unsigned()?;
                    has_size = true;
                }
                "kind" => found.is_union = cursor.string()?.of(text) == "union",
                "fields" => found.fields = nested(cursor)?,
                "constants" => found.constants = nested(cursor)?,
                _ => cursor.skip()?,
            }
            Ok(())
        })?;
        if has_size { Ok(found) } else { Err(cursor.damage("a type without size")) }
    }

    /// The members, in the order of their offsets; at most so many.
    pub(super) fn members(&self, text: &str, most: usize) -> Result<Vec<Member>, Damage> {
        let mut members = Vec::new();
        let Some(fields) = self.fields else { return Ok(members) };
        Cursor::new(text, fields).object(|cursor, name| {
            if members.len() >= most {
                return Err(cursor.damage("more members than the limit"));
            }
            members.push(member(cursor, text, name)?);
            Ok(())
        })?;
        members.sort_by_key(|member| {
            member.offset.saturating_mul(8).saturating_add(member.description.bit_position)
        });
        Ok(members)
    }

    /// The constants of an enumeration.
    pub(super) fn constants(&self, text: &str) -> Result<Vec<(Span, i128)>, Damage> {
        let mut constants = Vec::new();
        let Some(place) = self.constants else { return Ok(constants) };
        Cursor::new(text, place).object(|cursor, name| {
            constants.push((name, cursor.number()?));
            Ok(())
        })?;
        Ok(constants)
    }
}

fn member(cursor: &mut Cursor<'_>, text: &str, name: Span) -> Result<Member, Damage> {
    let mut found = Member { name, offset: 0, description: Description::default(), place: 0 };
    let mut described = false;
    cursor.object(|cursor, key| {
        match key.of(text) {
            "offset" => found.offset = cursor.unsigned()?,
            "type" => {
                found.place = cursor.place();
                found.description = Description::read(cursor, text)?;
                described = true;
            }
            "anonymous" => {
                if cursor.boolean()? {
                    found.name = Span::default();
                }
            }
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    if described { Ok(found) } else { Err(cursor.damage("a field without type")) }
}
