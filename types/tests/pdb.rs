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

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use vmc::Limits;
use vmc::layout::{Layouts, Types};
use vmc_types::PdbTypes;

fn skip(why: &str) {
    assert!(std::env::var_os("VMC_REQUIRE_ALL").is_none(), "not to be skipped: {why}");
    println!("skipped: {why}");
}

/// The PDBs of the shared data; empty where they, or llvm's tool, are not there.
fn files() -> Vec<PathBuf> {
    let shared = std::env::var_os("VMC_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    if Command::new("llvm-pdbutil").arg("--version").output().is_err() {
        skip("llvm-pdbutil is not installed");
        return Vec::new();
    }
    let mut found = Vec::new();
    for folder in ["x64", "ARM64"] {
        let Ok(entries) = std::fs::read_dir(shared.join("windows/seh").join(folder)) else {
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

/// What stands behind `key` up to a comma or the end of the line.
fn after<'l>(line: &'l str, key: &str) -> Option<&'l str> {
    let (_, rest) = line.split_once(key)?;
    Some(rest.split([',', '|']).next().unwrap().trim())
}

/// A structure as llvm tells it: its name, size, and the list of its fields.
struct Told {
    name: String,
    size: u64,
    fields: Option<String>,
}

/// Members (name and offset) by the list of fields that they are in.
type Lists = BTreeMap<String, Vec<(String, u64)>>;

/// The structures that are described, and the members of each list of fields: name and offset.
fn told(text: &str) -> (Vec<Told>, Lists) {
    let (mut structures, mut lists): (Vec<Told>, Lists) = Default::default();
    let mut number = String::new();
    let mut kind = String::new();
    let mut name = String::new();
    let mut fields = None;
    for line in text.lines() {
        let line = line.trim();
        if let Some((index, rest)) = line.split_once(" | LF_").filter(|(index, _)| index.starts_with("0x")) {
            number = index.to_owned();
            kind = rest.split(' ').next().unwrap().to_owned();
            name = rest
                .split_once('`')
                .and_then(|(_, rest)| rest.rsplit_once('`'))
                .map(|(name, _)| name.to_owned())
                .unwrap_or_default();
            fields = None;
        } else if kind == "FIELDLIST" && line.starts_with("- LF_MEMBER") {
            let member = after(line, "name = `").unwrap().trim_end_matches('`').to_owned();
            let offset = after(line, "offset = ").unwrap().parse().unwrap();
            lists.entry(number.clone()).or_default().push((member, offset));
        } else if matches!(kind.as_str(), "STRUCTURE" | "CLASS" | "UNION") {
            if let Some(list) = after(line, "field list: ") {
                fields = Some(list.to_owned()).filter(|list| list.starts_with("0x"));
            }
            if let Some(size) = after(line, "sizeof ")
                && !text_says_forward(line)
            {
                structures.push(Told {
                    name: name.clone(),
                    size: size.parse().unwrap(),
                    fields: fields.take(),
                });
            }
            if text_says_forward(line)
                && structures.last().is_some_and(|last| last.name == name && last.fields.is_none())
            {
                structures.pop();
            }
        }
    }
    (structures, lists)
}

fn text_says_forward(line: &str) -> bool {
    line.contains("forward ref")
}

#[test]
fn structures_are_as_llvm_reads_them() {
    let (mut structures, mut members) = (0, 0);
    for path in files() {
        let types = PdbTypes::parse(&std::fs::read(&path).unwrap(), &Limits::default()).unwrap();
        let (told, lists) = told(&dump(&path, "-types"));
        let mut seen = BTreeMap::new();
        for told in told {
            // Of several of one name the first counts.
            if told.name.starts_with('<') || seen.insert(told.name.clone(), ()).is_some() {
                continue;
            }
            let who = format!("{}: {}", path.display(), told.name);
            assert_eq!(types.size_of(&told.name), Ok(told.size), "{who}");
            structures += 1;
            for (member, offset) in told.fields.and_then(|list| lists.get(&list)).into_iter().flatten() {
                // Names with dots are none of C's.
                if member.contains('.') {
                    continue;
                }
                match types.layout(&told.name, &Limits::default()) {
                    Ok(layout) => {
                        let found = layout
                            .members
                            .iter()
                            .find(|found| found.name == *member && found.bit_offset / 8 / 8 * 8 <= *offset);
                        let found = found.unwrap_or_else(|| panic!("{who}.{member}"));
                        // A bit field lies within the number that its offset is of.
                        assert!(
                            (*offset * 8..*offset * 8 + 64).contains(&found.bit_offset),
                            "{who}.{member}: {found:?}, {offset}"
                        );
                        members += 1;
                    }
                    Err(why) => panic!("{who}: {why}"),
                }
            }
        }
        assert!(structures > 0, "{}", path.display());
    }
    println!("{structures} structures, {members} members");
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
    // One block that is named for a stream as large as numbers go.
    let mut bytes = whole.clone();
    let block = u32::from_le_bytes(bytes[32..36].try_into().unwrap()) as usize;
    let list = u32::from_le_bytes(bytes[52..56].try_into().unwrap()) as usize * block;
    let directory = u32::from_le_bytes(bytes[list..list + 4].try_into().unwrap()) as usize * block;
    bytes[directory + 8..directory + 12].copy_from_slice(&0xffff_fff0u32.to_le_bytes());
    let why = PdbTypes::parse(&bytes, &Limits::default()).unwrap_err();
    assert_eq!(why.to_string(), "its PDB cannot be read: its streams together are larger than the file");
}
