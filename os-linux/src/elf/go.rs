//! `.gopclntab`: the functions of a Go program, which its runtime needs even where the program was stripped.
//!
//! Source: `src/debug/gosym/pclntab.go` and `src/runtime/symtab.go` of Go: a header whose magic number tells the version, a
//! table of functions, and for each a record that names it.

use vmc::bytes::{cstr_at, u8_at, u32_at, u64_at};
use vmc::symbols::SymbolTableBuilder;

use super::image::ElfImage;

/// Magic numbers of Go 1.2, 1.16, 1.18 and 1.20.
const GO_1_2: u32 = 0xffff_fffb;
const GO_1_16: u32 = 0xffff_fffa;
const GO_1_18: u32 = 0xffff_fff0;
const GO_1_20: u32 = 0xffff_fff1;

/// Where things lie in the table.
struct Layout {
    functions: usize,
    count: u64,
    names: usize,
    /// What is added to entries of four bytes; nothing: they have eight, and are addresses.
    text: Option<u64>,
}

impl ElfImage<'_, '_> {
    /// Adds the functions of a Go program; says whether it is one.
    pub(super) fn add_go(&self, builder: &mut SymbolTableBuilder) -> bool {
        let names: [&[u8]; 2] = [b".gopclntab", b".data.rel.ro.gopclntab"];
        let Some(part) = names.into_iter().find_map(|name| self.section_named(name)) else { return false };
        let read = self.source.read(part.offset, part.size, self.limits.symbol_bytes);
        let Some((table, _)) = read else { return false };
        let text = self.section_named(b".text").map_or(0, |part| part.address);
        add(builder, &table, text, self.limits.symbols).is_some()
    }
}

fn layout(table: &[u8], text: u64) -> Option<Layout> {
    let word = |index: usize| u64_at(table, 8 + index * 8);
    let offset = |index: usize| usize::try_from(word(index)?).ok();
    // Two zeros, the quantum of instructions, the size of a pointer.
    if u32_at(table, 4)? & 0xffff != 0 || u8_at(table, 7)? != 8 {
        return None;
    }
    let count = word(0)?;
    Some(match u32_at(table, 0)? {
        GO_1_2 => Layout { functions: 16, count, names: 0, text: None },
        GO_1_16 => Layout { functions: offset(6)?, count, names: offset(2)?, text: None },
        GO_1_18 | GO_1_20 => {
            // A position-independent program has it relocated: the file has a zero.
            let text = word(2).filter(|start| *start != 0).unwrap_or(text);
            Layout { functions: offset(7)?, count, names: offset(3)?, text: Some(text) }
        }
        _ => return None,
    })
}

/// Adds at most `limit` functions.
fn add(builder: &mut SymbolTableBuilder, table: &[u8], text: u64, limit: usize) -> Option<()> {
    let Layout { functions, count, names, text } = layout(table, text)?;
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(limit);
    let base = if functions == 16 { 0 } else { functions };
    // An entry's address and where its record lies; a record begins with the address again, then comes the name.
    let entry = |index: usize| {
        let word = functions.checked_add(index.checked_mul(if text.is_some() { 8 } else { 16 })?)?;
        Some(match text {
            Some(text) => {
                (text.wrapping_add(u32_at(table, word)?.into()), u32_at(table, word + 4)? as usize, 4)
            }
            None => (u64_at(table, word)?, usize::try_from(u64_at(table, word + 8)?).ok()?, 8),
        })
    };
    for index in 0..count {
        let Some((address, record, into)) = entry(index) else { break };
        // Behind the last one the end stands.
        let Some((end, ..)) = entry(index + 1) else { break };
        let name = base.checked_add(record).and_then(|record| u32_at(table, record.checked_add(into)?));
        let name = name.and_then(|name| cstr_at(table, names.checked_add(name as usize)?));
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            builder.push(name, address, end.saturating_sub(address), 't');
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Two functions of Go 1.20's form.
    fn table() -> Vec<u8> {
        let mut table = Vec::new();
        table.extend(GO_1_20.to_le_bytes());
        table.extend([0, 0, 1, 8]);
        // Functions, files, text; names, units, files, pcs; functions.
        for word in [2u64, 0, 0x40_1000, 72, 0, 0, 0, 96] {
            table.extend(word.to_le_bytes());
        }
        table.extend(b"main.main\0main.work\0\0\0\0\0");
        for word in [0u32, 24, 0x80, 32, 0x100, 0, 0, 0, 0x80, 10] {
            table.extend(word.to_le_bytes());
        }
        table
    }

    #[test]
    fn functions_get_their_names_and_ends() {
        let mut builder = SymbolTableBuilder::default();
        add(&mut builder, &table(), 0, 100).unwrap();
        let symbols = builder.build();
        let name = |address| symbols.at(address).map(|symbol| symbol.name);
        assert_eq!(name(0x40_1000), Some(&b"main.main"[..]));
        assert_eq!(name(0x40_10ff), Some(&b"main.work"[..]));
        assert_eq!((name(0x40_1100), symbols.len()), (None, 2));
    }

    #[test]
    fn damage_is_bounded() {
        let whole = table();
        for len in 0..whole.len() {
            let _ = add(&mut SymbolTableBuilder::default(), &whole[..len], 0, 100);
            let mut damaged = whole.clone();
            damaged[len] = 0xff;
            let mut builder = SymbolTableBuilder::default();
            let _ = add(&mut builder, &damaged, 0, 100);
            assert!(builder.build().len() <= 100);
        }
        let mut endless = whole;
        endless[8..16].fill(0xff);
        add(&mut SymbolTableBuilder::default(), &endless, 0, 100).unwrap();
    }
}
