//! Pages of every state and the ranges of all processes of synthetic Windows images, against what was planted.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "tests and their helpers may panic and tell what they saw"
)]

#[allow(dead_code, reason = "each test uses a part of what they share")]
mod images;

use images::{address, images, number, unpacked, with_memory};
use serde_json::Value;
use vmc::{PhysAddr, VirtualMemory};
use vmc_windows::{ProcessMemory, VadRow, Windows, vads};

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

#[test]
fn pages_and_ranges_are_what_was_planted() {
    let (mut all_pages, mut all_ranges) = (0, 0);
    let images = images();
    let none = images.is_empty();
    for (folder, truth) in images {
        println!("{}", folder.display());
        with_memory(&folder, &truth, &unpacked(&folder.join("mem.raw.xz")), |windows| {
            for process in truth["processes"].as_array().unwrap() {
                all_ranges += ranges(windows, process);
                all_pages += pages(windows, process, "dtb");
            }
        });
    }
    assert!(none || (all_pages >= 20 && all_ranges >= 500), "{all_pages} pages, {all_ranges} ranges");
}
