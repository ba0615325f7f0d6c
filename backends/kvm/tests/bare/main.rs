//! Registers of a program that uses KVM, against what it set itself.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]

#[path = "../common/mod.rs"]
mod common;

mod attachments;
mod changes;
mod registers;

use common::Bare;
use vmc::vcpu::Vcpus;
use vmc_kvm::{AttachOptions, Machine};

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
