//! Types and public symbols of real PDBs, against what llvm-pdbutil says of the same files.
#![cfg(feature = "pdb")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "tests may panic and tell what they saw"
)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::skip;
use vmc::Limits;
use vmc::layout::{Layouts, Types};
use vmc_types::PdbTypes;

/// The PDBs of the shared data; empty where they, or llvm's tool, are not there.
fn files() -> Vec<PathBuf> {
    if Command::new("llvm-pdbutil").arg("--version").output().is_err() {
        skip("llvm-pdbutil is not installed");
        return Vec::new();
    }
    let mut found = Vec::new();
    for folder in ["x64", "ARM64"] {
        let Ok(entries) = std::fs::read_dir(common::shared().join("seh").join(folder)) else {
            skip("the shared data's windows/seh is not there");
            return Vec::new();
        };
        found.extend(
            entries
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|ending| ending == "pdb")),
        );
    }
    found
}

fn dump(path: &Path, what: &str) -> String {
    let said = Command::new("llvm-pdbutil").arg("dump").arg(what).arg(path).output().unwrap();
    String::from_utf8_lossy(&said.stdout).into_owned()
}

/// What stands behind `key` up to a comma, a bar, a bracket or the end of the line.
fn after<'l>(text: &'l str, key: &str) -> Option<&'l str> {
    let (_, rest) = text.split_once(key)?;
    Some(rest.split([',', '|', ']', '\n']).next().unwrap().trim())
}

/// The type records as llvm tells them, by their numbers, in their order.
struct Told(Vec<(String, String)>);

impl Told {
    fn read(text: &str) -> Self {
        let mut records: Vec<(String, String)> = Vec::new();
        for line in text.lines().map(str::trim) {
            match line.split_once(" | LF_").filter(|(number, _)| number.starts_with("0x")) {
                Some((number, rest)) => records.push((number.to_owned(), rest.to_owned())),
                None if records.is_empty() => {}
                None => {
                    let (_, record) = records.last_mut().unwrap();
                    record.push('\n');
                    record.push_str(line);
                }
            }
        }
        Self(records)
    }

    fn record(&self, number: &str) -> &str {
        let at =
            self.0.binary_search_by(|(known, _)| (known.len(), known.as_str()).cmp(&(number.len(), number)));
        &self.0[at.unwrap()].1
    }

    /// The size of a type in bytes, as `0x0074 (int)` or `0x1003` name it.
    fn size(&self, named: &str) -> u64 {
        if let Some((_, simple)) = named.split_once(" (") {
            return match simple.trim_end_matches(')') {
                pointer if pointer.ends_with('*') => 8,
                "char" | "signed char" | "unsigned char" | "bool" => 1,
                "short" | "unsigned short" | "wchar_t" | "char16_t" => 2,
                "int" | "unsigned" | "long" | "unsigned long" | "HRESULT" | "float" | "char32_t" => 4,
                "__int64" | "unsigned __int64" | "double" => 8,
                other => panic!("no size is known of {other}"),
            };
        }
        let record = self.record(named);
        let number = |key: &str| after(record, key).unwrap().parse().unwrap();
        match record.split(' ').next().unwrap() {
            "POINTER" => {
                assert!(record.contains("kind = ptr64"), "{record}");
                8
            }
            "ARRAY" => number("\nsize: "),
            "MODIFIER" => self.size(after(record, "referent = ").unwrap()),
            "ENUM" => self.size(after(record, "underlying type: ").unwrap()),
            _ if record.contains("forward ref") => {
                let unique = after(record, "unique name: ");
                let describes = |record: &str| {
                    !record.contains("forward ref")
                        && record.contains("sizeof ")
                        && after(record, "unique name: ") == unique
                };
                let (described, _) = self.0.iter().find(|(_, record)| describes(record)).unwrap();
                self.size(described)
            }
            _ => number("sizeof "),
        }
    }

    fn record_has_base(&self, list: &str) -> bool {
        list.starts_with("0x") && self.record(list).contains("LF_BCLASS")
    }

    /// The members in a list of fields: name, offset and size in bits.
    fn members(&self, list: &str) -> Vec<(String, u64, u64)> {
        let mut members = Vec::new();
        for line in self.record(list).lines() {
            if line.starts_with("- LF_INDEX") {
                members.extend(self.members(after(line, "continuation = ").unwrap()));
            }
            if !line.starts_with("- LF_MEMBER") {
                continue;
            }
            let name = after(line, "name = `").unwrap().trim_end_matches('`').to_owned();
            let bits = after(line, "offset = ").unwrap().parse::<u64>().unwrap() * 8;
            let of = after(line, "Type = ").unwrap();
            let record = if of.contains('(') { "" } else { self.record(of) };
            members.push(if record.starts_with("BITFIELD") {
                let number = |key: &str| after(record, key).unwrap().parse::<u64>().unwrap();
                (name, bits + number("bit offset = "), number("# bits = "))
            } else {
                (name, bits, self.size(of) * 8)
            });
        }
        members
    }
}

#[test]
fn structures_are_as_llvm_reads_them() {
    let limits = Limits::default();
    let (mut structures, mut members, mut named) = (0, 0, 0);
    for path in files() {
        let types = PdbTypes::parse(&std::fs::read(&path).unwrap(), &limits).unwrap();
        let told = Told::read(&dump(&path, "-types"));
        let mut seen = BTreeSet::new();
        for (_, record) in &told.0 {
            let kind = record.split(' ').next().unwrap();
            if !matches!(kind, "STRUCTURE" | "CLASS" | "UNION") || record.contains("forward ref") {
                continue;
            }
            let head = record.lines().next().unwrap();
            let name = head.split_once('`').unwrap().1.trim_end_matches('`');
            // Of several of one name the first counts.
            if name.starts_with('<') || !seen.insert(name.to_owned()) {
                continue;
            }
            let who = format!("{}: {name}", path.display());
            let size = after(record, "sizeof ").unwrap().parse().unwrap();
            assert_eq!(types.size_of(name), Ok(size), "{who}");
            structures += 1;
            let list = after(record, "field list: ").unwrap();
            let expected = if list.starts_with("0x") { told.members(list) } else { Vec::new() };
            let layout = types.layout(name, &limits).unwrap_or_else(|why| panic!("{who}: {why}"));
            let found: Vec<_> = layout
                .members
                .iter()
                .map(|member| (member.name.clone(), member.bit_offset, member.bit_size))
                .collect();
            for member in &expected {
                assert!(found.contains(member), "{who}: {member:?}\n{found:?}");
                members += 1;
            }
            // Only what a base class has comes besides.
            if record.contains("base list: <no type>") && !told.record_has_base(list) {
                assert_eq!(found.len(), expected.len(), "{who}");
            }
            // What has a name in the file has it in the type, too.
            for member in layout.members {
                assert!(!member.type_name.is_empty(), "{who}.{}", member.name);
                named += usize::from(!member.type_name.contains('…'));
            }
        }
        assert!(!seen.is_empty(), "{}", path.display());
    }
    println!("{structures} structures, {members} members, {named} of them with named types");
    assert!(structures == 0 || named * 10 > members * 9);
}

#[test]
fn types_are_named_as_in_c() {
    let Some(path) = files().into_iter().find(|path| path.ends_with("x64/xcpt4.pdb")) else { return };
    let types = PdbTypes::parse(&std::fs::read(&path).unwrap(), &Limits::default()).unwrap();
    let name = |structure: &str, member: &str| {
        let layout = types.layout(structure, &Limits::default()).unwrap();
        layout.members.into_iter().find(|found| found.name == member).unwrap().type_name
    };
    // As Windows' public headers declare them.
    assert_eq!(name("_EXCEPTION_POINTERS", "ExceptionRecord"), "struct _EXCEPTION_RECORD *");
    assert_eq!(name("_EXCEPTION_RECORD", "ExceptionRecord"), "struct _EXCEPTION_RECORD *");
    assert_eq!(name("_EXCEPTION_RECORD", "ExceptionAddress"), "void *");
    assert_eq!(name("_EXCEPTION_RECORD", "ExceptionInformation"), "unsigned long long[15]");
    assert_eq!(name("_CONTEXT", "FltSave"), "struct _XSAVE_FORMAT");
    assert_eq!(name("_CONTEXT", "VectorRegister"), "struct _M128A[26]");
}

#[test]
fn public_symbols_are_as_llvm_reads_them() {
    let mut symbols = 0;
    for path in files() {
        let types = PdbTypes::parse(&std::fs::read(&path).unwrap(), &Limits::default()).unwrap();
        let sections: Vec<u64> = dump(&path, "-section-headers")
            .lines()
            .filter_map(|line| {
                Some(u64::from_str_radix(line.trim().strip_suffix(" virtual address")?.trim(), 16).unwrap())
            })
            .collect();
        let text = dump(&path, "-publics");
        let mut name = String::new();
        for line in text.lines() {
            if let Some((_, rest)) = line.split_once("S_PUB32") {
                name = rest.split_once('`').unwrap().1.trim_end_matches('`').to_owned();
            } else if let Some(place) = after(line, "addr = ") {
                let (section, offset) = place.split_once(':').unwrap();
                let section: usize = section.parse().unwrap();
                // Absolute ones are in no section.
                let Some(start) = section.checked_sub(1).and_then(|at| sections.get(at)) else { continue };
                let rva = start + offset.parse::<u64>().unwrap();
                let found = types.symbols().named(name.as_bytes()).any(|symbol| symbol.address == rva);
                assert!(found, "{}: {name} at {rva:#x}", path.display());
                symbols += 1;
            }
        }
        assert!(symbols > 0, "{}", path.display());
    }
    println!("{symbols} symbols");
}

#[test]
fn identities_are_those_of_the_images() {
    for path in files() {
        let types = PdbTypes::parse(&std::fs::read(&path).unwrap(), &Limits::default()).unwrap();
        let image = ["exe", "dll"]
            .iter()
            .map(|ending| path.with_extension(ending))
            .find(|image| image.exists())
            .unwrap();
        let image = std::fs::read(image).unwrap();
        let at = image.windows(4).position(|bytes| bytes == b"RSDS").unwrap();
        assert_eq!(&image[at + 4..at + 20], &types.guid());
        assert_eq!(&image[at + 20..at + 24], &types.age().to_le_bytes());
    }
}

#[test]
fn damaged_files_are_errors_or_less() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !vmc_types::reading_pdb() {
            hook(info);
        }
    }));
    let Some(path) = files().into_iter().next() else { return };
    let whole = std::fs::read(&path).unwrap();
    for cut in (0..whole.len()).step_by(whole.len() / 300) {
        let _ = PdbTypes::parse(&whole[..cut], &Limits::default());
    }
    let mut state = 7u64;
    for _ in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..8 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 20) as usize % bytes.len();
            bytes[at] = (state >> 8) as u8;
        }
        let _ = PdbTypes::parse(&bytes, &Limits::default());
    }
    // A record of functions that says it names 2^32 of them in place of a public symbol: none is made room for.
    let types = PdbTypes::parse(&whole, &Limits::default()).unwrap();
    let public = types.symbols().iter().find(|symbol| symbol.name.len() > 12).unwrap();
    let named =
        |at: &usize| whole[at + 12..].starts_with(public.name) && whole[*at..].starts_with(&[0x0e, 0x11]);
    let record = (0..whole.len() - 12).find(named).unwrap();
    let mut bytes = whole.clone();
    bytes[record..record + 6].copy_from_slice(&[0x5a, 0x11, 0xff, 0xff, 0xff, 0xff]);
    let fewer = PdbTypes::parse(&bytes, &Limits::default()).unwrap();
    assert_eq!(fewer.symbols().len() + 1, types.symbols().len());
    // One block that is named for a stream as large as numbers go.
    let mut bytes = whole.clone();
    let block = u32::from_le_bytes(bytes[32..36].try_into().unwrap()) as usize;
    let list = u32::from_le_bytes(bytes[52..56].try_into().unwrap()) as usize * block;
    let directory = u32::from_le_bytes(bytes[list..list + 4].try_into().unwrap()) as usize * block;
    bytes[directory + 8..directory + 12].copy_from_slice(&0xffff_fff0u32.to_le_bytes());
    let why = PdbTypes::parse(&bytes, &Limits::default()).unwrap_err();
    assert_eq!(why.to_string(), "its PDB cannot be read: its streams together are larger than the file");
}
