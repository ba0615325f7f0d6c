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
use vmc::arch::TranslateError;
use vmc::layout::Types;
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
    with_memory(folder, truth, &unpacked(&folder.join("mem.raw.xz")), check);
}

fn with_memory(folder: &Path, truth: &Value, raw: &[u8], check: impl FnOnce(&Windows<'_>)) {
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
                let Err(why) = read else { panic!("{page} was read") };
                let why = why.to_string();
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

/// Changes of words of an image: where in physical memory, and what stands there then.
type Words = Vec<(PhysAddr, u64)>;

/// Where a kernel structure's member lies in physical memory.
fn physical(windows: &Windows<'_>, at: VirtAddr, structure: &str, path: &str) -> PhysAddr {
    let member = windows.types().member(structure, path).unwrap();
    windows.kernel().tables().unwrap().translate(at.wrapping_add(member.offset)).unwrap()
}

/// The image of the page states as it is, and after `change` has had its way with it: what is read at the page of `kind`.
fn changed(change: impl FnOnce(&Windows<'_>, &Value) -> Words, check: impl FnOnce(&Windows<'_>, &Value)) {
    let Some((folder, truth)) = images().into_iter().find(|(folder, _)| folder.ends_with("19041-pages"))
    else {
        return;
    };
    let mut raw = unpacked(&folder.join("mem.raw.xz"));
    let processes = truth["processes"].as_array().unwrap();
    let process =
        processes.iter().find(|process| process["pages"].as_array().is_some_and(|all| !all.is_empty()));
    let process = process.unwrap();
    let mut words = Words::new();
    with_memory(&folder, &truth, &raw, |windows| words = change(windows, process));
    for (at, word) in words {
        let at = usize::try_from(at.get()).unwrap();
        raw[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    with_memory(&folder, &truth, &raw, |windows| check(windows, process));
}

fn planted<'t>(process: &'t Value, kind: &str) -> &'t Value {
    process["pages"].as_array().unwrap().iter().find(|page| page["kind"] == kind).unwrap()
}

/// The VAD whose range begins where the page of `kind` lies.
fn vad_at<'t>(process: &'t Value, kind: &str) -> &'t Value {
    let va = &planted(process, kind)["va"];
    process["vads"].as_array().unwrap().iter().find(|vad| vad["start"] == *va).unwrap()
}

/// What reading the page of `kind` comes to: its label, or the reason why not.
fn outcome(windows: &Windows<'_>, process: &Value, kind: &str) -> String {
    let root = PhysAddr::new(number(&process["dtb"]));
    let memory = ProcessMemory::new(windows, root, address(process, "eprocess")).unwrap();
    let mut bytes = [0xaa; 64];
    match memory.read(address(planted(process, kind), "va"), &mut bytes) {
        Ok(()) if bytes == [0; 64] => "zeros".into(),
        Ok(()) => String::from_utf8_lossy(&bytes[..32]).trim_end_matches('.').into(),
        Err(why) => why.fault.to_string(),
    }
}

/// Where the entry that is not present lies that ends the walk to the page of `kind`.
fn entry_of(windows: &Windows<'_>, process: &Value, kind: &str) -> PhysAddr {
    let root = PhysAddr::new(number(&process["dtb"]));
    let memory = ProcessMemory::new(windows, root, address(process, "eprocess")).unwrap();
    match memory.space().walk(address(planted(process, kind), "va")) {
        Err(TranslateError::NotPresent { at, .. }) => at,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_store_of_compressed_pages_is_told_from_files() {
    let store = |windows: &Windows<'_>, _: &Value| {
        // Its structure lies behind the partition's own: what is mapped there is all that it takes.
        let partition = windows.symbol("MiSystemPartition").unwrap();
        let slot = physical(windows, partition, "_MI_PARTITION", "Vp.PagingFile");
        let layout = windows.types().layout("_MMPAGING_FILE", windows.limits()).unwrap();
        let flag = layout.members.iter().find(|member| member.name == "VirtualStorePagefile").unwrap();
        let file = partition.wrapping_add(0x100);
        let word = file.wrapping_add(flag.bit_offset / 64 * 8);
        let word = windows.kernel().tables().unwrap().translate(word).unwrap();
        vec![(PhysAddr::new(slot.get() + 8), file.get()), (word, 1 << (flag.bit_offset % 64))]
    };
    changed(store, |windows, process| {
        assert_eq!(outcome(windows, process, "pagefile"), "pagefile 0 page 0x1234");
        let second =
            process["pages"].as_array().unwrap().iter().find(|page| page["expect"] == "pagefile 1 page 0x77");
        let root = PhysAddr::new(number(&process["dtb"]));
        let memory = ProcessMemory::new(windows, root, address(process, "eprocess")).unwrap();
        let why = memory.read_u64(address(second.unwrap(), "va")).unwrap_err().fault.to_string();
        assert!(why.contains("compressed") && why.contains("pagefile 1 page 0x77"), "{why}");
    });
}

#[test]
fn without_a_mask_what_lies_above_memory_is_not_meant() {
    let none = |windows: &Windows<'_>, _: &Value| {
        let state = windows.symbol("MiState").unwrap();
        vec![(physical(windows, state, "_MI_SYSTEM_INFORMATION", "Hardware.InvalidPteMask"), 0)]
    };
    changed(none, |windows, process| {
        for kind in ["transition", "transition-swizzled", "transition-not-swizzled", "prototype-transition"] {
            assert_eq!(outcome(windows, process, kind), kind);
        }
    });
}

#[test]
fn entries_that_say_something_else_are_followed() {
    const MASK: u64 = 1 << 45;
    let change = |windows: &Windows<'_>, process: &Value| {
        let memory = windows.memory().unwrap();
        let entry = |kind| entry_of(windows, process, kind);
        let prototype = memory.read_u64(entry("prototype-valid")).unwrap();
        vec![
            // The mask is set in whatever else is not present, too.
            (entry("demand-zero"), memory.read_u64(entry("demand-zero")).unwrap() | MASK),
            (entry("prototype-valid"), prototype | MASK),
            // Given back: a guard page without access.
            (entry("private-committed-untouched"), 0x200),
            // Prototype entries in user memory, and at the page table's own place in the self-map's half.
            (entry("prototype-pagefile"), 0x7fff_0000_1000 << 16 | 0x400),
            (entry("prototype-subsection"), 0xffff_8000_0000_1000 << 16 | 0x400),
        ]
    };
    changed(change, |windows, process| {
        assert_eq!(outcome(windows, process, "demand-zero"), "zeros");
        assert_eq!(outcome(windows, process, "prototype-valid"), "prototype-valid");
        assert_eq!(outcome(windows, process, "private-committed-untouched"), "reserved, not committed");
        let why = outcome(windows, process, "prototype-pagefile");
        assert!(why.contains("not in the kernel's memory"), "{why}");
        let why = outcome(windows, process, "prototype-subsection");
        assert!(why.contains("not in memory"), "{why}");
    });
}

#[test]
fn what_is_reserved_only_is_not_read() {
    let reserve = |windows: &Windows<'_>, process: &Value| {
        let flags = physical(windows, address(vad_at(process, "valid"), "node"), "_MMVAD_SHORT", "u1");
        let word = PhysAddr::new(flags.get() & !7);
        let before = windows.memory().unwrap().read_u64(word).unwrap();
        // MemCommit, the highest bit of the second word of flags.
        vec![(word, before & !(0x8000_0000 << ((flags.get() & 7) * 8)))]
    };
    changed(reserve, |windows, process| {
        assert_eq!(outcome(windows, process, "private-committed-untouched"), "reserved, not committed");
        assert_eq!(outcome(windows, process, "demand-zero"), "zeros");
    });
}

#[test]
fn prototype_entries_in_several_pieces_are_found() {
    let split = |windows: &Windows<'_>, process: &Value| {
        let node = address(vad_at(process, "vad-prototype-pte-zero"), "node");
        let other = process["vads"].as_array().unwrap().iter().find(|vad| vad["path"] == "\\data\\file.bin");
        let other = address(other.unwrap(), "node");
        let pointer = |at, structure, path| {
            let at = physical(windows, at, structure, path);
            VirtAddr::new(windows.memory().unwrap().read_u64(at).unwrap())
        };
        let first = pointer(node, "_MMVAD", "FirstPrototypePte");
        let (one, two) = (pointer(node, "_MMVAD", "Subsection"), pointer(other, "_MMVAD", "Subsection"));
        let count = |at: VirtAddr, pages: u64| {
            let at = physical(windows, at, "_SUBSECTION", "PtesInSubsection");
            let word = PhysAddr::new(at.get() & !7);
            let (shift, before) = ((at.get() & 7) * 8, windows.memory().unwrap().read_u64(word).unwrap());
            (word, before & !(0xffff_ffff << shift) | pages << shift)
        };
        vec![
            (physical(windows, node, "_MMVAD", "LastContiguousPte"), first.get()),
            (physical(windows, one, "_SUBSECTION", "NextSubsection"), two.get()),
            (physical(windows, two, "_SUBSECTION", "SubsectionBase"), first.get() + 16),
            count(one, 2),
            count(two, 1),
        ]
    };
    changed(split, |windows, process| {
        for kind in ["vad-prototype-pte-zero", "vad-prototype-pte-lookup", "vad-prototype-transition"] {
            assert_eq!(outcome(windows, process, kind), kind);
        }
        assert!(outcome(windows, process, "vad-prototype-file").contains("behind the last subsection"));
    });
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
