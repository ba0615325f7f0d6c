//! Every type, member, constant and symbol of the shared data's Windows ISFs, against serde_json's reading of the same files.
#![cfg(feature = "isf")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "tests may panic and tell what they saw"
)]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use lzma_rust2::XzReader;
use serde_json::Value;
use vmc::Limits;
use vmc::layout::{Layouts, Types};
use vmc_types::IsfTypes;

/// The names of the files and their text.
fn files() -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(common::shared().join("symbols/ntkrnlmp.pdb")) else {
        common::skip("the shared data's windows/symbols is not there");
        return Vec::new();
    };
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let packed = std::fs::read(path).unwrap();
        let mut reader = XzReader::new(packed.as_slice(), true);
        let (mut json, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        while let read @ 1.. = lzma_rust2::Read::read(&mut reader, &mut buffer).unwrap() {
            json.extend_from_slice(&buffer[..read]);
        }
        (name, json)
    };
    let mut files: Vec<_> = entries.map(|entry| read(entry.unwrap().path())).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// The size of a type in bytes; nothing where it has none.
fn size(file: &Value, described: &Value) -> Option<u64> {
    let name = || described["name"].as_str().unwrap();
    match described["kind"].as_str().unwrap() {
        "pointer" => Some(8),
        "array" => Some(described["count"].as_u64()? * size(file, &described["subtype"])?),
        "base" if name() == "void" => None,
        "base" => file["base_types"][name()]["size"].as_u64(),
        "enum" => file["enums"][name()]["size"].as_u64(),
        "function" => None,
        _ => file["user_types"][name()]["size"].as_u64(),
    }
}

#[test]
fn every_member_is_where_the_file_says() {
    let limits = Limits::default();
    for (name, json) in files() {
        let isf = IsfTypes::parse(&json, &limits).unwrap();
        let file: Value = serde_json::from_slice(&json).unwrap();
        let mut count = 0;
        for (structure, described) in file["user_types"].as_object().unwrap() {
            assert_eq!(isf.size_of(structure).ok(), described["size"].as_u64(), "{structure}");
            let mut told = BTreeMap::new();
            for (member, field) in described["fields"].as_object().unwrap() {
                let who = format!("{name}: {structure}.{member}");
                let offset = field["offset"].as_u64().unwrap();
                let kind = &field["type"];
                let (bits, width) = if kind["kind"] == "bitfield" {
                    let position = kind["bit_position"].as_u64().unwrap();
                    (offset * 8 + position, kind["bit_length"].as_u64().unwrap())
                } else {
                    (offset * 8, size(&file, kind).unwrap() * 8)
                };
                // Names with dots are paths.
                if !member.contains('.') {
                    let found = isf.member(structure, member).unwrap();
                    let bytes =
                        if kind["kind"] == "bitfield" { (bits % 8 + width).div_ceil(8) } else { width / 8 };
                    assert_eq!((found.offset, found.size), (bits / 8, bytes), "{who}");
                }
                told.insert((bits, width, member.clone()), ());
                count += 1;
            }
            let layout = isf.layout(structure, &limits).unwrap();
            let found: BTreeMap<_, _> = layout
                .members
                .into_iter()
                .map(|member| ((member.bit_offset, member.bit_size, member.name), ()))
                .collect();
            assert_eq!(found, told, "{name}: {structure}");
        }
        println!("{name}: {count} members");
        assert!(count > 10_000);
    }
}

#[test]
fn symbols_constants_and_the_pdb_are_those_of_the_file() {
    for (name, json) in files() {
        let isf = IsfTypes::parse(&json, &Limits::default()).unwrap();
        let file: Value = serde_json::from_slice(&json).unwrap();
        let symbols = file["symbols"].as_object().unwrap();
        let found: BTreeMap<_, _> = isf.symbols().map(|symbol| (symbol.name, symbol.address)).collect();
        let told: BTreeMap<_, _> = symbols
            .iter()
            .map(|(name, symbol)| (name.as_str(), symbol["address"].as_u64().unwrap()))
            .collect();
        assert_eq!(found, told);
        let table = isf.symbol_table();
        assert_eq!(table.len(), symbols.len());
        let head = table.named(b"PsActiveProcessHead").next().unwrap();
        assert_eq!(Some(head.address), symbols["PsActiveProcessHead"]["address"].as_u64());

        let mut constants = 0;
        for (named, described) in file["enums"].as_object().unwrap() {
            let found: BTreeMap<_, _> = isf.enumerators(named).unwrap().collect();
            let told: BTreeMap<_, _> = described["constants"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| (name.as_str(), i128::from(value.as_i64().unwrap())))
                .collect();
            assert_eq!(found, told, "{named}");
            constants += told.len();
        }
        let waiting = isf.enumerators("_KTHREAD_STATE").unwrap().find(|(name, _)| *name == "Waiting");
        assert_eq!(waiting, Some(("Waiting", 5)));
        assert!(isf.enumerators("_EPROCESS").is_err());

        let pdb = isf.pdb().unwrap();
        let [a, b, c, d, e, f, g, h, rest @ ..] = pdb.guid;
        let guid: String =
            [d, c, b, a, f, e, h, g].iter().chain(&rest).map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(name, format!("{guid}-{}.json.xz", pdb.age));
        assert_eq!((pdb.database, pdb.machine_type), ("ntkrnlmp.pdb", Some(0x8664)));
        println!("{name}: {} symbols, {constants} constants", table.len());
    }
}

#[test]
fn damage_is_an_error_or_less() {
    let Some((_, whole)) = files().into_iter().next() else { return };
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    // Random bytes in the description of one structure and of the file: whatever comes of it, nothing panics or hangs.
    let find = |what: &[u8]| whole.windows(what.len()).position(|bytes| bytes == what).unwrap();
    let start = find(b"\"_EPROCESS\": {");
    let mut read = 0;
    for _ in 0..60 {
        let mut bytes = whole.clone();
        for _ in 0..3 {
            let at = start + next() % 20_000;
            bytes[at] = b"\"\\{}[],:0-9e \xff"[next() % 14];
        }
        if let Ok(isf) = IsfTypes::parse_owned(bytes, &Limits::default()) {
            read += usize::from(isf.layout("_EPROCESS", &Limits::default()).is_ok());
            let _ = (isf.member("_EPROCESS", "UniqueProcessId"), isf.pdb(), isf.symbol_table().len());
        }
    }
    println!("{read} of 60 were read all the same");
}
