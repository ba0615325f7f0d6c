//! `vmlinux`, whole or its debug part: symbols, DWARF, BTF. Sections of types of a module are read the same way.

use std::sync::Arc;

use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use vmc::Limits;
use vmc::symbols::{SymbolTable, SymbolTableBuilder};
use vmc_linux::{Checks, GivenTypes, KernelIdentity};
use vmc_types::{Bytes, DwarfTypes, Sections};

use super::{btf, relocate, same_kernel};

pub(super) type Elf<'d> = ElfFile64<'d, object::LittleEndian>;

/// Bytes of one section, unpacked.
const SECTION_BYTES: u64 = 4 << 30;
/// What a banner begins with, and bytes of one.
const BANNER: &[u8] = b"Linux version ";
const BANNER_BYTES: usize = 1024;

pub(super) fn parse(bytes: &[u8]) -> Result<Elf<'_>, String> {
    Elf::parse(bytes).map_err(|why| format!("it is no 64-bit ELF file: {why}"))
}

/// The symbols of the image.
pub(super) fn symbols(bytes: &[u8], limits: &Limits) -> Result<SymbolTable, String> {
    let table = table(&parse(bytes)?, limits);
    if table.is_empty() { Err("it has no symbols".into()) } else { Ok(table) }
}

fn table(file: &Elf<'_>, limits: &Limits) -> SymbolTable {
    let mut builder = SymbolTableBuilder::default();
    for symbol in file.symbols().filter(ObjectSymbol::is_definition).take(limits.symbols) {
        let letter = match symbol.kind() {
            SymbolKind::Text => 't',
            SymbolKind::Data | SymbolKind::Unknown => 'd',
            _ => continue,
        };
        if let Ok(name) = symbol.name_bytes()
            && !name.is_empty()
        {
            let letter = if symbol.is_global() { letter.to_ascii_uppercase() } else { letter };
            builder.push(name, symbol.address(), symbol.size(), letter);
        }
    }
    builder.build()
}

/// The types of a kernel, if the file is of that very kernel.
pub(super) fn types(
    bytes: Vec<u8>,
    kernel: &KernelIdentity,
    checks: &Checks<'_>,
    limits: &Limits,
) -> Result<GivenTypes, String> {
    let bytes = Arc::new(bytes);
    let file = parse(&bytes)?;
    let id = file.build_id().ok().flatten();
    let symbols = || Ok((checks.symbols)(&table(&file, limits)));
    same_kernel(kernel, id, banner(&file).as_deref(), symbols)?;
    let sections = sections(&file, &bytes)?;
    if sections.info.is_empty() {
        let types = section(&file, &bytes, ".BTF")?;
        return if types.is_empty() {
            Err("it has neither DWARF (.debug_info) nor BTF".into())
        } else {
            btf(types.to_vec(), checks, limits)
        };
    }
    let types = DwarfTypes::load(sections, limits).map_err(|why| why.to_string())?;
    Ok(GivenTypes { source: "dwarf", types: Box::new(types) })
}

/// The sections that types are in.
pub(super) fn sections(file: &Elf<'_>, whole: &Arc<Vec<u8>>) -> Result<Sections, String> {
    let section = |name| section(file, whole, name);
    Ok(Sections {
        info: section(".debug_info")?,
        abbrev: section(".debug_abbrev")?,
        str: section(".debug_str")?,
        line_str: section(".debug_line_str")?,
        str_offsets: section(".debug_str_offsets")?,
    })
}

/// A section's bytes, unpacked where they are compressed and relocated where the file was not linked, else where they lie;
/// empty where there is none.
fn section(file: &Elf<'_>, whole: &Arc<Vec<u8>>, name: &str) -> Result<Bytes, String> {
    let Some(section) = file.section_by_name(name) else { return Ok(Bytes::default()) };
    let bad = |why: object::Error| format!("its section {name} cannot be read: {why}");
    let packed = section.compressed_data().map_err(bad)?;
    if packed.uncompressed_size > SECTION_BYTES {
        return Err(format!("its section {name} is larger than {SECTION_BYTES} bytes"));
    }
    let unlinked = relocate::needed(file, &section);
    if !unlinked
        && packed.format == object::CompressionFormat::None
        && let Some((start, len)) = section.file_range()
        && let (Ok(start), Ok(len)) = (usize::try_from(start), usize::try_from(len))
    {
        let part = start.checked_add(len).and_then(|end| Bytes::part(whole, start..end));
        return part.ok_or_else(|| format!("its section {name} is cut off"));
    }
    let mut bytes = packed.decompress().map_err(bad)?.into_owned();
    if unlinked {
        relocate::apply(file, &section, &mut bytes).map_err(|why| format!("its section {name}: {why}"))?;
    }
    Ok(bytes.into())
}

/// The banner in the read-only data of an image; debug files lack that.
fn banner(file: &Elf<'_>) -> Option<String> {
    let data = file.section_by_name(".rodata")?.data().ok()?;
    let finder = memchr::memmem::Finder::new(BANNER);
    finder.find_iter(data).find_map(|at| {
        let text = data.get(at..)?;
        let end = text.iter().take(BANNER_BYTES).position(|byte| *byte == b'\n' || *byte == 0)?;
        let text = std::str::from_utf8(text.get(..end)?).ok()?;
        text.get(BANNER.len()..)?.starts_with(|c: char| c.is_ascii_digit()).then(|| text.to_owned())
    })
}
