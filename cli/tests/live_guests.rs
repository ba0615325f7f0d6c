//! QEMU's guests, live: a saved Linux brought back under TCG (gdb and QMP) and under KVM, against a core that QEMU itself takes
//! at that moment and against the guest's own word.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "tests may panic and tell what they saw"
)]

mod common;
#[path = "common/live/mod.rs"]
mod live;

use std::path::Path;
use std::time::{Duration, Instant};

use common::vmc;
use live::{
    Qemu, Random, Seen, alike, check, check_ran_on, duration, json, killed_after, registers_hold, saved,
};

const QUESTIONS: [&[&str]; 8] = [
    &["ps"],
    &["threads"],
    &["maps", "--pid", "1"],
    &["modules"],
    &["bt"],
    &["lsof"],
    &["sockets"],
    &["mounts"],
];
const CHECKS: &[&str] = &["ps", "threads", "maps", "modules", "bt", "kstack", "lsof", "sockets", "mounts"];
/// What does not move while the guest runs, its programs being blocked.
const STILL: &[&str] = &["ps", "maps", "modules", "bt-user", "lsof", "mounts"];

/// A paused guest says by `target` what it said of itself, and what QEMU's core of it says.
fn holds(qemu: &Qemu, target: &str, folder: &Path) {
    let core = qemu.core();
    let core = core.to_str().unwrap();
    registers_hold(target, core);
    for question in QUESTIONS {
        alike(question, target, core);
    }
    check(target, &folder.join("truth.json"), CHECKS);
}

#[test]
fn a_paused_guest_by_gdb_and_qmp() {
    let Some(folder) = saved() else { return };
    let Some(qemu) = Qemu::start(&folder, &[]) else { return };
    let before = Seen::of(qemu.pid());
    for target in [qemu.gdb(), qemu.qmp()] {
        holds(&qemu, &target, &folder);
        assert_eq!(qemu.status(), "paused", "{target} has let a paused guest run");
    }
    before.again(qemu.pid());
}

#[test]
fn a_running_guest_by_gdb_and_qmp() {
    let Some(folder) = saved() else { return };
    let Some(qemu) = Qemu::start(&folder, &["--cont"]) else { return };
    let before = Seen::of(qemu.pid());
    for target in [qemu.gdb(), qemu.qmp()] {
        check_ran_on(&target, &folder.join("truth.json"), STILL);
        qemu.becomes_running();
    }
    // One moment: paused by somebody else, it is told the same by all.
    qemu.execute("stop", &serde_json::Value::Null);
    let core = qemu.core();
    for target in [qemu.gdb(), qemu.qmp()] {
        registers_hold(&target, core.to_str().unwrap());
        for question in QUESTIONS {
            alike(question, &target, core.to_str().unwrap());
        }
        assert_eq!(qemu.status(), "paused");
    }
    qemu.execute("cont", &serde_json::Value::Null);
    before.again(qemu.pid());
}

#[test]
fn a_kvm_guest() {
    let Some(folder) = saved() else { return };
    for words in [&["--kvm"][..], &["--kvm", "--shared"]] {
        let Some(qemu) = Qemu::start(&folder, words) else { return };
        let before = Seen::of(qemu.pid());
        holds(&qemu, &qemu.kvm(), &folder);
        for target in [qemu.gdb(), qemu.qmp()] {
            alike(&["bt"], &target, qemu.core().to_str().unwrap());
        }
        assert_eq!(qemu.status(), "paused");
        before.again(qemu.pid());
    }
}

/// The layout asked of the monitor that the user names.
#[test]
fn a_kvm_guest_with_a_monitor() {
    let Some(folder) = saved() else { return };
    let Some(qemu) = Qemu::start(&folder, &["--kvm"]) else { return };
    let monitor = qemu.qmp();
    let told = json(&["ps", &qemu.kvm(), "--monitor", monitor.strip_prefix("qmp:").unwrap()]);
    assert_eq!(told, json(&["ps", qemu.core().to_str().unwrap()]));
    assert_eq!(qemu.status(), "paused");
}

/// What `dump` saves says what the guest says, to us and to others.
#[test]
fn dumps() {
    let Some(folder) = saved() else { return };
    let Some(qemu) = Qemu::start(&folder, &["--kvm"]) else { return };
    for target in [qemu.qmp(), qemu.kvm()] {
        let file = common::scratch().join(format!("dump-{}.elf", std::process::id()));
        let name = file.to_str().unwrap();
        let _ = std::fs::remove_file(&file);
        vmc(&["dump", &target, name]).succeeded();
        let core = qemu.core();
        for question in QUESTIONS {
            alike(question, name, core.to_str().unwrap());
        }
        registers_hold(name, core.to_str().unwrap());
        check(name, &folder.join("truth.json"), CHECKS);
        std::fs::remove_file(&file).unwrap();
    }
}

/// A client that is killed leaves a running guest running, whatever it had stopped.
#[test]
fn killed_at_random_moments() {
    let Some(folder) = saved() else { return };
    let mut random = Random::new();
    let Some(qemu) = Qemu::start(&folder, &["--cont"]) else { return };
    let before = Seen::of(qemu.pid());
    let targets = [qemu.gdb(), qemu.qmp()];
    let mut cut = 0;
    let takes: Vec<u64> = targets.iter().map(|target| duration(&["bt", target]).0).collect();
    for round in 0..40 {
        let which = round % 2;
        cut += u32::from(killed_after(&["bt", &targets[which]], random.below(takes[which])));
        qemu.becomes_running();
    }
    assert!(cut > 24, "only {cut} of 40 were killed while they worked");
    check_ran_on(&targets[0], &folder.join("truth.json"), STILL);
    qemu.becomes_running();
    before.again(qemu.pid());
}

/// Connected to, read and left again and again: running stays running, paused stays paused, nothing is left behind.
#[test]
fn many_cycles() {
    let Some(folder) = saved() else { return };
    for state in ["running", "paused"] {
        let words: &[&str] = if state == "running" { &["--cont"] } else { &[] };
        let Some(qemu) = Qemu::start(&folder, words) else { return };
        let before = Seen::of(qemu.pid());
        for target in [qemu.gdb(), qemu.qmp()] {
            for _ in 0..50 {
                let rows = json(&["registers", &target]);
                assert_eq!(rows.as_array().unwrap().len(), 2);
                // The kernel's descriptors are those of this boot, for ever.
                assert!(rows.as_array().unwrap().iter().all(|row| row["cr0"] == "0x80050033"), "{rows}");
            }
            let begin = Instant::now();
            while qemu.status() != state {
                assert!(begin.elapsed() < Duration::from_secs(5), "{state} before, now {}", qemu.status());
            }
        }
        before.again(qemu.pid());
    }
}
