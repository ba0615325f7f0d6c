//! Attaching and letting go, against odds: again and again, under a seccomp filter and a flood of signals, in no time, and in vain.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vmc::vcpu::Vcpus;
use vmc_kvm::{AttachError, Machine};

use crate::common::Bare;
use crate::{assert_all, inject, no_inject};

#[test]
fn a_killing_seccomp_filter_is_survived() {
    for (mode, options) in [("loop", inject()), ("hlt", inject()), ("sleep", inject()), ("loop", no_inject())]
    {
        let Some(mut bare) = Bare::start(&[mode, "--vcpus", "2", "--seccomp"]) else { return };
        for _ in 0..100 {
            let machine = Machine::attach(bare.pid(), &options).unwrap();
            machine.stop().unwrap();
            assert_all(&bare, &machine);
        }
        bare.assert_untouched();
        assert_eq!(bare.tell("counters")["paused"], false);
        if mode == "loop" {
            bare.assert_counting();
        }
    }
}

#[test]
fn a_flood_of_signals_holds_nobody_up() {
    let Some(mut bare) = Bare::start(&["loop", "--vcpus", "2"]) else { return };
    let pid = Pid::from_raw(bare.pid() as i32);
    let machine = Machine::attach(bare.pid(), &inject()).unwrap();
    let over = AtomicBool::new(false);
    let held = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    kill(pid, Signal::SIGUSR1).unwrap();
                }
            });
        }
        let mut held = 0;
        for _ in 0..100 {
            let start = Instant::now();
            match machine.stop() {
                Ok(()) => {
                    assert_all(&bare, &machine);
                    held += 1;
                }
                Err(error) => assert!(error.to_string().contains("in time"), "{error}"),
            }
            machine.resume().unwrap();
            assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        }
        over.store(true, Ordering::Relaxed);
        held
    });
    assert!(held > 0, "never held");
    drop(machine);
    bare.assert_untouched();
    bare.assert_counting();
}

#[test]
fn who_does_not_hold_in_time_holds_nothing() {
    let Some(mut bare) = Bare::start(&["loop", "--vcpus", "2"]) else { return };
    let mut options = inject();
    options.patience = Duration::ZERO;
    let machine = Machine::attach(bare.pid(), &options).unwrap();
    for _ in 0..20 {
        let error = machine.stop().unwrap_err().to_string();
        assert!(error.contains("in time") && !machine.held(), "{error}");
        assert!(machine.registers(0).is_err());
    }
    bare.assert_counting();
    drop(machine);
    bare.assert_untouched();
}

#[test]
fn a_thousand_attachments_leave_nothing() {
    for mode in ["loop", "paused"] {
        let Some(mut bare) = Bare::start(&[mode, "--vcpus", "2"]) else { return };
        let (tids, fds) = (bare.tids(), bare.fds());
        let own = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let mut times = Vec::new();
        let before = own();
        for _ in 0..1000 {
            let start = Instant::now();
            let machine = Machine::attach(bare.pid(), &inject()).unwrap();
            machine.stop().unwrap();
            let registers: Vec<_> = (0..2).map(|vcpu| machine.registers(vcpu).unwrap()).collect();
            drop(machine);
            times.push(start.elapsed());
            for (vcpu, registers) in registers.iter().enumerate() {
                bare.assert_registers(vcpu, registers);
            }
        }
        times.sort_unstable();
        println!(
            "{mode}: attach, registers of 2 vCPUs, detach: median {:?}, 99 % {:?}",
            times[500], times[990]
        );
        bare.assert_untouched();
        assert_eq!((bare.tids(), bare.fds()), (tids, fds), "{mode}");
        // Other tests of this program open and close descriptors meanwhile.
        assert!(own() < before + 100, "descriptors are left here: {before}, then {}", own());
        if mode == "paused" {
            bare.tell("resume");
        }
        bare.assert_counting();
    }
}

#[test]
fn what_cannot_be_attached_to_is_said_in_a_line() {
    let line = |pid: u32| {
        let error = Machine::attach(pid, &inject()).unwrap_err();
        let line = error.to_string();
        assert!(!line.contains('\n') && line.contains(&pid.to_string()), "{line}");
        (error, line)
    };
    assert!(matches!(line(u32::MAX / 2).0, AttachError::NoProcess { .. }));
    assert!(matches!(line(std::process::id()).0, AttachError::NoMachine { .. }));
    let Some(bare) = Bare::start(&["loop"]) else { return };
    let pid = bare.pid();
    let machine = Machine::attach(pid, &inject()).unwrap();
    // A second one while the first holds on: the line names who traces.
    let (error, line) = line(pid);
    assert!(matches!(error, AttachError::NotPermitted { .. }), "{line}");
    assert!(line.contains(&machine.guardian().to_string()), "{line}");
    drop(bare);
    let gone = machine.stop().unwrap_err().to_string();
    assert!(gone.contains("gone") && gone.contains(&pid.to_string()), "{gone}");
}
