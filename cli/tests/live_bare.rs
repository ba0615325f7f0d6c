//! Bare KVM processes: `guests/kvm/barekvm.c`, with code of its own or holding the sample guest, whose core is the oracle.
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

use std::path::PathBuf;
use std::time::Duration;

use common::{top, vmc};
use live::{Bare, Random, Seen, alike, check, duration, json, killed_after, sample_core};
use serde_json::Value;

fn truth() -> PathBuf {
    top().join("guests/sample/truth.json")
}

/// The registers that `vmc` shows, but these, are those that the process gave to KVM.
fn registers_hold(bare: &Bare, but: &[&str]) {
    let rows = json(&["registers", &bare.target()]);
    let expected = bare.facts()["vcpus"].as_array().unwrap();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), expected.len());
    for (row, vcpu) in rows.iter().zip(expected) {
        let mut compared = 0;
        for (name, value) in vcpu["registers"].as_object().unwrap() {
            if but.contains(&name.as_str()) || row.get(name).is_none() {
                continue;
            }
            assert_eq!(&row[name], value, "{name} of {row}");
            compared += 1;
        }
        assert!(compared >= 20, "only {compared} registers in {row}");
    }
}

fn rips(bare: &Bare) -> Vec<u64> {
    let rows = json(&["registers", &bare.target()]);
    let number = |row: &Value| {
        u64::from_str_radix(row["rip"].as_str().unwrap().strip_prefix("0x").unwrap(), 16).unwrap()
    };
    rows.as_array().unwrap().iter().map(number).collect()
}

#[test]
fn registers_of_vcpus_that_never_ran() {
    let Some(bare) = Bare::start(&["sleep", "--vcpus", "3"]) else { return };
    registers_hold(&bare, &[]);
}

#[test]
fn registers_of_paused_vcpus_in_a_jail() {
    let Some(mut bare) = Bare::start(&["paused", "--vcpus", "2", "--seccomp"]) else { return };
    let before = bare.counters();
    registers_hold(&bare, &[]);
    assert_eq!(bare.counters(), before, "a guest that was paused has run");
    bare.ask("resume");
    std::thread::sleep(Duration::from_millis(50));
    assert!(bare.counters().iter().zip(&before).all(|(now, before)| now > before));
}

#[test]
fn registers_of_halted_vcpus() {
    let Some(bare) = Bare::start(&["hlt", "--vcpus", "2", "--memfd"]) else { return };
    registers_hold(&bare, &["rip"]);
    assert_eq!(rips(&bare), [0x10_0001, 0x10_0001], "behind the hlt");
}

#[test]
fn registers_of_vcpus_that_run() {
    for words in [&["loop", "--vcpus", "2"][..], &["loop", "--user", "--seccomp", "--memfd"]] {
        let Some(mut bare) = Bare::start(words) else { return };
        let before = bare.counters();
        registers_hold(&bare, &["rip", "rflags"]);
        let places = [0x10_0000, 0x10_0003];
        assert!(rips(&bare).iter().all(|rip| places.contains(rip)));
        std::thread::sleep(Duration::from_millis(50));
        assert!(bare.counters().iter().zip(&before).all(|(now, before)| now > before));
    }
}

#[test]
fn memory_below_and_above_4_gib() {
    for words in [&["paused"][..], &["loop", "--memfd", "--seccomp"], &["hlt"]] {
        let Some(bare) = Bare::start(words) else { return };
        let read = |at: &str, length: usize| {
            let answer = vmc(&["read", &bare.target(), "--physical", "--raw", at, &length.to_string()]);
            answer.succeeded().stdout
        };
        assert_eq!(read("0x200", 22), "low memory begins at 0");
        assert_eq!(read("0x100000100", 27), "high memory begins at 4 GiB");
        let hole = vmc(&["read", &bare.target(), "--physical", "0x800000", "8"]);
        assert_eq!((hole.status, hole.stdout.as_str()), (1, ""), "{hole:?}");
    }
}

const QUESTIONS: [&[&str]; 8] = [
    &["ps"],
    &["threads"],
    &["maps", "--pid", "1"],
    &["bt"],
    &["lsof"],
    &["sockets"],
    &["mounts"],
    &["registers"],
];
const CHECKS: &[&str] = &["ps", "threads", "maps", "modules", "bt", "kstack", "lsof", "sockets", "mounts"];

/// A real guest in a bare process: each way to hold the vCPUs, each kind of memory.
#[test]
fn a_real_guest_says_what_its_image_says() {
    let core = sample_core();
    let core = core.to_str().unwrap();
    let ways: [&[&str]; 3] = [&["parked"], &["exits", "--memfd", "--seccomp"], &["blocked", "--seccomp"]];
    for way in ways {
        let Some(bare) = Bare::start(&[&["core", core], way].concat()) else { return };
        let before = Seen::of(bare.pid());
        registers_hold(&bare, &[]);
        for question in QUESTIONS {
            alike(question, &bare.target(), core);
        }
        check(&bare.target(), &truth(), CHECKS);
        before.again(bare.pid());
    }
}

/// The same with registers out of `kvm_run`, without a system call on borrowed registers: the vCPUs have to be inside KVM_RUN.
#[test]
fn a_real_guest_without_injection() {
    let core = sample_core();
    let core = core.to_str().unwrap();
    for way in [&["blocked", "--seccomp"][..], &["blocked", "--memfd"]] {
        let Some(bare) = Bare::start(&[&["core", core], way].concat()) else { return };
        for question in [&["ps", "--no-inject"][..], &["bt", "--no-inject"]] {
            let live = json(&[&question[..1], &[&bare.target()], &question[1..]].concat());
            assert_eq!(live, json(&[question[0], core]), "{question:?}");
        }
    }
}

/// A layout given by the user is used; with a wrong one no guest is found.
#[test]
fn a_given_layout() {
    let core = sample_core();
    let core = core.to_str().unwrap();
    let Some(bare) = Bare::start(&["core", core, "parked"]) else { return };
    let layout = bare.facts()["layout"].as_str().unwrap();
    let live = json(&["ps", &bare.target(), "--layout", layout]);
    assert_eq!(live, json(&["ps", core]));
    let slot = |name: &str| {
        let text = bare.facts()["slots"][0][name].as_str().unwrap();
        u64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap()
    };
    let shifted = format!("0x0+{:#x}@{:#x}", slot("size") - 0x100_0000, slot("hva") + 0x100_0000);
    let refused = vmc(&["ps", &bare.target(), "--layout", &shifted]);
    assert_eq!((refused.status, refused.stdout.as_str()), (1, ""), "{refused:?}");
}

/// A guest that really runs: the thread that spins in user mode has the stack that it reported.
#[test]
fn a_guest_that_runs() {
    let core = sample_core();
    let Some(bare) = Bare::start(&["core", core.to_str().unwrap(), "run", "--seccomp"]) else { return };
    let before = Seen::of(bare.pid());
    // vCPU 0 runs the kernel's idle loop: its stack moves, all others stand still.
    check(
        &bare.target(),
        &truth(),
        &["ps", "threads", "maps", "modules", "bt-user", "lsof", "sockets", "mounts"],
    );
    before.again(bare.pid());
}

/// `vmc` is killed at random moments: the process lives, its guest runs on, nothing is left.
#[test]
fn killed_at_random_moments() {
    let core = sample_core();
    let mut random = Random::new();
    let Some(mut bare) = Bare::start(&["loop", "--vcpus", "2", "--seccomp"]) else { return };
    let Some(real) = bare.another(&["core", core.to_str().unwrap(), "blocked", "--seccomp"]) else { return };
    let (before, before_real) = (Seen::of(bare.pid()), Seen::of(real.pid()));
    let (target, target_real) = (bare.target(), real.target());
    let (questions, mut cut) = ([["registers", &target], ["bt", &target_real]], 0);
    let takes = questions.map(|words| duration(&words).0);
    for round in 0..100 {
        let which = round % 2;
        cut += u32::from(killed_after(&questions[which], random.below(takes[which])));
        let counters = bare.counters();
        std::thread::sleep(Duration::from_millis(20));
        let mut now = bare.counters();
        // What the dead one had stopped may be let go a moment later.
        for _ in 0..50 {
            if now.iter().zip(&counters).all(|(now, then)| now > then) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
            now = bare.counters();
        }
        assert!(
            now.iter().zip(&counters).all(|(now, then)| now > then),
            "round {round}: a vCPU stands still"
        );
    }
    assert!(cut > 60, "only {cut} of 100 were killed while they worked");
    before.again(bare.pid());
    before_real.again(real.pid());
    registers_hold(&bare, &["rip", "rflags"]);
    alike(&["bt"], &target_real, core.to_str().unwrap());
}

/// Attached to, read and left again and again: every answer is right, nothing is left behind.
#[test]
fn many_cycles() {
    for words in [&["loop", "--vcpus", "2"][..], &["paused", "--vcpus", "2", "--seccomp"]] {
        let Some(mut bare) = Bare::start(words) else { return };
        let before = Seen::of(bare.pid());
        let counters = bare.counters();
        for _ in 0..100 {
            registers_hold(&bare, &["rip", "rflags"]);
        }
        let grown = bare.counters() != counters;
        assert_eq!(grown, words[0] == "loop");
        before.again(bare.pid());
        assert!(!bare.ended());
    }
}
