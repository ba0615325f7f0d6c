//! Libraries of a process, by the lists of its loader (`PEB_LDR_DATA`), 64-bit and 32-bit.

use alloc::string::String;
use alloc::vec::Vec;

use hashbrown::HashMap;
use vmc::layout::{Field, LayoutError, Types};
use vmc::view::RowErrors;
use vmc::{Fault, Limits, ReadError, ReadExt, VirtAddr, VirtualMemory};

use super::Process;
use super::user::is_user;
use crate::error::WindowsError;
use crate::lists::both_ways;
use crate::pe::Image;
use crate::rows::{ModuleRow, VadKind};
use crate::text::{unicode_string, utf16};

type Found = Vec<Result<ModuleRow, WindowsError>>;

pub(super) fn modules(process: &Process<'_>) -> Found {
    let mut rows = Found::new();
    if let Some(peb) = process.peb()
        && let Err(error) = native(process, peb, &mut rows)
    {
        rows.push(Err(error));
    }
    match process.peb32() {
        Ok(Some(peb)) => {
            if let Err(error) = wow64(process, peb, &mut rows) {
                rows.push(Err(error));
            }
        }
        Ok(None) => {}
        Err(error) => rows.push(Err(error)),
    }
    if let Err(error) = mapped(process, &mut rows) {
        rows.push(Err(error));
    }
    // Errors last: nothing that was found stands behind them.
    let (mut found, errors): (Found, Found) = rows.into_iter().partition(Result::is_ok);
    found.extend(errors);
    found
}

/// Members of `_LDR_DATA_TABLE_ENTRY`.
struct EntryFields {
    base: Field<u64>,
    size: Field<u32>,
    path: u64,
    name: u64,
    timestamp: Option<Field<u32>>,
}

/// The three orders in which the loader keeps its entries.
const ORDERS: [(&str, &str); 3] = [
    ("InLoadOrderModuleList", "InLoadOrderLinks"),
    ("InMemoryOrderModuleList", "InMemoryOrderLinks"),
    ("InInitializationOrderModuleList", "InInitializationOrderLinks"),
];

impl EntryFields {
    fn new(types: &impl Types) -> Result<Self, LayoutError> {
        const ENTRY: &str = "_LDR_DATA_TABLE_ENTRY";
        Ok(Self {
            base: Field::new(types, ENTRY, "DllBase")?,
            size: Field::new(types, ENTRY, "SizeOfImage")?,
            path: types.member(ENTRY, "FullDllName")?.offset,
            name: types.member(ENTRY, "BaseDllName")?.offset,
            timestamp: Field::new(types, ENTRY, "TimeDateStamp").ok(),
        })
    }

    fn row<V: VirtualMemory>(&self, memory: &V, at: VirtAddr, limits: &Limits) -> ModuleRow {
        let mut errors = RowErrors::default();
        let mut row = ModuleRow { object: at, ..ModuleRow::default() };
        row.base = errors.keep(limits, "base", self.base.pointer(memory, at)).unwrap_or_default();
        row.size = errors.keep(limits, "size", self.size.read(memory, at)).map(u64::from).unwrap_or_default();
        row.timestamp = self.timestamp.and_then(|field| field.read(memory, at).ok());
        let path = unicode_string(memory, at.wrapping_add(self.path), limits);
        row.path = errors.keep(limits, "path", path);
        let name = unicode_string(memory, at.wrapping_add(self.name), limits);
        row.name = errors.keep(limits, "name", name).unwrap_or_default();
        row.errors = errors;
        row
    }
}

/// Takes a row in: one a base address. What stands at no user address is said to be in doubt.
fn take(rows: &mut Found, bases: &mut HashMap<VirtAddr, usize>, mut row: ModuleRow, limits: &Limits) {
    if !is_user(row.base) {
        row.errors.push(limits, "base", &"not an address of user mode");
    }
    if let Some(Ok(known)) = bases.get(&row.base).and_then(|index| rows.get_mut(*index)) {
        known.wow64 |= row.wow64;
        return;
    }
    if row.name.is_empty()
        && let Some(path) = &row.path
    {
        row.name = path.rsplit('\\').next().map(String::from).unwrap_or_default();
    }
    bases.insert(row.base, rows.len());
    rows.push(Ok(row));
}

fn bases(rows: &Found) -> HashMap<VirtAddr, usize> {
    rows.iter().enumerate().filter_map(|(i, row)| row.as_ref().ok().map(|row| (row.base, i))).collect()
}

fn native(process: &Process<'_>, peb: VirtAddr, rows: &mut Found) -> Result<(), WindowsError> {
    let (types, limits) = (process.windows.types(), process.windows.limits());
    let memory = process.user_memory()?;
    let loader: Field<u64> = Field::new(types, "_PEB", "Ldr")?;
    let loader = loader.pointer(&memory, peb).map_err(WindowsError::read("the PEB"))?;
    if loader.is_null() {
        return Ok(());
    }
    let fields = EntryFields::new(types)?;
    let mut bases = bases(rows);
    let mut damage = None;
    for (head, links) in ORDERS {
        let head = loader.wrapping_add(types.member("_PEB_LDR_DATA", head)?.offset);
        let links = types.member("_LDR_DATA_TABLE_ENTRY", links)?.offset;
        let (entries, broken) = both_ways(&memory, "the loader's list", head, links, limits.modules);
        for entry in entries {
            take(rows, &mut bases, fields.row(&memory, entry, limits), limits);
        }
        // The next order has what this one lost.
        let Some(error) = broken else { break };
        damage.get_or_insert(error);
    }
    damage.map_or(Ok(()), Err)
}

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

/// 32-bit memory: what the walks over lists see has pointers of eight bytes.
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
    let mut seen = hashbrown::HashSet::new();
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

fn wow64(process: &Process<'_>, peb: VirtAddr, rows: &mut Found) -> Result<(), WindowsError> {
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

/// Images that are mapped and that no list has (the process took them off, the lists are broken or not in memory); and what the
/// headers of all of them say.
fn mapped(process: &Process<'_>, rows: &mut Found) -> Result<(), WindowsError> {
    let limits = process.windows.limits();
    let mut bases = bases(rows);
    let broken = match process.vads() {
        Ok(vads) => vads
            .filter_map(|vad| match vad {
                Ok(vad) if vad.kind == VadKind::Image && is_user(vad.start) => {
                    let name = vad.path.as_deref().and_then(|path| path.rsplit('\\').next());
                    let row = ModuleRow {
                        name: name.map(String::from).unwrap_or_default(),
                        base: vad.start,
                        size: vad.end.offset_from(vad.start).unwrap_or_default(),
                        path: vad.path,
                        object: vad.object,
                        ..ModuleRow::default()
                    };
                    if !bases.contains_key(&row.base) && rows.len() < limits.modules {
                        take(rows, &mut bases, row, limits);
                    }
                    None
                }
                Ok(_) => None,
                Err(error) => Some(error),
            })
            .last(),
        Err(error) => Some(error),
    };
    if !rows.is_empty() {
        let memory = process.user_memory()?;
        for row in rows.iter_mut().flatten().filter(|row| is_user(row.base)) {
            let Ok(image) = Image::read(&memory, row.base) else { continue };
            row.wow64 |= image.machine() == Image::I386;
            row.pdb = image.code_view(&memory).ok().flatten();
        }
    }
    broken.map_or(Ok(()), Err)
}
