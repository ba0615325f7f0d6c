//! Live guests for tests: `barekvm` processes, and QEMUs that `guests/run-live` brings up. Each ends with its value.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a helper of tests may panic and tell what it saw, and not every test uses every helper"
)]

mod asks;
mod bare;
mod cores;
mod qemu;
mod seen;
mod talker;

pub(crate) use asks::{Random, alike, check, check_ran_on, duration, json, killed_after, registers_hold};
pub(crate) use bare::Bare;
pub(crate) use cores::{sample_core, saved};
pub(crate) use qemu::Qemu;
pub(crate) use seen::Seen;

use std::sync::Mutex;

use crate::common::skip;

/// Guests are measured, and take whole processors: whoever starts one has this.
static ALONE: Mutex<()> = Mutex::new(());

/// Can this machine's KVM be used? Says what is missing where it cannot.
fn kvm() -> bool {
    let opened = std::fs::File::options().read(true).write(true).open("/dev/kvm");
    if let Err(why) = &opened {
        skip(&format!("/dev/kvm cannot be opened: {why}"));
    }
    opened.is_ok()
}
