//! Types out of volatility3's symbol files (ISF), as dwarf2json and others write them.
//!
//! Source: volatility3's `schemas/schema-6.2.0.json`: `base_types`, `user_types`, `enums` and `symbols` by name; a field has an offset in
//! bytes and a type, which nests. What is anonymous in C has a name of its own (`unnamed_…`), and the member that has it
//! is marked `anonymous`.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use hashbrown::HashMap;
use serde::Deserialize;
use vmc::Limits;
use vmc::layout::{LayoutError, Layouts, Member, StructLayout, Types};

use crate::error::TypesError;
use crate::graph;
use crate::owned::{Node, Owned};

#[derive(Debug, Deserialize)]
struct File {
    base_types: BTreeMap<String, Base>,
    user_types: BTreeMap<String, User>,
    #[serde(default)]
    enums: BTreeMap<String, Base>,
    #[serde(default)]
    symbols: BTreeMap<String, Symbol>,
}

#[derive(Debug, Deserialize)]
struct Base {
    size: u64,
}

#[derive(Debug, Deserialize)]
struct User {
    kind: String,
    size: u64,
    #[serde(default)]
    fields: BTreeMap<String, FieldOf>,
}

#[derive(Debug, Deserialize)]
struct FieldOf {
    offset: u64,
    r#type: Type,
    #[serde(default)]
    anonymous: bool,
}

#[derive(Debug, Deserialize)]
struct Type {
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    count: u64,
    #[serde(default)]
    bit_length: u64,
    #[serde(default)]
    bit_position: u64,
    subtype: Option<Box<Type>>,
    r#type: Option<Box<Type>>,
}

#[derive(Debug, Deserialize)]
struct Symbol {
    #[serde(default)]
    address: u64,
    constant_data: Option<String>,
}

/// A symbol of an ISF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsfSymbol<'i> {
    /// Its name.
    pub name: &'i str,
    /// Its address at link time.
    pub address: u64,
    /// What stands there, in base64, where the file tells it: the banner.
    pub constant_data: Option<&'i str>,
}

/// Types and symbols out of an ISF.
#[derive(Debug)]
pub struct IsfTypes {
    graph: Owned,
    symbols: BTreeMap<String, Symbol>,
}

impl IsfTypes {
    /// The types and symbols in `json`.
    ///
    /// # Errors
    /// [`TypesError`] where it is no ISF, or has more types than the limit.
    pub fn parse(json: &[u8], limits: &Limits) -> Result<Self, TypesError> {
        let bad = |reason: &str| TypesError::Isf { reason: reason.to_owned() };
        let file: File = serde_json::from_slice(json).map_err(|why| bad(&why.to_string()))?;
        if file.user_types.is_empty() {
            return Err(TypesError::Empty);
        }
        let mut types = Owned::new(limits);
        let mut builder = Builder { plain: HashMap::new(), void: 0 };
        // Numbers first: structures refer to each other.
        for (name, user) in &file.user_types {
            let keyword = if user.kind == "union" { "union " } else { "struct " };
            let number = types.push(Node::Aggregate {
                keyword,
                name: name.clone(),
                size: user.size,
                members: Vec::new(),
            });
            types.named.insert(name.clone(), number);
        }
        builder.void = types.push(Node::Void);
        for (keyword, plain) in [("", &file.base_types), ("enum ", &file.enums)] {
            for (name, base) in plain {
                if keyword.is_empty() && name == "void" {
                    continue;
                }
                let number = types.push(Node::Plain { keyword, name: name.clone(), size: base.size });
                builder.plain.insert((keyword, name.clone()), number);
            }
        }
        for (number, (_, user)) in (0usize..).zip(file.user_types) {
            let mut found = Vec::with_capacity(user.fields.len());
            for (name, field) in user.fields {
                let name = if field.anonymous { String::new() } else { name };
                let mut bits = field.offset.saturating_mul(8);
                let (of, width) = match field.r#type.kind.as_str() {
                    "bitfield" => {
                        bits = bits.saturating_add(field.r#type.bit_position);
                        let width = Some(field.r#type.bit_length);
                        (add(&mut types, field.r#type.r#type.as_deref(), &builder, limits.type_depth), width)
                    }
                    _ => (add(&mut types, Some(&field.r#type), &builder, limits.type_depth), None),
                };
                found.push((name, bits, width, of));
            }
            found.sort_by_key(|(_, bits, ..)| *bits);
            if let Some(Node::Aggregate { members, .. }) = types.nodes.get_mut(number) {
                *members = found;
            }
            if types.nodes.len() > limits.btf_types {
                return Err(bad("it has more types than the limit"));
            }
        }
        Ok(Self { graph: types, symbols: file.symbols })
    }

    /// Its symbols, in no order.
    pub fn symbols(&self) -> impl Iterator<Item = IsfSymbol<'_>> {
        self.symbols.iter().map(|(name, symbol)| IsfSymbol {
            name,
            address: symbol.address,
            constant_data: symbol.constant_data.as_deref(),
        })
    }

    /// The symbol `name`.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<IsfSymbol<'_>> {
        let (name, symbol) = self.symbols.get_key_value(name)?;
        Some(IsfSymbol { name, address: symbol.address, constant_data: symbol.constant_data.as_deref() })
    }
}

/// What types are referred to by.
struct Builder {
    plain: HashMap<(&'static str, String), u32>,
    void: u32,
}

/// The number of a type that is described where it is used.
fn add(types: &mut Owned, described: Option<&Type>, builder: &Builder, depth: usize) -> u32 {
    let (Some(described), Some(depth)) = (described, depth.checked_sub(1)) else { return builder.void };
    let inner = described.subtype.as_deref();
    let name = &described.name;
    match described.kind.as_str() {
        "pointer" => {
            let to = add(types, inner, builder, depth);
            let to = (to != builder.void).then_some(to);
            types.push(Node::Pointer(to))
        }
        "array" => {
            let of = add(types, inner, builder, depth);
            types.push(Node::Array(of, described.count))
        }
        "function" => types.push(Node::Function),
        "base" => builder.plain.get(&("", name.clone())).copied().unwrap_or(builder.void),
        "enum" => match builder.plain.get(&("enum ", name.clone())) {
            Some(number) => *number,
            None => types.push(Node::Declared { keyword: "enum ", name: name.clone() }),
        },
        kind => match types.named.get(name.as_str()) {
            Some(number) => *number,
            None => {
                let keyword = if kind == "union" { "union " } else { "struct " };
                types.push(Node::Declared { keyword, name: name.clone() })
            }
        },
    }
}

impl Types for IsfTypes {
    fn member(&self, structure: &str, path: &str) -> Result<Member, LayoutError> {
        graph::member(&self.graph, structure, path)
    }

    fn size_of(&self, structure: &str) -> Result<u64, LayoutError> {
        graph::size_of(&self.graph, structure)
    }
}

impl Layouts for IsfTypes {
    fn layout(&self, name: &str, limits: &Limits) -> Result<StructLayout, LayoutError> {
        graph::layout(&self.graph, name, limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    const FILE: &str = r#"{
        "metadata": {"format": "6.2.0"},
        "base_types": {"int": {"size": 4, "signed": true, "kind": "int", "endian": "little"},
            "void": {"size": 0, "signed": false, "kind": "void", "endian": "little"}},
        "enums": {"colour": {"size": 4, "base": "int", "constants": {"RED": 0}}},
        "symbols": {"linux_banner": {"address": 18446744071587234304, "constant_data": "Zm9v", "type": {"kind": "base", "name": "int"}},
            "init_task": {"address": 18446744071590592512}},
        "user_types": {
            "unnamed_1": {"kind": "union", "size": 8, "fields": {
                "low": {"offset": 0, "type": {"kind": "base", "name": "int"}},
                "pointer": {"offset": 0, "type": {"kind": "pointer", "subtype": {"kind": "base", "name": "void"}}}}},
            "task": {"kind": "struct", "size": 64, "fields": {
                "unnamed_field_8": {"offset": 8, "anonymous": true, "type": {"kind": "union", "name": "unnamed_1"}},
                "next": {"offset": 16, "type": {"kind": "pointer", "subtype": {"kind": "struct", "name": "task"}}},
                "table": {"offset": 24, "type": {"kind": "array", "count": 3, "subtype": {"kind": "array", "count": 2, "subtype": {"kind": "base", "name": "int"}}}},
                "flag": {"offset": 48, "type": {"kind": "bitfield", "bit_length": 3, "bit_position": 9, "type": {"kind": "base", "name": "int"}}},
                "colour": {"offset": 52, "type": {"kind": "enum", "name": "colour"}},
                "call": {"offset": 56, "type": {"kind": "pointer", "subtype": {"kind": "function"}}},
                "gone": {"offset": 64, "type": {"kind": "struct", "name": "elsewhere"}}}}}}"#;

    #[test]
    fn every_kind_of_type() {
        let isf = IsfTypes::parse(FILE.as_bytes(), &Limits::default()).unwrap();
        let member = |path| isf.member("task", path).map(|member| (member.offset, member.size));
        assert_eq!(member("low"), Ok((8, 4)));
        assert_eq!(member("pointer"), Ok((8, 8)));
        assert_eq!(member("table"), Ok((24, 24)));
        assert_eq!(member("flag"), Ok((49, 1)));
        assert_eq!(member("colour"), Ok((52, 4)));
        assert!(member("gone").is_err() && member("unnamed_field_8").is_err());
        assert_eq!(isf.size_of("task"), Ok(64));
        let symbol = isf.symbol("linux_banner").unwrap();
        assert_eq!((symbol.address, symbol.constant_data), (0xffff_ffff_8180_0200, Some("Zm9v")));
        assert_eq!(isf.symbols().count(), 2);
    }

    #[test]
    fn damaged_files_are_errors() {
        for cut in 0..FILE.len() {
            if FILE.is_char_boundary(cut) {
                assert!(IsfTypes::parse(&FILE.as_bytes()[..cut], &Limits::default()).is_err());
            }
        }
        let few = Limits { btf_types: 3, ..Limits::default() };
        assert!(IsfTypes::parse(FILE.as_bytes(), &few).is_err());
        // A type within a type, and so on.
        let deep = (0..90).fold(String::from(r#"{"kind": "base", "name": "int"}"#), |inner, _| {
            format!(r#"{{"kind": "array", "count": 2, "subtype": {inner}}}"#)
        });
        let file = FILE.replace(r#"{"kind": "enum", "name": "colour"}"#, &deep);
        let isf = IsfTypes::parse(file.as_bytes(), &Limits::default()).unwrap();
        assert!(isf.member("task", "colour").is_err() && isf.member("task", "flag").is_ok());
    }
}
