//! BTF: the kernel's types, as they lie in the kernel's own read-only data and in `/sys/kernel/btf`.
//!
//! Source: `Documentation/bpf/btf.rst`, `include/uapi/linux/btf.h`. One pass notes where each type lies and what the named
//! structures are called; members are looked up when they are asked for.

mod parse;
mod render;
mod resolve;

use alloc::borrow::Cow;
use alloc::string::ToString;

use hashbrown::HashMap;
use vmc::Limits;
use vmc::layout::{LayoutError, Layouts, Member, StructLayout, Types};

use crate::hash;
use parse::{Header, Kind, RawType};

/// Anonymous structures of anonymous structures: few types make more members than anyone can go through.
const TOO_MANY: &str = "it has more members than the limit";

/// The kernel's types.
#[derive(Debug)]
pub struct Btf<'m> {
    data: Cow<'m, [u8]>,
    header: Header,
    /// Where each type lies in the type section; number 0 is `void` and has no place.
    places: alloc::vec::Vec<u32>,
    /// Named structures and unions, by the hash of their name.
    named: HashMap<u64, u32>,
    depth: usize,
    most_members: usize,
    /// The kernel's types, where these are a module's: its numbers and strings go on behind them.
    base: Option<&'m Btf<'m>>,
}

impl<'m> Btf<'m> {
    /// The types of a module in `data`, which are told on top of these (`Documentation/bpf/btf.rst`, split BTF).
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn split<'b>(&'b self, data: Cow<'b, [u8]>, limits: &Limits) -> Result<Btf<'b>, &'static str> {
        Self::parse_with(data, limits, Some(self))
    }

    /// The types in `data`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(data: Cow<'m, [u8]>, limits: &Limits) -> Result<Self, &'static str> {
        Self::parse_with(data, limits, None)
    }

    fn parse_with<'b>(
        data: Cow<'b, [u8]>,
        limits: &Limits,
        base: Option<&'b Btf<'b>>,
    ) -> Result<Btf<'b>, &'static str> {
        let first_id = base.map_or(1, Btf::len);
        let header = Header::parse(&data)?;
        let section = header.types(&data).ok_or("its type section is cut off")?;
        let mut places = alloc::vec![0u32];
        let mut named = HashMap::new();
        let mut at = 0usize;
        while at < section.len() {
            if places.len() > limits.btf_types {
                return Err("it has more types than the limit");
            }
            let raw = RawType::at(section, at).ok_or("a type is cut off or of an unknown kind")?;
            let id = u32::try_from(first_id + places.len() - 1)
                .map_err(|_| "it has more types than there are numbers")?;
            // An empty structure of the same name is a declaration; the first with members counts.
            if matches!(raw.kind, Kind::Struct | Kind::Union)
                && raw.name != 0
                && raw.count > 0
                && let Some(name) = name_at(base, &header, &data, raw.name)
            {
                named.entry(hash(name)).or_insert(id);
            }
            places.push(u32::try_from(at).map_err(|_| "it is larger than 4 GiB")?);
            at += raw.len;
        }
        Ok(Btf {
            data,
            header,
            places,
            named,
            depth: limits.type_depth,
            most_members: limits.type_members,
            base,
        })
    }

    /// How many types there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Is there no type?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.len() <= 1
    }

    /// The types that have the number `id`, and its place among theirs.
    fn home(&self, id: u32) -> (&Btf<'m>, usize) {
        let id = id as usize;
        match self.base {
            Some(base) if id < base.len() => (base, id),
            Some(base) => (self, id - base.len() + 1),
            None => (self, id),
        }
    }

    /// The section that has the type `id`.
    fn section(&self, id: u32) -> &[u8] {
        let (home, _) = self.home(id);
        home.header.types(&home.data).unwrap_or_default()
    }

    fn string(&self, offset: u32) -> &[u8] {
        name_at(self.base, &self.header, &self.data, offset).unwrap_or_default()
    }

    fn raw(&self, id: u32) -> Result<RawType, LayoutError> {
        let (home, index) = self.home(id);
        let place = home.places.get(index).filter(|_| index != 0);
        place
            .and_then(|place| RawType::at(self.section(id), *place as usize))
            .ok_or(LayoutError::Damaged { id, reason: "there is no type of this number" })
    }

    /// The number of the function `name`: what programs for the kernel name their place of attachment by.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<u32> {
        let first_id = self.base.map_or(1, Btf::len);
        let section = self.header.types(&self.data)?;
        let found = self.places.iter().skip(1).position(|place| {
            RawType::at(section, *place as usize)
                .is_some_and(|raw| raw.kind == Kind::Function && self.string(raw.name) == name.as_bytes())
        });
        match found {
            Some(index) => u32::try_from(first_id + index).ok(),
            None => self.base?.function(name),
        }
    }

    /// The number of the structure or union `name`.
    fn structure(&self, name: &str) -> Result<u32, LayoutError> {
        let missing = || LayoutError::NoType { name: name.to_string() };
        let Some(id) = self.named.get(&hash(name.as_bytes())).copied() else {
            return self.base.ok_or_else(missing)?.structure(name);
        };
        let raw = self.raw(id)?;
        if self.string(raw.name) == name.as_bytes() { Ok(id) } else { Err(missing()) }
    }
}

impl Layouts for Btf<'_> {
    fn layout(&self, name: &str, limits: &Limits) -> Result<StructLayout, LayoutError> {
        render::layout(self, self.structure(name)?, name, limits)
    }
}

impl Types for Btf<'_> {
    fn member(&self, structure: &str, path: &str) -> Result<Member, LayoutError> {
        resolve::member(self, self.structure(structure)?, structure, path)
    }

    fn size_of(&self, structure: &str) -> Result<u64, LayoutError> {
        Ok(u64::from(self.raw(self.structure(structure)?)?.size_or_type))
    }
}

/// The string at `offset`: a module's strings go on behind the kernel's, and what the kernel has already is not told again.
fn name_at<'d>(base: Option<&'d Btf<'_>>, header: &Header, data: &'d [u8], offset: u32) -> Option<&'d [u8]> {
    let offset = offset as usize;
    let Some(base) = base else { return header.string(data, offset) };
    match offset.checked_sub(base.header.strings_len()) {
        Some(own) => header.string(data, own),
        None => base.header.string(&base.data, offset),
    }
}

#[cfg(test)]
mod tests;
