//! Libraries of a process, by the lists of its loader (`PEB_LDR_DATA`), 64-bit and 32-bit.

mod wow64;

use alloc::string::String;
use alloc::vec::Vec;

use hashbrown::HashMap;
use vmc::layout::{Field, LayoutError, Types};
use vmc::view::RowErrors;
use vmc::{Limits, VirtAddr, VirtualMemory};

use super::Process;
use super::user::is_user;
use crate::error::WindowsError;
use crate::lists::both_ways;
use crate::pe::Image;
use crate::rows::{ModuleRow, VadKind};
use crate::text::unicode_string;

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
            if let Err(error) = wow64::add(process, peb, &mut rows) {
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
