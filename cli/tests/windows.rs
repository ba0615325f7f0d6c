//! Windows guests as a user sees them: the synthetic images of the shared data against what was planted in them, a real triage dump,
//! and what is said where something is missing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;
#[path = "common/windows.rs"]
mod windows;

use std::collections::HashMap;
use std::fs;

use common::{scratch, vmc};
use serde_json::Value;
use windows::{Planted, ask, number, planted, refused, shared, text};

fn rows(guest: &Planted, words: &[&str]) -> Vec<Value> {
    let (command, more) = words.split_first().unwrap();
    let words = [&[*command, &guest.path], more, &["--symbols", &guest.symbols, "--format", "json"]].concat();
    serde_json::from_str(&vmc(&words).succeeded().stdout).unwrap()
}

#[test]
fn what_was_planted_is_told() {
    let Some(guest) = planted("19041-pages") else { return };
    let info = ask(&guest, &["info", "--format", "json"]).succeeded().stdout;
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!((info["os"].as_str(), info["symbols"].as_str()), (Some("windows"), Some("isf")));
    assert_eq!(number(&info["kernel_base"]), number(&guest.truth["kernel"]["base"]));
    assert_eq!(number(&info["page_table_root"]), number(&guest.truth["dtb"]));
    let found: HashMap<u64, Value> =
        rows(&guest, &["ps"]).into_iter().map(|row| (row["pid"].as_u64().unwrap(), row)).collect();
    let threads = rows(&guest, &["threads"]);
    for process in guest.truth["processes"].as_array().unwrap() {
        let row = &found[&process["pid"].as_u64().unwrap()];
        for (ours, theirs) in [("name", "name"), ("ppid", "ppid"), ("exe", "image_path")] {
            assert_eq!(row[ours], process[theirs], "{ours} of {row}");
        }
        assert_eq!(number(&row["object"]), number(&process["eprocess"]), "{row}");
        for thread in process["threads"].as_array().unwrap() {
            let is = |row: &&Value| row["tid"] == thread["tid"] && row["pid"] == process["pid"];
            let row = threads.iter().find(is).unwrap();
            assert_eq!(number(&row["object"]), number(&thread["ethread"]), "{row}");
        }
    }
}

#[test]
fn pages_are_read_or_the_reason_is_told() {
    let Some(guest) = planted("19041-pages") else { return };
    let mut seen = 0;
    for process in guest.truth["processes"].as_array().unwrap() {
        let pid = process["pid"].to_string();
        for page in process["pages"].as_array().into_iter().flatten() {
            let at = page["va"].as_str().unwrap();
            let answer = ask(&guest, &["read", at, "64", "--pid", &pid, "--format", "json"]);
            if page["expect"] == "bytes" {
                let row: Value = serde_json::from_str(&answer.succeeded().stdout).unwrap();
                assert_eq!(row["bytes"], page["first_bytes"], "{page}");
            } else {
                refused(&answer, &[at]);
            }
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen} pages");
}

#[test]
fn what_is_not_there_gets_one_line() {
    let Some(guest) = planted("19041-plain") else { return };
    refused(&ask(&guest, &["ps", "--pid", "99999"]), &["no process 99999 among the"]);
    refused(&ask(&guest, &["maps", "--pid", "99999"]), &["no process 99999"]);
    refused(&ask(&guest, &["bt", "--tid", "99999"]), &["no thread 99999"]);
    refused(&ask(&guest, &["symbols", "NoSuchThing"]), &["no symbol NoSuchThing among the kernel's"]);
    refused(&ask(&guest, &["symbols", "0x1000"]), &["no symbol 0x1000"]);
    refused(&ask(&guest, &["types", "_NO_SUCH_THING"]), &["_NO_SUCH_THING"]);
    refused(&ask(&guest, &["read", "0xffff800000000000", "8"]), &["0xffff800000000000"]);
}

#[test]
fn without_its_symbols_a_kernel_is_named() {
    let Some(guest) = planted("17763-plain") else { return };
    let pdb = &guest.truth["kernel"]["pdb"];
    let (guid, age) = (pdb["guid"].as_str().unwrap(), pdb["age"].to_string());
    let isf = format!("ntkrnlmp.pdb/{guid}-{age}.json.xz");
    refused(&vmc(&["ps", &guest.path]), &[&isf, "--symbols", "--download"]);
    // A file that says that it is of another kernel is not believed, whatever it is called.
    let folder = scratch().join(format!("wrong-{}", std::process::id()));
    fs::create_dir_all(folder.join("ntkrnlmp.pdb")).unwrap();
    let other = fs::read_dir(format!("{}/ntkrnlmp.pdb", guest.symbols)).unwrap();
    let mut other = other.map(|entry| entry.unwrap().path()).filter(|path| !text(path).contains(guid));
    fs::copy(other.next().unwrap(), folder.join(&isf)).unwrap();
    let answer = vmc(&["ps", &guest.path, "--symbols", &text(&folder)]);
    refused(&answer, &[&isf, "it is of another image"]);
    // The right one is found by what is in it, whatever it is called.
    fs::remove_dir_all(folder.join("ntkrnlmp.pdb")).unwrap();
    fs::copy(format!("{}/{isf}", guest.symbols), folder.join("kernel.json.xz")).unwrap();
    vmc(&["ps", &guest.path, "--symbols", &text(&folder)]).succeeded();
    fs::remove_dir_all(folder).unwrap();
    // The system that was asked for is the one that is looked for.
    refused(&vmc(&["ps", &guest.path, "--os", "linux"]), &["no Linux kernel found"]);
    refused(&vmc(&["ps", &common::sample(), "--os", "windows"]), &["no Windows kernel found"]);
}

#[test]
fn crash_dumps_say_what_the_memory_says() {
    let Some(shared) = shared() else { return };
    let Some(guest) = planted("17763-plain") else { return };
    let path = text(&shared.join("images/17763-plain/mem.dmp.xz"));
    let dump = Planted { path, ..planted("17763-plain").unwrap() };
    for words in [&["ps"][..], &["threads"], &["modules"], &["lsof"]] {
        assert_eq!(rows(&dump, words), rows(&guest, words), "{words:?}");
    }
    let info = ask(&dump, &["info", "--format", "json"]).succeeded().stdout;
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!((info["format"].as_str(), info["registers"].as_bool()), (Some("crash-full"), Some(true)));
}

#[test]
fn a_real_triage_dump_tells_what_is_known_of_it() {
    let Some(shared) = shared() else { return };
    let expected = fs::read_to_string(shared.join("triage/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let path = text(&shared.join("triage/triage_x64.dmp"));
    let dump = Planted { path, truth: Value::Null, symbols: text(&shared.join("symbols")) };
    let info = ask(&dump, &["info", "--format", "json"]).succeeded().stdout;
    let info: Value = serde_json::from_str(&info).unwrap();
    for (ours, theirs) in [
        ("bug_check", "bugcheck"),
        ("kernel_base", "kernel_base"),
        ("kernel_timestamp", "kernel_timestamp"),
        ("page_table_root", "dtb"),
        ("cpus", "processors"),
        ("data_blocks", "data_blocks"),
        ("data_block_bytes", "data_block_bytes"),
    ] {
        assert_eq!(info[ours], expected[theirs], "{ours}");
    }
    assert_eq!(info["kernel_size"].as_u64(), Some(number(&expected["kernel_size"])));
    let modules = rows(&dump, &["modules"]);
    assert_eq!(modules.len() as u64, number(&expected["modules"]));
    let faulting = &expected["faulting_module"];
    let module = modules.iter().find(|row| row["name"] == faulting["name"]).unwrap();
    assert_eq!(
        (&module["base"], module["size"].as_u64().unwrap()),
        (&faulting["base"], number(&faulting["size"]))
    );
    let system = &expected["system_process"];
    let row = &rows(&dump, &["ps", "--pid", "4"])[0];
    assert_eq!((&row["object"], &row["threads"]), (&system["eprocess"], &system["active_threads"]));
    let frames = &rows(&dump, &["bt", "--tid", "264"])[0]["frames"];
    assert_eq!(frames[0]["ip"], expected["faulting_address"]);
    // What such a dump cannot have.
    refused(&ask(&dump, &["translate", "0xfffff8047ba00000"]), &["triage dump"]);
}
