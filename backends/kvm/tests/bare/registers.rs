//! Registers of a guest that stays as it is: by injection, by the shared page, held and let go.

use std::time::Duration;

use vmc::arch::Registers;
use vmc::vcpu::{VcpuError, Vcpus};
use vmc_kvm::Machine;

use crate::common::Bare;
use crate::{assert_all, inject, no_inject};

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
