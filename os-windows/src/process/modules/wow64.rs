//! Libraries of a 32-bit process on a 64-bit kernel, by the lists of its own, 32-bit loader.

use alloc::string::String;
use alloc::vec::Vec;

use hashbrown::HashSet;
use vmc::layout::Types;
use vmc::view::RowErrors;
use vmc::{Fault, Limits, ReadError, ReadExt, VirtAddr, VirtualMemory};

use super::{Found, bases, take};
use crate::error::WindowsError;
use crate::process::Process;
use crate::rows::ModuleRow;
use crate::text::utf16;

/// `PEB32`, `PEB_LDR_DATA32` and `LDR_DATA_TABLE_ENTRY32`: parts of the 32-bit ABI (winternl.h), the same in each release.
mod abi32 {
    pub(super) const PEB_LDR: u64 = 0xc;
    /// In the loader's data; in an entry.
    pub(super) const ORDERS: [(u64, u64); 3] = [(0xc, 0), (0x14, 8), (0x1c, 0x10)];
    pub(super) const BASE: u64 = 0x18;
    pub(super) const SIZE: u64 = 0x20;
    pub(super) const PATH: u64 = 0x24;
    pub(super) const NAME: u64 = 0x2c;
    pub(super) const TIMESTAMP: u64 = 0x44;
}

/// A pointer of four bytes.
fn pointer32<V: VirtualMemory>(memory: &V, at: VirtAddr) -> Result<VirtAddr, ReadError> {
    memory.read_value::<u32>(at).map(|pointer| VirtAddr::new(u64::from(pointer)))
}

/// The entries of a list of 32-bit pointers: forwards, and backwards where that breaks.
fn both_ways32<V: VirtualMemory>(
    memory: &V,
    head: VirtAddr,
    links: u64,
    limit: usize,
) -> (Vec<VirtAddr>, Option<WindowsError>) {
    const WHAT: &str = "the 32-bit loader's list";
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut damage = None;
    for pointer in [0, 4] {
        let (mut at, mut part) = (head, Vec::new());
        let broken = loop {
            let next = match pointer32(memory, at.wrapping_add(pointer)) {
                Ok(next) if next == head => break None,
                Ok(next) => next,
                Err(source) => break Some(WindowsError::Read { what: WHAT, source }),
            };
            if next.get() < links || next.is_null() || seen.len() >= limit || !seen.insert((next, pointer)) {
                let reason = "the list leads in a circle, to nothing, or has more entries than the limit";
                break Some(WindowsError::Broken { what: WHAT, at: next, reason });
            }
            if pointer == 0 || !seen.contains(&(next, 0)) {
                part.push(VirtAddr::new(next.get() - links));
            }
            at = next;
        };
        if pointer != 0 {
            part.reverse();
        }
        found.append(&mut part);
        let Some(error) = broken else { break };
        damage.get_or_insert(error);
    }
    (found, damage)
}

/// The text of a 32-bit `UNICODE_STRING`: its pointer lies at 4.
fn string32<V: VirtualMemory>(memory: &V, at: VirtAddr, limits: &Limits) -> Result<String, ReadError> {
    let length: u16 = memory.read_value(at)?;
    let buffer = pointer32(memory, at.wrapping_add(4))?;
    if length > 0 && buffer.is_null() {
        return Err(ReadError::new(buffer, Fault::NotMapped));
    }
    utf16(memory, buffer, u64::from(length), limits)
}

fn row32<V: VirtualMemory>(memory: &V, at: VirtAddr, limits: &Limits) -> ModuleRow {
    let mut errors = RowErrors::default();
    let mut row = ModuleRow { object: at, wow64: true, ..ModuleRow::default() };
    let value = |offset| memory.read_value::<u32>(at.wrapping_add(offset));
    row.base =
        errors.keep(limits, "base", pointer32(memory, at.wrapping_add(abi32::BASE))).unwrap_or_default();
    row.size = errors.keep(limits, "size", value(abi32::SIZE)).map(u64::from).unwrap_or_default();
    row.timestamp = value(abi32::TIMESTAMP).ok();
    row.path = errors.keep(limits, "path", string32(memory, at.wrapping_add(abi32::PATH), limits));
    let name = string32(memory, at.wrapping_add(abi32::NAME), limits);
    row.name = errors.keep(limits, "name", name).unwrap_or_default();
    row.errors = errors;
    row
}

pub(super) fn add(process: &Process<'_>, peb: VirtAddr, rows: &mut Found) -> Result<(), WindowsError> {
    let (types, limits) = (process.windows.types(), process.windows.limits());
    let memory = process.user_memory()?;
    let loader = types.member("_PEB32", "Ldr").map_or(abi32::PEB_LDR, |member| member.offset);
    let loader =
        pointer32(&memory, peb.wrapping_add(loader)).map_err(WindowsError::read("the 32-bit PEB"))?;
    if loader.is_null() {
        return Ok(());
    }
    let mut bases = bases(rows);
    let mut damage = None;
    for (head, links) in abi32::ORDERS {
        let (entries, broken) = both_ways32(&memory, loader.wrapping_add(head), links, limits.modules);
        for entry in entries {
            take(rows, &mut bases, row32(&memory, entry, limits), limits);
        }
        let Some(error) = broken else { break };
        damage.get_or_insert(error);
    }
    damage.map_or(Ok(()), Err)
}
