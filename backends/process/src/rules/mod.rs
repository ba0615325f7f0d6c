//! The layout by what is known of a virtual machine monitor: the last resort, to be confirmed by [`crate::verify`].
//!
//! Who it is and what machine it makes its command line says; where its RAM lies, the flags and sizes of its mappings. Where
//! versions differ and nothing tells them apart there are several layouts, and the guest's memory decides.

mod blocks;
mod machine;
mod options;
mod others;
mod qemu;

use std::path::PathBuf;

use vmc::PhysAddr;

use crate::error::{LayoutError, ProcessError};
use crate::layout::{Layout, Piece};
use crate::maps::Map;
use crate::proc;

const GIB: u64 = 1 << 30;

/// Where RAM goes on that does not fit below the hole for devices, on a PC.
const ABOVE: u64 = 4 * GIB;

/// A monitor, and what its guest's layout can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Who it is: `QEMU`, `Firecracker`, `Cloud Hypervisor`, `crosvm`.
    pub vmm: &'static str,
    /// At least one layout; where it is more than one, the likeliest first.
    pub candidates: Vec<Layout>,
}

/// Why there is no rule.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The program is none that we know.
    #[error(
        "process {pid} ({program}) is no virtual machine monitor that is known: QEMU, Firecracker, Cloud Hypervisor, crosvm"
    )]
    Unknown {
        /// The process.
        pid: u32,
        /// Its program.
        program: String,
    },
    /// A machine whose layout is not known.
    #[error("the layout of {vmm}'s machine `{machine}` is not known")]
    Machine {
        /// The monitor.
        vmm: &'static str,
        /// The machine.
        machine: String,
    },
    /// Its command line does not say what is needed.
    #[error("{vmm}'s command line does not tell the guest's memory: {reason}")]
    Options {
        /// The monitor.
        vmm: &'static str,
        /// What is missing.
        reason: String,
    },
    /// Its RAM is not among its mappings.
    #[error("{vmm}'s RAM was not found: none of its mappings {wanted}")]
    NoRam {
        /// The monitor.
        vmm: &'static str,
        /// What was looked for.
        wanted: String,
    },
    /// More than one mapping can be its RAM.
    #[error("{vmm}'s RAM cannot be told: {count} of its mappings {wanted}")]
    Ambiguous {
        /// The monitor.
        vmm: &'static str,
        /// What was looked for.
        wanted: String,
        /// How many there are.
        count: usize,
    },
    /// The process' own files.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The layout that was made.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// What the rules go by.
#[derive(Debug)]
struct Monitor {
    pid: u32,
    program: PathBuf,
    command: Vec<String>,
    maps: Vec<Map>,
}

/// What the layout of the guest in process `pid` can be, by what is known of its monitor.
///
/// # Errors
/// [`RulesError`] where the monitor is not known, or its RAM cannot be told.
pub fn vmm_rules(pid: u32) -> Result<Rules, RulesError> {
    let program = proc::program(pid)?;
    let command = proc::command_line(pid)?;
    // The mappings are asked for only where they are wanted: of a large process they take long.
    let mut monitor = Monitor { pid, program, command, maps: Vec::new() };
    let vmm = vmm(&monitor)?;
    monitor.maps = proc::maps_with_flags(pid)?;
    decide(vmm, &monitor)
}

fn decide(vmm: Vmm, monitor: &Monitor) -> Result<Rules, RulesError> {
    match vmm {
        Vmm::Qemu => qemu::rules(monitor),
        Vmm::Firecracker => others::firecracker(monitor),
        Vmm::CloudHypervisor => others::cloud_hypervisor(monitor),
        Vmm::Crosvm => others::crosvm(monitor),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vmm {
    Qemu,
    Firecracker,
    CloudHypervisor,
    Crosvm,
}

/// Who it is, by the name of its program.
fn vmm(monitor: &Monitor) -> Result<Vmm, RulesError> {
    let name =
        monitor.program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.trim_end_matches(" (deleted)");
    match name {
        _ if name.starts_with("qemu-system-") || matches!(name, "qemu-kvm" | "kvm") => Ok(Vmm::Qemu),
        _ if name.starts_with("firecracker") => Ok(Vmm::Firecracker),
        _ if name.starts_with("cloud-hypervisor") => Ok(Vmm::CloudHypervisor),
        "crosvm" => Ok(Vmm::Crosvm),
        _ => Err(RulesError::Unknown { pid: monitor.pid, program: monitor.program.display().to_string() }),
    }
}

/// RAM that is one piece in the process from `host` on: `low` bytes of it at 0, the rest at `above`.
fn split(host: u64, size: u64, low: u64, above: u64) -> Vec<Piece> {
    let low = low.min(size);
    let mut pieces = vec![Piece { guest: PhysAddr::new(0), len: low, host }];
    if size > low {
        pieces.push(Piece { guest: PhysAddr::new(above), len: size - low, host: host.saturating_add(low) });
    }
    pieces
}

#[cfg(test)]
mod tests;
