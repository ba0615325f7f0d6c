//! Symbol tables: names with addresses, whatever they were read from.
//!
//! A [`SymbolTable`] keeps 16 bytes a symbol and the names in one pool. Of several names for one address the first in
//! the source's order is the one that is found, as the kernel does it.

use alloc::vec::Vec;

/// A symbol, lent by its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'t> {
    /// Its name as it stands in the source: not demangled, not necessarily UTF-8.
    pub name: &'t [u8],
    /// Its address.
    pub address: u64,
    /// Its size in bytes, where the source tells one.
    pub size: Option<u64>,
    /// Its kind as a letter of `nm`: `T`/`t` code, `D`/`d` data, `R`/`r` read-only data, `B`/`b` zeroed data, …
    pub kind: char,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    /// Where in the pool: a byte of kind, the name, a NUL.
    name: u32,
    /// Zero: unknown.
    size: u32,
}

/// Symbols in the order of their addresses.
#[derive(Clone, Debug, Default)]
pub struct SymbolTable {
    entries: Vec<Entry>,
    pool: Vec<u8>,
}

/// Collects symbols for a [`SymbolTable`].
#[derive(Debug, Default)]
pub struct SymbolTableBuilder {
    table: SymbolTable,
}

impl SymbolTableBuilder {
    /// An empty one, with room for `symbols`.
    #[must_use]
    pub fn with_capacity(symbols: usize) -> Self {
        let entries = Vec::with_capacity(symbols);
        let pool = Vec::with_capacity(symbols.saturating_mul(20));
        Self { table: SymbolTable { entries, pool } }
    }

    /// Adds a symbol. Names are kept up to their first NUL; one that no longer fits in 4 GiB of names is left out.
    pub fn push(&mut self, name: &[u8], address: u64, size: u64, kind: char) {
        let Ok(at) = u32::try_from(self.table.pool.len()) else { return };
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        self.table.pool.push(if kind.is_ascii() { kind as u8 } else { b'?' });
        let end = memchr::memchr(0, name).unwrap_or(name.len());
        self.table.pool.extend_from_slice(name.get(..end).unwrap_or_default());
        self.table.pool.push(0);
        self.table.entries.push(Entry { address, name: at, size });
    }

    /// The table.
    #[must_use]
    pub fn build(mut self) -> SymbolTable {
        // A stable sort: of equal addresses the source's order stays.
        self.table.entries.sort_by_key(|entry| entry.address);
        self.table.entries.shrink_to_fit();
        self.table.pool.shrink_to_fit();
        self.table
    }
}

/// How many symbols before the nearest one are asked whether they reach an address: nested symbols are rare.
const LOOK_BACK: usize = 16;

impl SymbolTable {
    /// How many symbols there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Is there no symbol?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn symbol(&self, entry: &Entry) -> Option<Symbol<'_>> {
        let record = self.pool.get(entry.name as usize..)?;
        let (kind, name) = record.split_first()?;
        let name = name.get(..memchr::memchr(0, name)?)?;
        let size = (entry.size != 0).then_some(u64::from(entry.size));
        Some(Symbol { name, address: entry.address, size, kind: char::from(*kind) })
    }

    /// All symbols, in the order of their addresses.
    pub fn iter(&self) -> impl Iterator<Item = Symbol<'_>> {
        self.entries.iter().filter_map(|entry| self.symbol(entry))
    }

    /// The symbols with this name, in the order of their addresses.
    pub fn named<'t>(&'t self, name: &'t [u8]) -> impl Iterator<Item = Symbol<'t>> {
        self.iter().filter(move |symbol| symbol.name == name)
    }

    /// The symbol that `address` lies in. One without a size reaches up to the next.
    #[must_use]
    pub fn at(&self, address: u64) -> Option<Symbol<'_>> {
        let behind = self.entries.partition_point(|entry| entry.address <= address);
        let mut group_end = behind;
        let mut looked_at = 0;
        while group_end > 0 && looked_at < LOOK_BACK {
            let start = self.entries.get(group_end - 1)?.address;
            let group_start = self.entries.partition_point(|entry| entry.address < start);
            let nearest = group_end == behind;
            let group = self.entries.get(group_start..group_end)?;
            let found = group.iter().find(|entry| match entry.size {
                0 => nearest,
                size => address - start < u64::from(size),
            });
            if let Some(entry) = found {
                return self.symbol(entry);
            }
            group_end = group_start;
            looked_at += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(symbols: &[(&str, u64, u64)]) -> SymbolTable {
        let mut builder = SymbolTableBuilder::default();
        for (name, address, size) in symbols {
            builder.push(name.as_bytes(), *address, *size, 'T');
        }
        builder.build()
    }

    fn name_at(table: &SymbolTable, address: u64) -> Option<&str> {
        table.at(address).map(|symbol| core::str::from_utf8(symbol.name).unwrap())
    }

    #[test]
    fn the_first_of_several_names_wins() {
        let table = table(&[("second", 0x20, 0), ("a", 0x10, 0), ("b", 0x10, 0)]);
        assert_eq!(name_at(&table, 0x1f), Some("a"));
        assert_eq!(name_at(&table, 0x20), Some("second"));
        assert_eq!(name_at(&table, 0xf), None);
        assert_eq!(table.named(b"b").next().unwrap().address, 0x10);
    }

    #[test]
    fn sizes_end_a_symbol() {
        let table = table(&[("outer", 0x10, 0x100), ("inner", 0x20, 0x8), ("alone", 0x200, 4)]);
        assert_eq!(name_at(&table, 0x27), Some("inner"));
        assert_eq!(name_at(&table, 0x28), Some("outer"));
        assert_eq!(name_at(&table, 0x110), None);
        assert_eq!(name_at(&table, 0x203), Some("alone"));
        assert_eq!(name_at(&table, 0x204), None);
    }

    #[test]
    fn names_and_kinds_come_back_as_they_were() {
        let mut builder = SymbolTableBuilder::with_capacity(1);
        builder.push(b"caf\xe9\0junk", 1, 5_000_000_000, 'é');
        let table = builder.build();
        let symbol = table.iter().next().unwrap();
        assert_eq!(
            (symbol.name, symbol.kind, symbol.size),
            (&b"caf\xe9"[..], '?', Some(u64::from(u32::MAX)))
        );
    }
}
