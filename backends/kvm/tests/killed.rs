//! Whoever looks at a guest is killed, at every step and at any moment: the guest does not notice.
//!
//! The one that is killed is this program once more, which does what `the_one_that_is_killed` says.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests may panic"
)]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::Bare;
use vmc::vcpu::Vcpus;
use vmc_kvm::{AttachOptions, Machine, Step};

/// What the program that is killed is told by.
const TARGET: &str = "VMC_KVM_TARGET";
const STEP: &str = "VMC_KVM_STEP";
const NO_INJECT: &str = "VMC_KVM_NO_INJECT";

/// Does nothing where nobody told it a target.
#[test]
fn the_one_that_is_killed() {
    let Some(target) = std::env::var_os(TARGET) else { return };
    let pid = target.to_str().unwrap().parse().unwrap();
    let mut options = AttachOptions::default();
    options.no_inject = std::env::var_os(NO_INJECT).is_some();
    let step = std::env::var(STEP)
        .ok()
        .map(|name| *Step::ALL.iter().find(|step| format!("{step:?}") == name).unwrap());
    if let Some(wanted) = step {
        options.watcher = Some(Arc::new(move |step| {
            if step == wanted {
                println!("there");
                std::thread::sleep(Duration::from_secs(50));
            }
        }));
    }
    println!("ready");
    loop {
        let machine = Machine::attach(pid, &options).unwrap();
        for _ in 0..3 {
            machine.stop().unwrap();
            for vcpu in 0..machine.count() {
                let _ = machine.registers(vcpu);
            }
            machine.resume().unwrap();
        }
    }
}

/// Starts the one that is killed; returns when it has said `word`.
fn start(bare: &Bare, step: Option<Step>, no_inject: bool, word: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_one_that_is_killed", "--nocapture"]).env(TARGET, bare.pid().to_string());
    if let Some(step) = step {
        command.env(STEP, format!("{step:?}"));
    }
    if no_inject {
        command.env(NO_INJECT, "1");
    }
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines.find(|line| line.as_ref().is_ok_and(|line| line.ends_with(word)));
    assert!(said.is_some(), "the program ended before it said {word:?}: {step:?}, no_inject {no_inject}");
    // The pipe stays open, so that the program is never told that nobody listens.
    std::mem::forget(lines);
    child
}

fn assert_well(bare: &mut Bare) {
    bare.assert_untouched();
    if bare.facts["mode"] == "loop" {
        bare.assert_counting();
    }
    let machine = Machine::attach(bare.pid(), &AttachOptions::default()).unwrap();
    machine.stop().unwrap();
    for vcpu in 0..bare.vcpus() {
        bare.assert_registers(vcpu, &machine.registers(vcpu).unwrap());
    }
    drop(machine);
    bare.assert_untouched();
}

#[test]
fn killed_at_every_step() {
    for (mode, no_inject) in [("loop", false), ("loop", true), ("paused", false), ("hlt", false)] {
        let Some(mut bare) = Bare::start(&[mode, "--vcpus", "2", "--seccomp"]) else { return };
        let (tids, fds) = (bare.tids(), bare.fds());
        for step in Step::ALL {
            let injected = [
                Step::SignalsBlocked,
                Step::Borrowed,
                Step::InSystemCall,
                Step::SystemCallDone,
                Step::Restored,
            ];
            if no_inject && injected.contains(&step) {
                continue;
            }
            let mut child = start(&bare, Some(step), no_inject, "there");
            // Killed there, it can do nothing any more.
            child.kill().unwrap();
            child.wait().unwrap();
            assert_well(&mut bare);
            assert_eq!((bare.tids(), bare.fds()), (tids.clone(), fds), "{mode} {step:?}");
        }
        if mode == "paused" {
            bare.tell("resume");
            bare.assert_counting();
        }
    }
}

#[test]
fn killed_at_any_moment() {
    for (arguments, no_inject) in [
        (&["loop", "--vcpus", "2"][..], false),
        (&["loop", "--vcpus", "2", "--seccomp"], true),
        (&["paused", "--vcpus", "2", "--seccomp"], false),
    ] {
        let Some(mut bare) = Bare::start(arguments) else { return };
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let start_time = Instant::now();
        for _ in 0..50 {
            let mut child = start(&bare, None, no_inject, "ready");
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            std::thread::sleep(Duration::from_micros(random % 20_000));
            child.kill().unwrap();
            child.wait().unwrap();
            bare.assert_untouched();
        }
        println!("{arguments:?}: 50 killed in {:?}", start_time.elapsed());
        assert_well(&mut bare);
    }
}
