//! Registers of a program that uses KVM, against what it set itself.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::Bare;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vmc::arch::Registers;
use vmc::vcpu::{VcpuError, Vcpus};
use vmc_kvm::{AttachError, AttachOptions, Machine};

fn inject() -> AttachOptions {
    AttachOptions::default()
}

fn no_inject() -> AttachOptions {
    let mut options = AttachOptions::default();
    options.no_inject = true;
    options
}

fn assert_all(bare: &Bare, machine: &Machine) {
    assert_eq!(machine.count(), bare.vcpus());
    for vcpu in 0..machine.count() {
        bare.assert_registers(vcpu, &machine.registers(vcpu).unwrap());
    }
}

#[test]
fn injected_registers_are_right_in_every_mode() {
    for mode in ["loop", "hlt", "sleep", "paused"] {
        let Some(mut bare) = Bare::start(&[mode, "--vcpus", "2"]) else { return };
        let (tids, fds) = (bare.tids(), bare.fds());
        {
            let machine = Machine::attach(bare.pid(), &inject()).unwrap();
            machine.stop().unwrap();
            assert_all(&bare, &machine);
            assert_eq!(machine.how(), "injected ioctl", "{mode}");
            for vcpu in 0..2 {
                let system = machine.system_registers(vcpu).unwrap();
                assert_eq!(system.lstar, Some(bare.fact(vcpu, "lstar")), "{mode}");
                assert_eq!(system.efer, Some(bare.fact(vcpu, "efer")), "{mode}");
                let Registers::X86_64(registers) = machine.registers(vcpu).unwrap() else { panic!() };
                assert_eq!(registers.kernel_gs_base, Some(bare.fact(vcpu, "kernel_gs_base")), "{mode}");
            }
            let error = machine.registers(2).unwrap_err();
            assert_eq!(error, VcpuError::NoSuchVcpu { index: 2, count: 2 });
        }
        bare.assert_untouched();
        assert_eq!((bare.tids(), bare.fds()), (tids, fds), "{mode}");
        if mode == "loop" {
            bare.assert_counting();
        }
        if mode == "paused" {
            assert_eq!(bare.tell("resume")["paused"], false);
            bare.assert_counting();
        }
    }
}

#[test]
fn the_shared_page_tells_registers_without_injection() {
    for mode in ["loop", "hlt"] {
        let Some(mut bare) = Bare::start(&[mode, "--vcpus", "2"]) else { return };
        let machine = Machine::attach(bare.pid(), &no_inject()).unwrap();
        for _ in 0..20 {
            machine.stop().unwrap();
            assert_all(&bare, &machine);
            assert_eq!(machine.how(), "kvm_run", "{mode}");
            machine.resume().unwrap();
        }
        drop(machine);
        bare.assert_untouched();
        if mode == "loop" {
            bare.assert_counting();
        }
    }
}

#[test]
fn a_page_that_is_not_filled_is_not_believed() {
    for mode in ["sleep", "paused"] {
        let Some(bare) = Bare::start(&[mode]) else { return };
        let machine = Machine::attach(bare.pid(), &no_inject()).unwrap();
        machine.stop().unwrap();
        let error = machine.registers(0).unwrap_err().to_string();
        assert!(error.contains("injected"), "{mode}: {error}");
        drop(machine);
        bare.assert_untouched();
    }
}

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
fn a_held_guest_stands_still_and_then_goes_on() {
    let Some(mut bare) = Bare::start(&["loop", "--vcpus", "2"]) else { return };
    let machine = Machine::attach(bare.pid(), &inject()).unwrap();
    machine.stop().unwrap();
    machine.stop().unwrap();
    let before = [bare.counter(0), bare.counter(1)];
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!([bare.counter(0), bare.counter(1)], before, "the guest runs while it is held");
    machine.resume().unwrap();
    machine.resume().unwrap();
    bare.assert_counting();
    // Registers of a guest that is not held are those of a moment, and are kept until they are forgotten.
    let first = machine.registers(0).unwrap();
    assert_eq!(machine.registers(0).unwrap(), first);
    machine.forget();
    bare.assert_registers(0, &machine.registers(0).unwrap());
    bare.assert_counting();
    machine.stop().unwrap();
    drop(machine);
    bare.assert_untouched();
    bare.assert_counting();
}

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
