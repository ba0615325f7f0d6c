//! Lists, tables and names that no image has, made by changing words of one: what comes out follows from what was put in.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "tests and their helpers may panic and tell what they saw"
)]

#[path = "images/changed.rs"]
mod changed;
mod images;

use std::collections::BTreeSet;

use changed::{Changes, changed, member, word};
use images::{address, number};
use serde_json::Value;
use vmc::layout::Types;
use vmc::{VirtAddr, VirtualMemory};
use vmc_windows::{Process, Windows};

fn notepad(truth: &Value) -> &Value {
    let processes = truth["processes"].as_array().unwrap();
    processes.iter().find(|process| process["handles"].as_array().unwrap().len() > 4).unwrap()
}

/// A page of the kernel that nothing uses: the far end of a sleeping thread's stack, which is all zeros.
fn scratch(windows: &Windows<'_>, truth: &Value) -> VirtAddr {
    let threads = truth["processes"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|process| process["threads"].as_array().unwrap());
    let limits = threads.map(|thread| address(thread, "kernel_stack_limit"));
    let mut page = [1; 4096];
    limits.into_iter().find(|at| windows.kernel().read(*at, &mut page).is_ok() && page == [0; 4096]).unwrap()
}

fn objects<'p>(processes: impl Iterator<Item = &'p Value>) -> BTreeSet<u64> {
    processes.map(|process| number(&process["eprocess"])).collect()
}

fn found(windows: &Windows<'_>) -> BTreeSet<u64> {
    windows.processes().flatten().map(|process| process.object().get()).collect()
}

#[test]
fn without_a_list_the_table_of_ids_has_every_process() {
    let change = |windows: &Windows<'_>, _: &Value| {
        let head = windows.symbol("PsActiveProcessHead").unwrap();
        vec![word(head, 0), word(head.wrapping_add(8), 0x1000)]
    };
    changed(change, |windows, truth| {
        assert!(windows.processes().any(|process| process.is_err()), "the damage is told");
        let all = truth["processes"].as_array().unwrap().iter().chain(truth["idle"].as_array().unwrap());
        assert_eq!(found(windows), objects(all));
        let unlisted = windows.processes().flatten().filter(|process| !process.row().on_list).count();
        assert!(unlisted > 10, "{unlisted}");
    });
}

#[test]
fn without_a_list_the_table_of_ids_has_every_thread() {
    let change = |windows: &Windows<'_>, truth: &Value| {
        let head = member(windows, address(notepad(truth), "eprocess"), "_EPROCESS", "ThreadListHead");
        vec![word(head, head.get() + 0x100), word(head.wrapping_add(8), 0x1000)]
    };
    changed(change, |windows, truth| {
        let truth = notepad(truth);
        let process = windows.process(number(&truth["pid"]) as u32).unwrap();
        let ours: BTreeSet<_> = process.threads().flatten().map(|thread| thread.object().get()).collect();
        let theirs = truth["threads"].as_array().unwrap().iter().map(|thread| number(&thread["ethread"]));
        assert!(theirs.clone().all(|thread| ours.contains(&thread)), "{ours:x?}");
    });
}

#[test]
fn tables_of_ids_have_one_to_three_levels() {
    let table = |windows: &Windows<'_>| {
        let table = windows.pointer_at("PspCidTable").unwrap();
        let code = member(windows, table, "_HANDLE_TABLE", "TableCode");
        (
            code,
            windows.kernel().read_u64(code).unwrap(),
            member(windows, table, "_HANDLE_TABLE", "NextHandleNeedingPool"),
        )
    };
    let no_list = |windows: &Windows<'_>| {
        let head = windows.symbol("PsActiveProcessHead").unwrap();
        vec![word(head, head.get()), word(head.wrapping_add(8), head.get())]
    };
    let three = |windows: &Windows<'_>, truth: &Value| {
        let (at, code, limit) = table(windows);
        assert_eq!(code & 7, 1);
        let page = scratch(windows, truth);
        let mut changes = no_list(windows);
        changes.extend([word(page, code & !7), word(at, page.get() | 2), (limit, vec![0; 4])]);
        changes
    };
    changed(three, |windows, truth| {
        let all = truth["processes"].as_array().unwrap().iter().chain(truth["idle"].as_array().unwrap());
        assert_eq!(found(windows), objects(all));
    });
    let one = |windows: &Windows<'_>, _: &Value| {
        let (at, code, _) = table(windows);
        let first = windows.kernel().read_u64(VirtAddr::new(code & !7)).unwrap();
        let mut changes = no_list(windows);
        changes.push(word(at, first));
        changes
    };
    changed(one, |windows, truth| {
        // 256 ids by fours.
        let low =
            truth["processes"].as_array().unwrap().iter().filter(|process| number(&process["pid"]) < 1024);
        assert_eq!(found(windows), objects(low.chain(truth["idle"].as_array().unwrap())));
    });
}

#[test]
fn a_table_that_leads_to_itself_ends() {
    let change = |windows: &Windows<'_>, truth: &Value| {
        let table = windows.pointer_at("PspCidTable").unwrap();
        let page = scratch(windows, truth);
        let code = member(windows, table, "_HANDLE_TABLE", "TableCode");
        let mut changes: Changes = (0..512).map(|i| word(page.wrapping_add(8 * i), page.get())).collect();
        changes.push(word(code, page.get() | 2));
        changes
    };
    changed(change, |windows, truth| {
        let all = truth["processes"].as_array().unwrap().iter().chain(truth["idle"].as_array().unwrap());
        assert_eq!(found(windows), objects(all));
        assert_eq!(windows.processes().filter(|process| process.is_err()).count(), 1);
    });
}

fn name_of(process: &Process<'_>, truth: &Value) -> String {
    let handle = number(&truth["handle"]) as u32;
    let row = process.handles().flatten().find(|row| row.handle == handle).unwrap();
    assert!(row.errors.is_empty(), "{row:?}");
    row.name.unwrap()
}

#[test]
fn names_go_by_directories_devices_and_keys() {
    let handle = |truth: &Value, kind: &str| {
        let handles = notepad(truth)["handles"].as_array().unwrap();
        handles.iter().find(|handle| handle["type"] == kind).unwrap().clone()
    };
    let change = |windows: &Windows<'_>, truth: &Value| {
        let page = scratch(windows, truth);
        let types = windows.types();
        let body = types.member("_OBJECT_HEADER", "Body").unwrap().offset;
        let info = types.size_of("_OBJECT_HEADER_NAME_INFO").unwrap();
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let mut changes = Changes::new();
        // An object with a header at `at`, whose name lies behind it.
        let mut object = |at: u64, name: &str, directory: u64| {
            let header = page.wrapping_add(at);
            let text = header.wrapping_add(body + 0x40);
            let before = VirtAddr::new(header.get() - info);
            let bytes = utf16(name);
            let string = member(windows, before, "_OBJECT_HEADER_NAME_INFO", "Name");
            changes.push((string, [bytes.len() as u16; 2].map(u16::to_le_bytes).concat()));
            changes.push(word(string.wrapping_add(8), text.get()));
            changes.push((text, bytes));
            changes.push(word(member(windows, before, "_OBJECT_HEADER_NAME_INFO", "Directory"), directory));
            changes.push((member(windows, header, "_OBJECT_HEADER", "InfoMask"), vec![2]));
            header.get() + body
        };
        let root = object(0x100, "\\", 0);
        let devices = object(0x200, "Device", root);
        let disk = object(0x300, "HarddiskVolume3", devices);
        let file = address(&handle(truth, "File"), "object");
        changes.push(word(member(windows, file, "_FILE_OBJECT", "DeviceObject"), disk));
        // Two key control blocks: the parent's name in UTF-16, the child's in Latin-1, as `Compressed` says.
        let block = |at: u64| page.wrapping_add(at);
        let mut key = |at: u64, parent: u64, flag: u8, text: &[u8]| {
            let name = block(at + 0x200);
            changes.push(word(member(windows, block(at), "_CM_KEY_CONTROL_BLOCK", "ParentKcb"), parent));
            changes.push(word(member(windows, block(at), "_CM_KEY_CONTROL_BLOCK", "NameBlock"), name.get()));
            changes.push((member(windows, name, "_CM_NAME_CONTROL_BLOCK", "Compressed"), vec![flag]));
            let length = (text.len() as u16).to_le_bytes().to_vec();
            changes.push((member(windows, name, "_CM_NAME_CONTROL_BLOCK", "NameLength"), length));
            changes.push((member(windows, name, "_CM_NAME_CONTROL_BLOCK", "Name"), text.to_vec()));
            block(at).get()
        };
        let registry = key(0x500, 0, 0, &utf16("REGISTRY"));
        let machine = key(0x900, registry, 1, b"MACHIN\xc9");
        let body = address(&handle(truth, "Key"), "object");
        changes.push(word(member(windows, body, "_CM_KEY_BODY", "KeyControlBlock"), machine));
        changes
    };
    changed(change, |windows, truth| {
        let process = windows.process(number(&notepad(truth)["pid"]) as u32).unwrap();
        let file = handle(truth, "File");
        let path = format!("\\Device\\HarddiskVolume3{}", file["name"].as_str().unwrap());
        assert_eq!(name_of(&process, &file), path);
        assert_eq!(name_of(&process, &handle(truth, "Key")), "\\REGISTRY\\MACHIN\u{c9}");
    });
}
