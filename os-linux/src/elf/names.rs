//! Symbols of an image: `.symtab` where the page cache has it, else `.dynsym` and what `.gnu_debugdata` adds to it; or
//! Go's own table.

use object::LittleEndian;
use object::elf::{
    DT_GNU_HASH, DT_HASH, DT_STRSZ, DT_STRTAB, DT_SYMTAB, SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, STB_LOCAL,
    STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE,
};
use object::read::elf::{Dyn as _, FileHeader, GnuHashTable, HashTable, Sym as _};
use vmc::bytes::cstr_at;
use vmc::symbols::{SymbolTable, SymbolTableBuilder};
use vmc_unwind::AddressSize;

use super::headers::{Elf32, Elf64};
use super::image::ElfImage;

impl ElfImage<'_, '_> {
    pub(super) fn read_symbols(&self) -> SymbolTable {
        let mut builder = SymbolTableBuilder::default();
        let whole = self.add_section(&mut builder, SHT_SYMTAB.0);
        if !whole && !self.add_go(&mut builder) {
            if !self.add_section(&mut builder, SHT_DYNSYM.0) {
                self.add_dynamic(&mut builder);
            }
            #[cfg(feature = "xz")]
            self.add_debug_data(&mut builder);
        }
        builder.build()
    }

    /// Adds the symbols of the section of a kind; says whether they are all there.
    pub(super) fn add_section(&self, builder: &mut SymbolTableBuilder, kind: u32) -> bool {
        let sections = self.headers.sections(&self.source, self.limits);
        let Some(section) = sections.iter().find(|section| section.kind == kind) else { return false };
        let Some(names) = sections.get(section.link) else { return false };
        let read = |offset, size| self.source.read(offset, size, self.limits.symbol_bytes);
        let Some((table, lacking)) = read(section.part.offset, section.part.size) else { return false };
        let Some((strings, lacking_names)) = read(names.part.offset, names.part.size) else { return false };
        match self.headers.address_size {
            AddressSize::Eight => self.add::<Elf64>(builder, &table, &strings),
            AddressSize::Four => self.add::<Elf32>(builder, &table, &strings),
        }
        lacking.is_empty() && lacking_names.is_empty()
    }

    /// Adds what the dynamic linker would find: by addresses alone, without section headers.
    fn add_dynamic(&self, builder: &mut SymbolTableBuilder) {
        match self.headers.address_size {
            AddressSize::Eight => self.add_dynamic_as::<Elf64>(builder),
            AddressSize::Four => self.add_dynamic_as::<Elf32>(builder),
        }
    }

    fn add_dynamic_as<E: FileHeader<Endian = LittleEndian>>(&self, builder: &mut SymbolTableBuilder) {
        let endian = LittleEndian;
        let Some(dynamic) = self.headers.dynamic else { return };
        let size = size_of::<E::Dyn>();
        let Some((bytes, _)) = self.read_at(dynamic.address, dynamic.size, self.limits.elf_headers * size)
        else {
            return;
        };
        let Ok((entries, _)) = object::pod::slice_from_bytes::<E::Dyn>(&bytes, bytes.len() / size) else {
            return;
        };
        let value =
            |tag| entries.iter().find(|entry| entry.tag(endian) == tag).map(|entry| entry.val(endian));
        let limit = self.limits.symbol_bytes;
        let hash = |tag| Some(self.read_at(value(tag)?, u64::MAX, limit)?.0);
        // The number of symbols stands nowhere but in the hash tables.
        let by_gnu = hash(DT_GNU_HASH)
            .and_then(|bytes| GnuHashTable::<E>::parse(endian, &bytes).ok()?.symbol_table_length(endian));
        let count = by_gnu.or_else(|| {
            let bytes = hash(DT_HASH)?;
            Some(HashTable::<E>::parse(endian, &bytes).ok()?.symbol_table_length())
        });
        let (Some(table), Some(strings), Some(count)) = (value(DT_SYMTAB), value(DT_STRTAB), count) else {
            return;
        };
        let table = self.read_at(table, u64::from(count) * size_of::<E::Sym>() as u64, limit);
        let strings = self.read_at(strings, value(DT_STRSZ).unwrap_or(0), limit);
        if let (Some((table, _)), Some((strings, _))) = (table, strings) {
            self.add::<E>(builder, &table, &strings);
        }
    }

    /// Adds the code among these symbols.
    fn add<E: FileHeader<Endian = LittleEndian>>(
        &self,
        builder: &mut SymbolTableBuilder,
        table: &[u8],
        strings: &[u8],
    ) {
        let endian = LittleEndian;
        let count = (table.len() / size_of::<E::Sym>()).min(self.limits.symbols);
        let Ok((symbols, _)) = object::pod::slice_from_bytes::<E::Sym>(table, count) else { return };
        for symbol in symbols {
            let (kind, value) = (symbol.st_type(), symbol.st_value(endian).into());
            let code = kind == STT_FUNC || kind == STT_GNU_IFUNC || kind == STT_NOTYPE;
            if !code || symbol.st_shndx(endian) == SHN_UNDEF || value == 0 {
                continue;
            }
            let name: Option<&[u8]> = cstr_at(strings, symbol.st_name(endian) as usize);
            let Some(name) = name.filter(|name| !name.is_empty()) else { continue };
            if kind == STT_NOTYPE && is_mapping_symbol(name) {
                continue;
            }
            let letter = if symbol.st_bind() == STB_LOCAL { 't' } else { 'T' };
            builder.push(name, value, symbol.st_size(endian).into(), letter);
        }
    }
}

/// Names that tell where code and where data begins, in programs for Arm: `$x`, `$d`, also with a suffix (AAELF64, "Mapping
/// symbols").
fn is_mapping_symbol(name: &[u8]) -> bool {
    matches!(name, [b'$', b'a' | b'd' | b't' | b'x'] | [b'$', b'a' | b'd' | b't' | b'x', b'.', ..])
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::super::Source;
    use super::*;

    #[test]
    fn marks_of_code_are_no_functions() {
        assert!([&b"$x"[..], b"$d.12", b"$x.main"].into_iter().all(is_mapping_symbol));
        assert!(![&b"$"[..], b"$xyz", b"x", b"$y"].into_iter().any(is_mapping_symbol));
    }
    use alloc::string::String;
    use alloc::vec::Vec;
    use object::{Object, ObjectSymbol, SymbolKind};
    use vmc::Limits;

    /// Libraries of both classes, as object's own reader has them: with section headers and without.
    #[test]
    fn both_classes_are_as_object_says() {
        for path in ["/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib32/libc.so.6"] {
            let Ok(bytes) = std::fs::read(path) else {
                let _ = std::io::Write::write_fmt(
                    &mut std::io::stderr(),
                    std::format_args!("skipped: {path} is not there\n"),
                );
                continue;
            };
            let file = object::File::parse(&*bytes).unwrap();
            let functions = file.dynamic_symbols().filter(|symbol| {
                symbol.kind() == SymbolKind::Text && symbol.is_definition() && symbol.size() > 0
            });
            let expected: Vec<u64> = functions.map(|symbol| symbol.address()).collect();
            assert!(expected.len() > 1000);
            let mut without = bytes.clone();
            // e_shoff and e_shnum.
            let (offset, count) =
                if file.is_64() { (0x28..0x30, 0x3c..0x3e) } else { (0x20..0x24, 0x30..0x32) };
            without[offset].fill(0);
            without[count].fill(0);
            for bytes in [bytes.clone(), without] {
                let limits = Limits::default();
                let image = ElfImage::new(String::new(), Source::Bytes(bytes), &limits).unwrap();
                let symbols = image.symbols();
                for address in &expected {
                    assert_eq!(symbols.at(*address).map(|symbol| symbol.address), Some(*address), "{path}");
                }
                let id = image.build_id().map(|id| &*id.0);
                assert_eq!(id, file.build_id().unwrap());
                let table = image.table().unwrap();
                let mut scratch = vmc_unwind::Scratch::new();
                let described =
                    expected.iter().filter(|address| table.row_for(**address, &mut scratch).is_ok());
                assert!(described.count() > expected.len() * 9 / 10, "{path}");
            }
        }
    }
}
