//! Types as a graph: what every source comes down to, and the search for members in it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use vmc::Limits;
use vmc::layout::{LayoutError, Member, StructLayout, StructMember};
use vmc::text::lossless;

/// Anonymous structures of anonymous structures: few types make more members than anyone can go through.
const TOO_MANY: &str = "it has more members than the limit";

/// A type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind<'n, Id> {
    /// A number, an enumeration: a size in bytes.
    Plain { keyword: &'static str, name: &'n [u8], size: u64 },
    /// A pointer to a type; to nothing: `void *`.
    Pointer(Option<Id>),
    /// So many elements of a type.
    Array(Id, u64),
    /// A structure or union.
    Aggregate { keyword: &'static str, name: &'n [u8], size: u64, members: Vec<Part<'n, Id>> },
    /// A name for another type; of nothing: `void`.
    Alias { name: &'n [u8], of: Option<Id> },
    /// `const`, `volatile`: a type with a word before it.
    #[cfg_attr(
        not(any(feature = "dwarf", feature = "pdb")),
        allow(dead_code, reason = "ISFs have no qualifiers")
    )]
    Qualified { word: &'static str, of: Option<Id> },
    /// A function.
    Function,
    /// A structure that is only named.
    Declared { keyword: &'static str, name: &'n [u8] },
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part<'n, Id> {
    /// Empty: anonymous.
    pub(crate) name: &'n [u8],
    pub(crate) bit_offset: u64,
    /// The size of a bit-field; nothing for other members.
    pub(crate) bit_size: Option<u64>,
    pub(crate) of: Id,
}

/// Is the name one that a tool gave to what has none in C?
#[cfg(any(feature = "isf", feature = "pdb"))]
pub(crate) fn is_anonymous(name: &[u8]) -> bool {
    name.starts_with(b"unnamed_") || name.starts_with(b"__unnamed") || name.starts_with(b"<")
}

/// A source of types.
pub(crate) trait Graph {
    /// What numbers a type.
    type Id: Copy;

    /// The structure or union `name`.
    fn named(&self, name: &str) -> Option<Self::Id>;

    /// The type `id`.
    fn kind(&self, id: Self::Id) -> Result<Kind<'_, Self::Id>, LayoutError>;

    /// The number of `id` for messages.
    fn number(&self, id: Self::Id) -> u32;

    /// How deep types may nest or refer to one another.
    fn depth(&self) -> usize;

    /// How many members are gone through until one is found.
    fn most_members(&self) -> usize;
}

fn damaged<G: Graph>(graph: &G, id: G::Id, reason: &'static str) -> LayoutError {
    LayoutError::Damaged { id: graph.number(id), reason }
}

fn structure<G: Graph>(graph: &G, name: &str) -> Result<G::Id, LayoutError> {
    graph.named(name).ok_or_else(|| LayoutError::NoType { name: name.to_string() })
}

/// The type behind names and qualifiers; nothing for `void`.
fn strip<G: Graph>(graph: &G, id: G::Id) -> Result<Option<G::Id>, LayoutError> {
    let mut at = id;
    for _ in 0..graph.depth() {
        match graph.kind(at)? {
            Kind::Alias { of: Some(of), .. } | Kind::Qualified { of: Some(of), .. } => at = of,
            Kind::Alias { of: None, .. } | Kind::Qualified { of: None, .. } => return Ok(None),
            _ => return Ok(Some(at)),
        }
    }
    Err(damaged(graph, id, "its names lead too deep"))
}

/// The size of a type in bytes.
pub(crate) fn byte_size<G: Graph>(graph: &G, id: G::Id) -> Result<u64, LayoutError> {
    let mut at = id;
    let mut count = 1u64;
    for _ in 0..graph.depth() {
        let Some(inner) = strip(graph, at)? else { return Err(damaged(graph, id, "it has no size")) };
        let size = match graph.kind(inner)? {
            Kind::Plain { size, .. } | Kind::Aggregate { size, .. } => size,
            Kind::Pointer(_) => 8,
            Kind::Array(element, elements) => {
                count = count.saturating_mul(elements);
                at = element;
                continue;
            }
            _ => return Err(damaged(graph, id, "it has no size")),
        };
        return Ok(size.saturating_mul(count));
    }
    Err(damaged(graph, id, "its arrays lead too deep"))
}

fn members<G: Graph>(graph: &G, id: G::Id) -> Result<Option<Vec<Part<'_, G::Id>>>, LayoutError> {
    Ok(match graph.kind(id)? {
        Kind::Aggregate { members, .. } => Some(members),
        _ => None,
    })
}

/// The size of the structure `name` in bytes.
pub(crate) fn size_of<G: Graph>(graph: &G, name: &str) -> Result<u64, LayoutError> {
    byte_size(graph, structure(graph, name)?)
}

/// The member at `path` of the structure `name`.
pub(crate) fn member<G: Graph>(graph: &G, name: &str, path: &str) -> Result<Member, LayoutError> {
    let missing = || LayoutError::NoMember { structure: name.to_string(), member: path.to_string() };
    let mut id = structure(graph, name)?;
    let mut bits = 0u64;
    let mut size = None;
    for step in path.split('.') {
        let inner = strip(graph, id)?.ok_or_else(missing)?;
        let (part, at) = find(graph, inner, step.as_bytes())?.ok_or_else(missing)?;
        bits = bits.saturating_add(at);
        id = part.of;
        size = Some(match part.bit_size {
            None => byte_size(graph, id)?,
            // A bit-field: as many bytes as it touches.
            Some(width) => (bits & 7).saturating_add(width).div_ceil(8),
        });
    }
    Ok(Member { offset: bits / 8, size: size.ok_or_else(missing)? })
}

/// A member, and where it lies.
type Found<'g, Id> = (Part<'g, Id>, u64);

/// The member `name` of the structure `id`, and its offset in bits; anonymous members are searched through.
fn find<'g, G: Graph>(graph: &'g G, id: G::Id, name: &[u8]) -> Result<Option<Found<'g, G::Id>>, LayoutError> {
    let mut open: Vec<(G::Id, u64, usize)> = Vec::from([(id, 0, 0)]);
    let mut left = graph.most_members();
    while let Some((id, base, depth)) = open.pop() {
        if depth > graph.depth() {
            return Err(damaged(graph, id, "its anonymous members lead too deep"));
        }
        for part in members(graph, id)?.unwrap_or_default() {
            left = left.checked_sub(1).ok_or_else(|| damaged(graph, id, TOO_MANY))?;
            let at = base.saturating_add(part.bit_offset);
            if part.name == name {
                return Ok(Some((part, at)));
            }
            if part.name.is_empty()
                && part.bit_size.is_none()
                && let Some(inner) = strip(graph, part.of)?
            {
                open.push((inner, at, depth + 1));
            }
        }
    }
    Ok(None)
}

/// The whole structure `name`.
pub(crate) fn layout<G: Graph>(graph: &G, name: &str, limits: &Limits) -> Result<StructLayout, LayoutError> {
    let id = structure(graph, name)?;
    let size = byte_size(graph, id)?;
    let mut found = Vec::new();
    let mut open: Vec<(G::Id, u64, usize)> = Vec::from([(id, 0, 0)]);
    let mut left = limits.type_members;
    while let Some((id, base, depth)) = open.pop() {
        if depth > graph.depth() {
            return Err(damaged(graph, id, "its anonymous members lead too deep"));
        }
        for part in members(graph, id)?.unwrap_or_default() {
            left = left.checked_sub(1).ok_or_else(|| damaged(graph, id, TOO_MANY))?;
            let bit_offset = base.saturating_add(part.bit_offset);
            if part.name.is_empty() {
                if let Some(inner) = strip(graph, part.of)? {
                    open.push((inner, bit_offset, depth + 1));
                }
                continue;
            }
            let bit_size = match part.bit_size {
                None => byte_size(graph, part.of)?.saturating_mul(8),
                Some(width) => width,
            };
            let type_name = type_name(graph, part.of)?;
            found.push(StructMember { name: lossless(part.name), bit_offset, bit_size, type_name });
        }
    }
    found.sort_by_key(|member| member.bit_offset);
    Ok(StructLayout { name: name.to_string(), size, members: found })
}

/// A type in C, without the name of what has it.
fn type_name<G: Graph>(graph: &G, id: G::Id) -> Result<String, LayoutError> {
    let (mut prefix, mut suffix) = (String::new(), String::new());
    let mut at = Some(id);
    for _ in 0..graph.depth() {
        let Some(inner) = at else { return Ok(format!("{prefix}void{suffix}")) };
        let named = |keyword: &str, name: &[u8]| {
            let name = if name.is_empty() { String::from("{…}") } else { lossless(name) };
            format!("{prefix}{keyword}{name}{suffix}")
        };
        match graph.kind(inner)? {
            Kind::Pointer(to) => {
                suffix.insert_str(0, " *");
                at = to;
            }
            Kind::Qualified { word, of } => {
                prefix.push_str(word);
                at = of;
            }
            Kind::Array(element, count) => {
                suffix.push_str(&format!("[{count}]"));
                at = Some(element);
            }
            Kind::Alias { name, .. } => return Ok(named("", name)),
            Kind::Plain { keyword, name, .. }
            | Kind::Aggregate { keyword, name, .. }
            | Kind::Declared { keyword, name } => return Ok(named(keyword, name)),
            Kind::Function => return Ok(format!("{prefix}function{suffix}")),
        }
    }
    Err(damaged(graph, id, "its types lead too deep"))
}
