//! Members and sizes, through typedefs, qualifiers, arrays and anonymous structures.

use alloc::string::ToString;
use alloc::vec::Vec;

use vmc::layout::{LayoutError, Member};

use super::parse::{Kind, RawMember, array, members};
use super::{Btf, TOO_MANY};

impl Btf<'_> {
    /// The type behind typedefs and qualifiers.
    pub(super) fn strip(&self, id: u32) -> Result<u32, LayoutError> {
        let mut id = id;
        for _ in 0..self.depth {
            let raw = self.raw(id)?;
            match raw.kind {
                Kind::Typedef | Kind::Volatile | Kind::Const | Kind::Restrict | Kind::TypeTag => {
                    id = raw.size_or_type
                }
                _ => return Ok(id),
            }
        }
        Err(LayoutError::Damaged { id, reason: "its typedefs lead too deep" })
    }

    /// The size of a type in bytes.
    pub(super) fn byte_size(&self, id: u32) -> Result<u64, LayoutError> {
        let mut id = id;
        let mut count = 1u64;
        for _ in 0..self.depth {
            id = self.strip(id)?;
            let raw = self.raw(id)?;
            let size = match raw.kind {
                Kind::Int | Kind::Struct | Kind::Union | Kind::Enum | Kind::Float | Kind::Section => {
                    u64::from(raw.size_or_type)
                }
                Kind::Pointer => 8,
                Kind::Array => {
                    let (element, elements) = array(self.section(id), &raw)
                        .ok_or(LayoutError::Damaged { id, reason: "it is an array without a length" })?;
                    count = count.saturating_mul(u64::from(elements));
                    id = element;
                    continue;
                }
                _ => return Err(LayoutError::Damaged { id, reason: "it has no size" }),
            };
            return Ok(size.saturating_mul(count));
        }
        Err(LayoutError::Damaged { id, reason: "its arrays lead too deep" })
    }

    /// The member `name` of structure `id` and its bit offset in it; anonymous members are searched through.
    fn find(&self, id: u32, name: &str) -> Result<Option<(RawMember, u64)>, LayoutError> {
        let mut open: Vec<(u32, u64, usize)> = Vec::from([(id, 0, 0)]);
        let mut left = self.most_members;
        while let Some((id, base, depth)) = open.pop() {
            if depth > self.depth {
                return Err(LayoutError::Damaged { id, reason: "its anonymous members lead too deep" });
            }
            let raw = self.raw(id)?;
            for member in members(self.section(id), &raw) {
                left = left.checked_sub(1).ok_or(LayoutError::Damaged { id, reason: TOO_MANY })?;
                let at = base.saturating_add(member.bit_offset);
                if member.name != 0 {
                    if self.string(member.name) == name.as_bytes() {
                        return Ok(Some((member, at)));
                    }
                    continue;
                }
                let inner = self.strip(member.id)?;
                if matches!(self.raw(inner)?.kind, Kind::Struct | Kind::Union) {
                    open.push((inner, at, depth + 1));
                }
            }
        }
        Ok(None)
    }
}

/// The member at `path` of the structure number `id`, which is called `structure`.
pub(super) fn member(btf: &Btf<'_>, id: u32, structure: &str, path: &str) -> Result<Member, LayoutError> {
    let missing = || LayoutError::NoMember { structure: structure.to_string(), member: path.to_string() };
    let mut id = id;
    let mut bits = 0u64;
    let mut size = None;
    for name in path.split('.') {
        let inner = btf.strip(id)?;
        if !matches!(btf.raw(inner)?.kind, Kind::Struct | Kind::Union) {
            return Err(missing());
        }
        let (found, at) = btf.find(inner, name)?.ok_or_else(missing)?;
        bits = bits.saturating_add(at);
        id = found.id;
        size = Some(match found.bit_size {
            0 => btf.byte_size(id)?,
            // A bit-field: as many bytes as it touches.
            width => ((bits & 7) + u64::from(width)).div_ceil(8),
        });
    }
    Ok(Member { offset: bits / 8, size: size.ok_or_else(missing)? })
}
