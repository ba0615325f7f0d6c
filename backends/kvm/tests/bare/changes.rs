//! What changes while a machine is attached to: it is paused or stopped, and vCPUs and seccomp filters come and go.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vmc::vcpu::Vcpus;
use vmc_kvm::Machine;

use crate::common::Bare;
use crate::{assert_all, inject, no_inject};

#[test]
fn without_injection_a_vcpu_that_is_paused_meanwhile_is_told_by_its_last_exit() {
    let Some(mut bare) = Bare::start(&["loop", "--vcpus", "2", "--seccomp"]) else { return };
    let machine = Machine::attach(bare.pid(), &no_inject()).unwrap();
    // Held once, it is seen to run: from then on KVM stores its registers.
    machine.stop().unwrap();
    machine.resume().unwrap();
    assert_eq!(bare.tell("pause")["paused"], true);
    let until = Instant::now() + Duration::from_secs(5);
    while machine.running() {
        assert!(Instant::now() < until, "it does not pause");
    }
    for _ in 0..20 {
        machine.stop().unwrap();
        assert_all(&bare, &machine);
        assert_eq!(machine.how(), "kvm_run");
        machine.resume().unwrap();
    }
    drop(machine);
    bare.assert_untouched();
    bare.tell("resume");
    bare.assert_counting();
}

#[test]
fn a_guest_that_is_paused_meanwhile_is_read_by_injection() {
    let Some(mut bare) = Bare::start(&["loop", "--vcpus", "2"]) else { return };
    let machine = Machine::attach(bare.pid(), &inject()).unwrap();
    let mut ways = Vec::new();
    for round in 0..8 {
        let paused = round >= 5;
        if round == 5 {
            assert_eq!(bare.tell("pause")["paused"], true);
        }
        // A thread that waits for a processor looks as if it had one.
        let until = Instant::now() + Duration::from_secs(5);
        while machine.running() == paused {
            assert!(Instant::now() < until, "round {round}: running {paused}");
        }
        machine.stop().unwrap();
        assert!(!machine.running());
        assert_all(&bare, &machine);
        ways.push(machine.how());
        machine.resume().unwrap();
    }
    assert_eq!(ways[0], "injected ioctl");
    assert!(ways[2..5].contains(&"kvm_run"), "{ways:?}");
    assert!(ways[5..].iter().all(|how| *how == "injected ioctl"), "{ways:?}");
    drop(machine);
    bare.assert_untouched();
    bare.tell("resume");
    bare.assert_counting();
}

#[test]
fn a_seccomp_filter_that_comes_late_is_survived() {
    for mode in ["loop", "paused"] {
        let Some(mut bare) = Bare::start(&[mode, "--vcpus", "2"]) else { return };
        let machine = Machine::attach(bare.pid(), &inject()).unwrap();
        assert_eq!(bare.tell("jail")["paused"], mode == "paused");
        machine.stop().unwrap();
        assert_all(&bare, &machine);
        // Once more while the threads are held; of a paused machine all threads are.
        machine.resume().unwrap();
        machine.stop().unwrap();
        if mode == "loop" {
            bare.tell("jail");
        }
        assert_all(&bare, &machine);
        drop(machine);
        bare.assert_untouched();
        bare.tell("resume");
        bare.assert_counting();
    }
}

#[test]
fn a_vcpu_that_comes_late_is_noticed() {
    let Some(mut bare) = Bare::start(&["hlt"]) else { return };
    let machine = Machine::attach(bare.pid(), &inject()).unwrap();
    machine.stop().unwrap();
    machine.resume().unwrap();
    let before = bare.tids();
    bare.tell("plug");
    let new = *bare.tids().iter().find(|tid| !before.contains(tid)).unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    let refused = loop {
        // It may not have got to KVM_RUN yet.
        if let Err(error) = machine.stop() {
            break error.to_string();
        }
        machine.resume().unwrap();
        assert!(Instant::now() < until, "the new vCPU runs unnoticed");
    };
    assert!(refused.contains(&new.to_string()) && !machine.held(), "{refused}");
    drop(machine);
    bare.assert_untouched();
    let machine = Machine::attach(bare.pid(), &inject()).unwrap();
    machine.stop().unwrap();
    assert_eq!(machine.count(), 2);
    bare.assert_registers(0, &machine.registers(0).unwrap());
}

#[test]
fn a_vcpu_that_goes_is_noticed_and_what_was_its_page_stays_as_it_is() {
    for (options, held_before) in [(no_inject(), false), (no_inject(), true), (inject(), true)] {
        let Some(mut bare) = Bare::start(&["loop", "--vcpus", "2"]) else { return };
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", bare.pid())).unwrap();
        let line = maps.lines().find(|line| line.ends_with("kvm-vcpu:1")).unwrap();
        let page = usize::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
        let machine = Machine::attach(bare.pid(), &options).unwrap();
        // Often enough that the pages are in use with injection too.
        for _ in 0..if held_before { 4 } else { 0 } {
            machine.stop().unwrap();
            machine.resume().unwrap();
        }
        bare.tell("unplug");
        for _ in 0..3 {
            // Whose the thread was that ended is not known where nothing told before.
            if let Err(error) = machine.stop() {
                let error = error.to_string();
                assert!(error.contains("vCPU 1") && error.contains("attach again"), "{error}");
                assert!(!machine.held());
            } else {
                assert!(!held_before, "not noticed");
                machine.resume().unwrap();
            }
        }
        drop(machine);
        let mut bytes = [0xff; 1024];
        let read = nix::sys::uio::process_vm_readv(
            Pid::from_raw(bare.pid() as i32),
            &mut [std::io::IoSliceMut::new(&mut bytes)],
            &[nix::sys::uio::RemoteIoVec { base: page, len: 1024 }],
        );
        assert_eq!((read, bytes), (Ok(1024), [0; 1024]), "memory that is no vCPU's page was written to");
        bare.assert_untouched();
    }
}

#[test]
fn a_stopped_vmm_stays_stopped() {
    let Some(mut bare) = Bare::start(&["loop"]) else { return };
    let pid = Pid::from_raw(bare.pid() as i32);
    let letter = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().trim().chars().next().unwrap()
    };
    let stopped = || {
        let until = Instant::now() + Duration::from_secs(5);
        while letter() != 'T' {
            assert!(Instant::now() < until, "not stopped but {}", letter());
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    kill(pid, Signal::SIGSTOP).unwrap();
    stopped();
    for _ in 0..50 {
        let machine = Machine::attach(bare.pid(), &inject()).unwrap();
        assert!(!machine.running());
        machine.stop().unwrap();
        assert_all(&bare, &machine);
        machine.resume().unwrap();
        assert!(!machine.running());
        drop(machine);
        stopped();
    }
    kill(pid, Signal::SIGCONT).unwrap();
    bare.assert_counting();
    // Stopped and set going while it is attached to.
    let machine = Machine::attach(bare.pid(), &inject()).unwrap();
    kill(pid, Signal::SIGSTOP).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    machine.stop().unwrap();
    assert_all(&bare, &machine);
    machine.resume().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    kill(pid, Signal::SIGCONT).unwrap();
    bare.assert_counting();
    drop(machine);
    bare.assert_untouched();
    bare.assert_counting();
}
