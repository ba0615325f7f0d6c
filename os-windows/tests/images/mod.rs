//! The synthetic Windows images of the shared data, with their ledgers and their kernels' symbols.

#[allow(clippy::duplicate_mod, reason = "a test of stacks has both this and the shared data's helpers")]
#[path = "../common/skipped.rs"]
mod skipped;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use skipped::skip;
use vmc::symbols::SymbolTableBuilder;
use vmc::vcpu::NoVcpus;
use vmc::{FlatMemory, Limits, PhysAddr, Vcpus, VirtAddr};
use vmc_types::IsfTypes;
use vmc_windows::{Fits, GivenKernel, Hints, KernelIdentity, SymbolFiles, Windows};

pub(crate) fn number(value: &Value) -> u64 {
    match value {
        Value::String(text) => u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap(),
        other => other.as_u64().unwrap(),
    }
}

pub(crate) fn unpacked(path: &Path) -> Vec<u8> {
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
pub(crate) fn images() -> Vec<(PathBuf, Value)> {
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

/// The image `name`, with its ledger.
pub(crate) fn image(name: &str) -> Option<(PathBuf, Value)> {
    let found = images().into_iter().find(|(folder, _)| folder.ends_with(name));
    if found.is_none() {
        skip(&format!("there is no image {name}"));
    }
    found
}

/// Opens the image whose memory is `raw`.
pub(crate) fn with_memory(folder: &Path, truth: &Value, raw: &[u8], check: impl FnOnce(&Windows<'_>)) {
    with(folder, truth, raw, &NoVcpus, check);
}

/// The same, with vCPUs.
pub(crate) fn with(
    folder: &Path,
    truth: &Value,
    raw: &[u8],
    vcpus: &dyn Vcpus,
    check: impl FnOnce(&Windows<'_>),
) {
    let memory = FlatMemory::new(PhysAddr::new(0), raw);
    let pdb = &truth["kernel"]["pdb"];
    let guid = pdb["guid"].as_str().unwrap().replace('-', "");
    let file = format!("symbols/ntkrnlmp.pdb/{guid}-{}.json.xz", number(&pdb["age"]));
    let hints = Hints {
        page_table_root: Some(PhysAddr::new(number(&truth["dtb"]))),
        kernel_base: Some(VirtAddr::new(number(&truth["kernel"]["base"]))),
        ..Hints::default()
    };
    let mut isf = Isf(folder.join("../..").join(file));
    let windows = Windows::open(&memory, vcpus, &hints, Limits::default(), Some(&mut isf)).unwrap();
    check(&windows);
}

pub(crate) fn address(row: &Value, key: &str) -> VirtAddr {
    VirtAddr::new(number(&row[key]))
}
