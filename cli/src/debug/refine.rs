//! What debug files say about addresses.

use std::collections::{BTreeSet, HashMap};

use object::read::elf::ElfFile64;
use object::{Object, ObjectSegment, ObjectSymbol, SymbolKind};
use vmc::Limits;
use vmc::symbols::{SymbolTable, SymbolTableBuilder};
use vmc::text::lossless;
use vmc::view::{FoundBy, Frame};

use super::find::DebugFiles;
use super::link::Name;

/// A place in a program: what leads to its debug file, and how far from its image's start.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    image: Name,
    offset: u64,
}

impl Place {
    /// Where a frame stands, by the byte that names it; nothing where its image, or what leads to its debug
    /// file, is not known.
    pub(crate) fn of(frame: &Frame) -> Option<Self> {
        let module = frame.module.as_ref()?;
        // All but the innermost and those that were interrupted stand behind a call.
        let back = u64::from(frame.found_by != FoundBy::Registers && !frame.signal);
        let offset = frame.ip.get().checked_sub(module.base.get())?.checked_sub(back)?;
        let image = Name::of(module.build_id.as_ref(), module.debug_link.as_ref())?;
        Some(Self { image, offset })
    }
}

/// Where in its source a frame stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) file: String,
    pub(crate) line: u32,
}

/// A function at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: Option<String>,
    pub(crate) source: Option<Source>,
}

/// What a debug file says about a place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refined {
    /// The symbol, and how far from the image's start it begins.
    pub(crate) symbol: Option<(String, u64)>,
    /// The functions that are there, innermost first: all but the last are inlined. Only where lines are asked for.
    pub(crate) functions: Vec<Function>,
}

/// Looks places up in the debug files of their programs.
pub(crate) fn refine<'p>(
    files: &mut DebugFiles,
    places: impl Iterator<Item = &'p Place>,
    lines: bool,
    limits: &Limits,
) -> HashMap<Place, Refined> {
    let mut by_file: HashMap<&Name, BTreeSet<u64>> = HashMap::new();
    for place in places {
        by_file.entry(&place.image).or_default().insert(place.offset);
    }
    let mut found = HashMap::new();
    for (image, offsets) in by_file {
        let Some(bytes) = files.read(image) else { continue };
        for (offset, refined) in in_file(&bytes, &offsets, lines, limits).unwrap_or_default() {
            found.insert(Place { image: image.clone(), offset }, refined);
        }
    }
    found
}

/// What one debug file says.
fn in_file(
    bytes: &[u8],
    offsets: &BTreeSet<u64>,
    lines: bool,
    limits: &Limits,
) -> Option<Vec<(u64, Refined)>> {
    let file = ElfFile64::<object::LittleEndian>::parse(bytes).ok()?;
    // A kernel's per-CPU data lies at address 0, its image in the upper half.
    let starts = || file.segments().map(|segment| segment.address() & !0xfff);
    let base = starts().filter(|start| start >> 63 == 1).min().or_else(|| starts().min()).unwrap_or(0);
    let symbols = symbols(&file, limits);
    #[cfg(feature = "lines")]
    let sections = lines.then(|| super::lines::Sections::of(&file)).flatten();
    #[cfg(feature = "lines")]
    let dwarf = sections.as_ref().and_then(super::lines::Sections::lines);
    #[cfg(not(feature = "lines"))]
    let _ = lines;
    let one = |offset: &u64| {
        let address = base.wrapping_add(*offset);
        let symbol = symbols.at(address);
        let symbol = symbol.map(|symbol| (lossless(symbol.name), symbol.address.wrapping_sub(base)));
        #[cfg(feature = "lines")]
        let functions = dwarf.as_ref().map(|dwarf| dwarf.at(address)).unwrap_or_default();
        #[cfg(not(feature = "lines"))]
        let functions = Vec::new();
        (*offset, Refined { symbol, functions })
    };
    Some(offsets.iter().map(one).collect())
}

/// The functions of its symbol table.
fn symbols(file: &ElfFile64<'_, object::LittleEndian>, limits: &Limits) -> SymbolTable {
    let mut builder = SymbolTableBuilder::default();
    let code = |symbol: &object::read::elf::ElfSymbol64<'_, '_, object::LittleEndian>| {
        symbol.is_definition() && matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Unknown)
    };
    for symbol in file.symbols().filter(code).take(limits.symbols) {
        if let Ok(name) = symbol.name_bytes()
            && !name.is_empty()
        {
            builder.push(name, symbol.address(), symbol.size(), 't');
        }
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use vmc::view::BuildId;

    /// The host's libc, under a name of no meaning, is found by its build-id and names what it exports.
    #[test]
    fn files_are_found_by_build_id_only() {
        let libc = Path::new("/lib/x86_64-linux-gnu/libc.so.6");
        let Ok(bytes) = std::fs::read(libc) else {
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                std::format_args!("skipped: there is no libc at the usual place\n"),
            );
            return;
        };
        let file = ElfFile64::<object::LittleEndian>::parse(&*bytes).unwrap();
        let of = |id: &[u8]| Name { id: Some(BuildId(id.into())), link: None };
        let image = of(file.build_id().unwrap().unwrap());
        let directory = std::env::temp_dir().join(format!("vmc-debug-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("deep/er")).unwrap();
        std::fs::write(directory.join("deep/er/thing"), &bytes).unwrap();
        std::fs::write(directory.join("deep/noise"), b"\x7fELF and no more").unwrap();
        let mut files = DebugFiles::new(std::slice::from_ref(&directory));
        assert_eq!(files.read(&image).as_deref(), Some(&*bytes));
        assert_eq!(files.read(&of(&[1, 2, 3, 4])), None);
        assert_eq!(files.read(&of(&[])), None);
        let malloc = file.dynamic_symbols().find(|symbol| symbol.name() == Ok("malloc")).unwrap();
        // A file without `.symtab` names nothing; one with it does.
        let places =
            [Place { image: image.clone(), offset: malloc.address() + 1 }, Place { image, offset: u64::MAX }];
        let found = refine(&mut files, places.iter(), true, &Limits::default());
        assert_eq!(found.len(), 2);
        let symbol = found[&places[0]].symbol.as_ref();
        assert!(symbol.is_none_or(|(name, start)| name.contains("malloc") && *start == malloc.address()));
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn files_that_make_no_sense_are_passed_over() {
        let offsets = BTreeSet::from([0, 0x1000]);
        assert!(in_file(b"", &offsets, true, &Limits::default()).is_none());
        let Ok(bytes) = std::fs::read("/proc/self/exe") else { return };
        // Cut off anywhere, damaged anywhere.
        for step in 0..40 {
            let at = bytes.len() / 40 * step;
            let _ = in_file(&bytes[..at], &offsets, true, &Limits::default());
        }
        let mut damaged = bytes;
        let len = damaged.len();
        for step in 0..2000 {
            damaged[(len / 2000 * step + step * 7) % len] ^= 0x11;
        }
        damaged[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        let _ = in_file(&damaged, &offsets, true, &Limits::default());
    }
}
