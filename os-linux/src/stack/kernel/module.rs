//! [`ModuleCode`]: a kernel module's own unwind table and symbols, read when a stack first comes by.
//!
//! Source: `unwind_module_init()` in `arch/x86/kernel/unwind_orc.c`, `kernel/module/kallsyms.c`. A module's tables lie in its
//! own memory, sorted when it was loaded. Its symbols are ELF ones, with final addresses; while it initialises there are more.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use once_cell::race::OnceBox;
use vmc::bytes::{cstr_at, u16_at, u32_at, u64_at};
use vmc::symbols::{SymbolTable, SymbolTableBuilder};
use vmc::view::{FrameModule, Module};
use vmc::{ReadExt, VirtAddr};
use vmc_unwind::NoTable;
use vmc_unwind::orc::{OrcLayout, OrcTable};

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::lazy::Lazy;

/// `Elf64_Sym`.
const SYMBOL_BYTES: usize = 24;

/// What the last name may have behind its start: `KSYM_NAME_LEN` is 512.
const LAST_NAME: usize = 512;

/// A kernel module.
#[derive(Debug)]
pub(super) struct ModuleCode {
    object: VirtAddr,
    pub(super) module: Arc<FrameModule>,
    table: Lazy<OrcTable<'static>, NoTable>,
    symbols: OnceBox<SymbolTable>,
}

impl ModuleCode {
    pub(super) fn new(row: Module) -> Self {
        Self {
            object: row.object,
            module: Arc::new(FrameModule {
                path: row.name,
                base: row.base,
                build_id: row.build_id,
                debug_link: None,
            }),
            table: Lazy::new(),
            symbols: OnceBox::new(),
        }
    }

    /// Its unwind table.
    pub(super) fn table(&self, linux: &Linux<'_>, layout: OrcLayout) -> Result<&OrcTable<'static>, NoTable> {
        self.table.get(|| {
            let fields = linux.module().map_err(|_| NoTable::None)?;
            let (Some(rules), Some(places), Some(count)) = (fields.orc, fields.orc_places, fields.orc_count)
            else {
                return Err(NoTable::None);
            };
            let (space, limit) = (linux.space(), linux.limits().unwind_bytes);
            let missing = |error: vmc::ReadError| NoTable::NotResident(error.addr);
            let rules_at = rules.pointer(space, self.object).map_err(missing)?;
            let places_at = places.pointer(space, self.object).map_err(missing)?;
            let count = u64::from(count.read(space, self.object).map_err(missing)?);
            if rules_at.is_null() || places_at.is_null() || count == 0 {
                return Err(NoTable::None);
            }
            let places = space.read_vec(places_at, count * 4, limit).map_err(missing)?;
            let rules = space.read_vec(rules_at, count * layout.entry_bytes() as u64, limit);
            Ok(OrcTable::new(places, places_at, rules.map_err(missing)?, layout))
        })
    }

    /// Its symbols; none where they cannot be read.
    pub(super) fn symbols(&self, linux: &Linux<'_>) -> &SymbolTable {
        self.symbols.get_or_init(|| Box::new(read_symbols(linux, self.object).unwrap_or_default()))
    }
}

fn read_symbols(linux: &Linux<'_>, module: VirtAddr) -> Result<SymbolTable, LinuxError> {
    let (space, limits) = (linux.space(), linux.limits());
    let read = LinuxError::read("a module's symbols");
    let Some(field) = linux.module()?.kallsyms else { return Ok(SymbolTable::default()) };
    let at = field.pointer(space, module).map_err(&read)?;
    let fields = linux.module_symbols()?;
    let count = fields.count.read(space, at).map_err(&read)? as usize;
    let count = count.min(limits.symbols);
    let table = fields.symbols.pointer(space, at).map_err(&read)?;
    let symbols =
        space.read_vec(table, (count * SYMBOL_BYTES) as u64, count * SYMBOL_BYTES).map_err(&read)?;
    let kinds = match fields.kinds {
        Some(field) => {
            let kinds = field.pointer(space, at).map_err(&read)?;
            space.read_part(kinds, count).0
        }
        None => Vec::new(),
    };
    let records = || symbols.chunks_exact(SYMBOL_BYTES);
    // How long the strings are is told nowhere: up to the name that begins last.
    let last = records().filter_map(|record| u32_at(record, 0)).max().unwrap_or(0) as usize;
    let strings = fields.strings.pointer(space, at).map_err(&read)?;
    let strings = space.read_part(strings, last.min(limits.symbol_bytes) + LAST_NAME).0;
    let mut builder = SymbolTableBuilder::with_capacity(count);
    for (index, record) in records().enumerate() {
        // st_name, st_shndx (0: it is another module's), st_value.
        let (Some(name), Some(section), Some(address)) =
            (u32_at(record, 0), u16_at(record, 6), u64_at(record, 8))
        else {
            continue;
        };
        let Some(name) = cstr_at(&strings, name as usize).filter(|_| section != 0) else { continue };
        if !is_mapping_symbol(name) {
            let kind = kinds.get(index).map_or('?', |kind| char::from(*kind));
            builder.push(name, address, 0, kind);
        }
    }
    Ok(builder.build())
}

/// Names that only tell assemblers' modes, or are no names at all (`is_mapping_symbol()`).
fn is_mapping_symbol(name: &[u8]) -> bool {
    match name {
        [] => true,
        [b'.', b'L', ..] | [b'L', b'0', ..] => true,
        [b'$', b'a' | b'd' | b't' | b'x', rest @ ..] => matches!(rest.first(), None | Some(b'.')),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_mapping_symbol;

    #[test]
    fn assemblers_labels_are_no_functions() {
        for name in ["", ".L3", "L0\u{1}", "$x", "$d.5"] {
            assert!(is_mapping_symbol(name.as_bytes()), "{name:?}");
        }
        for name in ["init_module", "$abc", "Lock", "x.L"] {
            assert!(!is_mapping_symbol(name.as_bytes()), "{name:?}");
        }
    }
}
