//! Pages of every state and the ranges of all processes of synthetic Windows images, against what was planted.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "tests and their helpers may panic and tell what they saw"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use vmc::symbols::SymbolTableBuilder;
use vmc::vcpu::NoVcpus;
use vmc::{FlatMemory, Limits, PhysAddr, VirtAddr, VirtualMemory};
use vmc_types::IsfTypes;
use vmc_windows::{
    Fits, GivenKernel, Hints, KernelIdentity, ProcessMemory, SymbolFiles, VadRow, Windows, vads,
};

fn number(value: &Value) -> u64 {
    match value {
        Value::String(text) => u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap(),
        other => other.as_u64().unwrap(),
    }
}

fn skip(why: &str) {
    assert!(std::env::var_os("VMC_REQUIRE_ALL").is_none(), "not to be skipped: {why}");
    println!("skipped: {why}");
}

fn unpacked(path: &Path) -> Vec<u8> {
    Command::new("xz").arg("-dc").arg(path).output().unwrap().stdout
}

/// The one file that the ledger names.
struct Isf(PathBuf);

impl SymbolFiles for Isf {
    fn kernel(&mut self, _: &KernelIdentity, _: &Fits<'_>) -> Option<GivenKernel> {
        let types = IsfTypes::parse(&unpacked(&self.0), &Limits::default()).unwrap();
        let mut symbols = SymbolTableBuilder::with_capacity(1 << 16);
        for symbol in types.symbols() {
            symbols.push(symbol.name.as_bytes(), symbol.address, 0, 'd');
        }
        Some(GivenKernel { source: "isf", types: Box::new(types), symbols: symbols.build(), code_view: None })
    }

    fn image(&mut self, _: &vmc_windows::CodeView) -> Option<std::sync::Arc<vmc::symbols::SymbolTable>> {
        None
    }
}

/// The images, with their ledgers.
fn images() -> Vec<(PathBuf, Value)> {
    let shared = std::env::var_os("VMC_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let Ok(folders) = std::fs::read_dir(shared.join("windows/images")) else {
        skip("the shared data's windows/images is not there");
        return Vec::new();
    };
    if Command::new("xz").arg("--version").output().is_err() {
        skip("xz is not installed");
        return Vec::new();
    }
    let folders = folders.map(|entry| entry.unwrap().path());
    let ledger = |folder: PathBuf| {
        let mut truth = std::fs::read_to_string(folder.join("truth.json")).ok()?;
        // Hostile names hold lone surrogates, which no Rust string can.
        for lone in ["\\ud8", "\\ud9", "\\uda", "\\udb", "\\udc", "\\udd", "\\ude", "\\udf"] {
            truth = truth.replace(lone, "\\uff");
        }
        Some((folder, serde_json::from_str(&truth).unwrap()))
    };
    folders.filter_map(ledger).collect()
}

fn with_windows(folder: &Path, truth: &Value, check: impl FnOnce(&Windows<'_>)) {
    let raw = unpacked(&folder.join("mem.raw.xz"));
    let memory = FlatMemory::new(PhysAddr::new(0), &raw);
    let pdb = &truth["kernel"]["pdb"];
    let guid = pdb["guid"].as_str().unwrap().replace('-', "");
    let file = format!("symbols/ntkrnlmp.pdb/{guid}-{}.json.xz", number(&pdb["age"]));
    let hints = Hints {
        page_table_root: Some(PhysAddr::new(number(&truth["dtb"]))),
        kernel_base: Some(VirtAddr::new(number(&truth["kernel"]["base"]))),
        ..Hints::default()
    };
    let mut isf = Isf(folder.join("../..").join(file));
    let windows = Windows::open(&memory, &NoVcpus, &hints, Limits::default(), Some(&mut isf)).unwrap();
    check(&windows);
}

fn address(row: &Value, key: &str) -> VirtAddr {
    VirtAddr::new(number(&row[key]))
}

fn pages(windows: &Windows<'_>, process: &Value, root: &str) -> usize {
    let root = PhysAddr::new(number(&process[root]));
    let memory = ProcessMemory::new(windows, root, address(process, "eprocess")).unwrap();
    let planted = process["pages"].as_array().map(Vec::as_slice).unwrap_or_default();
    for page in planted {
        let mut bytes = [0xaa; 64];
        let read = memory.read(address(page, "va"), &mut bytes);
        match page["expect"].as_str().unwrap() {
            "bytes" => {
                read.unwrap_or_else(|why| panic!("{page}: {why}"));
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(hex, page["first_bytes"].as_str().unwrap(), "{page}");
            }
            reason => {
                let why = read.expect_err(reason).to_string();
                println!("{}: {why}", page["kind"]);
                match reason {
                    "no mapping" => assert!(why.contains("not mapped"), "{page}: {why}"),
                    "physical address outside memory" => assert!(why.contains("memory"), "{page}: {why}"),
                    reason => assert!(why.contains(reason), "{page}: {why}"),
                }
            }
        }
    }
    planted.len()
}

/// What the ledger says of a range; it keeps the whole word that the commit charge stands in.
fn same(row: &VadRow, planted: &Value) -> bool {
    row.start == address(planted, "start")
        && row.end == address(planted, "end")
        && row.protection.as_deref() == planted["protection"].as_str()
        && row.kind.name() == planted["type"].as_str().unwrap()
        && row.path.as_deref() == planted["path"].as_str()
        && row.commit == Some(number(&planted["commit"]) & 0x7fff_ffff)
        && row.object == address(planted, "node")
        && row.errors.messages.is_empty()
}

fn ranges(windows: &Windows<'_>, process: &Value) -> usize {
    let (mut rows, mut broken) = (Vec::new(), Vec::new());
    for row in vads(windows, address(process, "eprocess")).unwrap() {
        match row {
            Ok(row) => rows.push(row),
            Err(why) => broken.push(why),
        }
    }
    let who = format!("pid {}: {} ranges, {:?}", process["pid"], rows.len(), broken.first());
    let mut planted = process["vads"].as_array().cloned().unwrap_or_default();
    if let Some(least) = process["expect"]["vads_at_least"].as_u64() {
        println!("{who}");
        assert!(rows.len() as u64 >= least, "{who}");
        return rows.len();
    }
    planted.sort_by_key(|vad| number(&vad["start"]));
    assert_eq!(rows.len(), planted.len(), "{who}");
    assert!(broken.is_empty(), "{who}");
    for (row, planted) in rows.iter().zip(&planted) {
        assert!(same(row, planted), "{who}: {row:x?}, ledger {planted}");
    }
    rows.len()
}

#[test]
fn pages_and_ranges_are_what_was_planted() {
    let (mut all_pages, mut all_ranges) = (0, 0);
    let images = images();
    let none = images.is_empty();
    for (folder, truth) in images {
        println!("{}", folder.display());
        with_windows(&folder, &truth, |windows| {
            for process in truth["processes"].as_array().unwrap() {
                all_ranges += ranges(windows, process);
                all_pages += pages(windows, process, "dtb");
            }
        });
    }
    assert!(none || (all_pages >= 20 && all_ranges >= 500), "{all_pages} pages, {all_ranges} ranges");
}
