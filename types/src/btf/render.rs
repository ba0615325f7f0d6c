//! Whole structures with their members' types in C: what `pahole` shows.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use vmc::Limits;
use vmc::layout::{LayoutError, StructLayout, StructMember};
use vmc::text::lossless;

use super::parse::{Kind, array, members};
use super::{Btf, TOO_MANY};

/// The structure number `id`.
pub(super) fn layout(
    btf: &Btf<'_>,
    id: u32,
    name: &str,
    limits: &Limits,
) -> Result<StructLayout, LayoutError> {
    let size = u64::from(btf.raw(id)?.size_or_type);
    let mut found = Vec::new();
    // The members of anonymous structures come where these stand: what is open is kept as a stack, last first.
    let mut open: Vec<(u32, u64, usize)> = Vec::from([(id, 0, 0)]);
    let mut left = limits.type_members;
    while let Some((id, base, depth)) = open.pop() {
        if depth > limits.type_depth {
            return Err(LayoutError::Damaged { id, reason: "its anonymous members lead too deep" });
        }
        let raw = btf.raw(id)?;
        for member in members(btf.section(id), &raw) {
            left = left.checked_sub(1).ok_or(LayoutError::Damaged { id, reason: TOO_MANY })?;
            let bit_offset = base.saturating_add(member.bit_offset);
            let inner = btf.strip(member.id)?;
            if member.name == 0 && matches!(btf.raw(inner)?.kind, Kind::Struct | Kind::Union) {
                open.push((inner, bit_offset, depth + 1));
                continue;
            }
            let bit_size = match member.bit_size {
                0 => btf.byte_size(member.id)?.saturating_mul(8),
                width => u64::from(width),
            };
            found.push(StructMember {
                name: lossless(btf.string(member.name)),
                bit_offset,
                bit_size,
                type_name: type_name(btf, member.id)?,
            });
        }
    }
    found.sort_by_key(|member| member.bit_offset);
    Ok(StructLayout { name: name.to_string(), size, members: found })
}

/// A type in C, without the name of what has it.
fn type_name(btf: &Btf<'_>, id: u32) -> Result<String, LayoutError> {
    let mut id = id;
    let mut suffix = String::new();
    let mut prefix = String::new();
    for _ in 0..btf.depth {
        if id == 0 {
            return Ok(format!("{prefix}void{suffix}"));
        }
        let raw = btf.raw(id)?;
        let name = lossless(btf.string(raw.name));
        let named = |keyword: &str| {
            let name = if raw.name == 0 { "{…}" } else { name.as_str() };
            format!("{prefix}{keyword}{name}{suffix}")
        };
        match raw.kind {
            Kind::Pointer => suffix.insert_str(0, " *"),
            Kind::Const => prefix.push_str("const "),
            Kind::Volatile => prefix.push_str("volatile "),
            Kind::Restrict | Kind::TypeTag => {}
            Kind::Array => {
                let (element, count) = array(btf.section(id), &raw)
                    .ok_or(LayoutError::Damaged { id, reason: "it is an array without a length" })?;
                suffix.push_str(&format!("[{count}]"));
                id = element;
                continue;
            }
            Kind::Struct => return Ok(named("struct ")),
            Kind::Union => return Ok(named("union ")),
            Kind::Forward => return Ok(named("struct ")),
            Kind::Enum => return Ok(named("enum ")),
            Kind::Prototype => return Ok(format!("{prefix}function{suffix}")),
            _ => return Ok(named("")),
        }
        id = raw.size_or_type;
    }
    Err(LayoutError::Damaged { id, reason: "its types lead too deep" })
}
