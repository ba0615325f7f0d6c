//! Processes, threads, libraries and handles of the synthetic images, against the ledger of what was planted.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "tests and their helpers may panic and tell what they saw"
)]

mod images;

use std::collections::{BTreeMap, BTreeSet};

use images::{address, image, number, unpacked, with_memory};
use serde_json::Value;
use vmc::{PhysAddr, VirtAddr};
use vmc_windows::{Process, Windows};

fn optional(value: &Value) -> Option<u64> {
    (!value.is_null()).then(|| number(value))
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn with_image(name: &str, check: impl FnOnce(&Windows<'_>, &Value)) {
    let Some((folder, truth)) = image(name) else {
        return;
    };
    with_memory(&folder, &truth, &unpacked(&folder.join("mem.raw.xz")), |windows| check(windows, &truth));
}

fn check_row(process: &Process<'_>, truth: &Value) {
    let row = process.row();
    let who = format!("pid {} {}", truth["pid"], truth["name"]);
    // What would steer a terminal is spelt out.
    let spelt = |letter: char| match letter {
        '\0'..' ' | '\x7f' => format!("\\x{:02x}", u32::from(letter)),
        other => other.to_string(),
    };
    let name: String = truth["name"].as_str().unwrap().chars().map(spelt).collect();
    assert_eq!(row.name, name, "{who}");
    assert_eq!(row.ppid.map(u64::from), optional(&truth["ppid"]), "{who}");
    assert_eq!(row.object, address(truth, "eprocess"), "{who}");
    assert_eq!(row.page_table.map(PhysAddr::get), optional(&truth["dtb"]), "{who}");
    assert_eq!(row.user_page_table.map(PhysAddr::get), optional(&truth["user_dtb"]), "{who}");
    assert_eq!(row.threads.map(u64::from), optional(&truth["active_threads"]), "{who}");
    assert_eq!(row.session.map(u64::from), optional(&truth["session"]), "{who}");
    assert_eq!(row.wow64, truth["wow64"] == true, "{who}");
    assert_eq!(row.command_line.as_deref(), truth["command_line"].as_str(), "{who}");
    assert_eq!(row.peb.map(VirtAddr::get), optional(&truth["peb"]), "{who}");
    let seconds = |time: Option<i128>| time.map(|time| (time / 1_000_000_000) as u64);
    assert_eq!(seconds(row.exit_time), optional(&truth["exit_time"]), "{who}");
    assert_eq!(seconds(row.start_time), optional(&truth["create_time"]), "{who}");
    // The ledger's stand-in for a lone surrogate, which reads as U+FFFD.
    let exe = row.exe.map(|exe| exe.replace('\u{fffd}', "\u{ff00}"));
    assert_eq!(exe.as_deref(), truth["image_path"].as_str(), "{who}");
    let hostile = truth.get("hostile").is_some_and(|note| !note.is_null());
    assert!(hostile || row.errors.is_empty(), "{who}: {:?}", row.errors);
}

fn check_threads(process: &Process<'_>, truth: &Value) -> usize {
    let pid = process.pid();
    let found: Vec<_> = process.threads().filter_map(Result::ok).collect();
    let ours: Vec<_> = found.iter().map(|thread| (u64::from(thread.tid()), thread.object().get())).collect();
    let theirs: Vec<_> =
        rows(&truth["threads"]).iter().map(|row| (number(&row["tid"]), number(&row["ethread"]))).collect();
    let sort = |list: &[(u64, u64)]| list.iter().copied().collect::<BTreeSet<_>>();
    assert_eq!(sort(&ours), sort(&theirs), "threads of {pid}");
    assert_eq!(ours.len(), theirs.len(), "each thread once, of {pid}");
    for truth in rows(&truth["threads"]) {
        let thread = found.iter().find(|thread| u64::from(thread.tid()) == number(&truth["tid"])).unwrap();
        let row = thread.row();
        let who = format!("thread {} of {pid}", row.tid);
        let state = ["Initialized", "Ready", "Running", "Standby", "Terminated", "Waiting"];
        assert_eq!(row.state, Some(state[number(&truth["state"]) as usize]), "{who}");
        if row.state == Some("Waiting") {
            assert_eq!((number(&truth["wait_reason"]), row.wait_reason), (6, Some("UserRequest")), "{who}");
        }
        assert_eq!(row.on_cpu, !truth["running_on"].is_null(), "{who}: {row:?}");
        if row.on_cpu {
            assert_eq!(row.cpu.map(u64::from), optional(&truth["running_on"]), "{who}");
        }
        let known = |address: Option<VirtAddr>| address.map_or(0, VirtAddr::get);
        assert_eq!(known(row.start_address), number(&truth["start_address"]), "{who}");
        assert_eq!(known(row.win32_start_address), number(&truth["win32_start_address"]), "{who}");
        assert_eq!(row.teb.map(VirtAddr::get), optional(&truth["teb"]), "{who}");
        assert!(row.errors.is_empty(), "{who}: {:?}", row.errors);
    }
    ours.len()
}

fn check_modules(process: &Process<'_>, truth: &Value) -> usize {
    let pid = process.pid();
    let found: BTreeMap<_, _> =
        process.modules().map(Result::unwrap).map(|row| (row.base.get(), row)).collect();
    let mut bases = BTreeSet::new();
    for truth in rows(&truth["modules"]) {
        let base = number(&truth["base"]);
        bases.insert(base);
        let row = found.get(&base).unwrap_or_else(|| panic!("pid {pid} has no {truth}"));
        assert_eq!(row.size, number(&truth["size"]), "pid {pid}: {row:?}");
        assert_eq!(row.path.as_deref(), truth["path"].as_str(), "pid {pid}");
        assert_eq!(row.name, truth["name"].as_str().unwrap(), "pid {pid}");
        assert!(row.wow64 || truth["wow64"] == false, "pid {pid}: {row:?}");
        let pdb = row.pdb.as_ref().map(|pdb| (pdb.guid_text(), u64::from(pdb.age), pdb.name.as_str()));
        let told = &truth["pdb"];
        let told = told["guid"].as_str().map(|guid| {
            (guid.replace('-', "").to_uppercase(), number(&told["age"]), told["name"].as_str().unwrap())
        });
        assert_eq!(pdb, told, "pid {pid}: {row:?}");
    }
    // What is mapped as an image stands for itself where no list has it.
    for vad in rows(&truth["vads"]).iter().filter(|vad| vad["type"] == "image") {
        let row = &found[&number(&vad["start"])];
        if bases.insert(row.base.get()) {
            assert_eq!(row.path.as_deref(), vad["path"].as_str(), "pid {pid}: {row:?}");
        }
    }
    assert_eq!(found.len(), bases.len(), "modules of {pid}: {found:?}");
    bases.len()
}

fn check_handles(process: &Process<'_>, truth: &Value) -> usize {
    let pid = process.pid();
    let found: Vec<_> = process.handles().map(Result::unwrap).collect();
    assert_eq!(found.len(), rows(&truth["handles"]).len(), "handles of {pid}: {found:#?}");
    for (row, truth) in found.iter().zip(rows(&truth["handles"])) {
        assert_eq!(u64::from(row.handle), number(&truth["handle"]), "pid {pid}");
        assert_eq!(row.kind.as_deref(), truth["type"].as_str(), "pid {pid} {row:?}");
        assert_eq!(row.object.get(), number(&truth["object"]), "pid {pid} {row:?}");
        assert_eq!(row.access.map(u64::from), optional(&truth["access"]), "pid {pid} {row:?}");
        if truth["name"].is_string() {
            assert_eq!(row.name.as_deref(), truth["name"].as_str(), "pid {pid} {row:?}");
        }
    }
    found.len()
}

fn sound(name: &str) {
    with_image(name, |windows, truth| {
        let found: Vec<_> = windows.processes().map(Result::unwrap).collect();
        let by_pid: BTreeMap<_, _> =
            found.iter().map(|process| (u64::from(process.pid()), process)).collect();
        let (mut threads, mut modules, mut handles) = (0, 0, 0);
        let idle = rows(&truth["idle"]);
        let hidden = rows(&truth["hidden_processes"]);
        let all: Vec<_> = rows(&truth["processes"]).iter().chain(idle).chain(hidden).collect();
        for truth in &all {
            let process = by_pid.get(&number(&truth["pid"])).unwrap_or_else(|| panic!("no {}", truth["pid"]));
            check_row(process, truth);
            threads += check_threads(process, truth);
            modules += check_modules(process, truth);
            handles += check_handles(process, truth);
        }
        assert_eq!(found.len(), all.len(), "{found:?}");
        println!(
            "{name}: {} processes, {threads} threads, {modules} modules, {handles} handles",
            found.len()
        );
        assert!(threads > 20 && modules > 10 && handles > 10, "too little was compared");
    });
}

#[test]
fn plain_17763() {
    sound("17763-plain");
}

#[test]
fn wow64_17763() {
    sound("17763-wow64");
}

#[test]
fn pages_19041() {
    sound("19041-pages");
}

#[test]
fn plain_19041() {
    sound("19041-plain");
}

#[test]
fn decoy_20348() {
    sound("20348-decoy");
}

#[test]
fn kpti_20348() {
    sound("20348-kpti");
}

#[test]
fn hostile_19041() {
    with_image("19041-hostile", |windows, truth| {
        let found: Vec<_> = windows.processes().filter_map(Result::ok).collect();
        let by_pid: BTreeMap<_, _> =
            found.iter().map(|process| (u64::from(process.pid()), process)).collect();
        assert_eq!(by_pid.len(), found.len(), "each process once");
        for truth in rows(&truth["hidden_processes"]) {
            let row = by_pid[&number(&truth["pid"])].row();
            assert!(!row.on_list, "{row:?}");
        }
        for truth in rows(&truth["processes"]).iter().chain(rows(&truth["hidden_processes"])) {
            let process = by_pid.get(&number(&truth["pid"])).unwrap_or_else(|| panic!("no {truth}"));
            check_row(process, truth);
            check_threads(process, truth);
            // The first entry is whole whatever else the lists say.
            let first = rows(&truth["modules"]).first();
            assert!(first.is_none_or(|first| {
                process.modules().flatten().any(|row| row.base.get() == number(&first["base"]))
            }));
            let least = |what: &str| truth["expect"][what].as_u64().unwrap_or_default() as usize;
            let modules = process.modules().filter_map(Result::ok).count();
            assert!(modules >= least("modules_at_least").max(rows(&truth["modules"]).len()), "{truth}");
            let handles = process.handles().filter_map(Result::ok).count();
            assert!(handles >= rows(&truth["handles"]).len() && handles < 4096, "{truth}: {handles} handles");
        }
    });
}
