//! Monitors beside QEMU. They map each region of RAM for itself, so that lengths tell where it was cut.
//!
//! Sources: `arch/x86_64/layout.rs` and `arch/aarch64/layout.rs` of Firecracker, of Cloud Hypervisor, and crosvm's appendix on
//! its memory layout.

use vmc::PhysAddr;

use super::blocks::{Block, blocks};
use super::options::{Properties, mebibytes, values};
use super::{ABOVE, GIB, Monitor, Rules, RulesError, split};
use crate::layout::{Layout, Piece};

/// The least RAM that is looked for: stacks of threads have guards, too.
const LEAST: u64 = 16 << 20;

/// Where RAM ends below the hole for devices: since Firecracker has PCI, and before.
const FIRECRACKER_LOW: [u64; 2] = [3 * GIB, 13 * GIB / 4];

/// Firecracker's second hole, 256 to 512 GiB.
const FIRECRACKER_FAR: (u64, u64) = (256 * GIB, 512 * GIB);

/// Where RAM of aarch64 begins in all of these.
const ARM_RAM: u64 = 2 * GIB;

const ARM: bool = cfg!(target_arch = "aarch64");

fn piece(guest: u64, block: &Block<'_>) -> Piece {
    Piece { guest: PhysAddr::new(guest), len: block.len(), host: block.start }
}

fn rules(vmm: &'static str, layouts: Vec<Vec<Piece>>, how: &str) -> Result<Rules, RulesError> {
    let candidates =
        layouts.into_iter().map(|pieces| Layout::new(pieces, format!("the rule for {vmm}: {how}")));
    Ok(Rules { vmm, candidates: candidates.collect::<Result<_, _>>()? })
}

/// Each region is a mapping with guards around it.
pub(super) fn firecracker(monitor: &Monitor) -> Result<Rules, RulesError> {
    const VMM: &str = "Firecracker";
    let mut found = blocks(&monitor.maps, |map| map.writable && map.readable);
    found.retain(|block| {
        block.guarded == (true, true) && block.len() >= LEAST && block.len() % (1 << 20) == 0
    });
    let wanted = "has guards around it and is a whole number of MiB, at least 16".to_owned();
    let layouts: Vec<Vec<Piece>> = match &found[..] {
        [] => return Err(RulesError::NoRam { vmm: VMM, wanted }),
        [one] => vec![vec![piece(if ARM { ARM_RAM } else { 0 }, one)]],
        // What is below the hole is as long as there is room; where more than one has such a length, each may be it.
        _ if !ARM => FIRECRACKER_LOW.iter().filter_map(|low| below_and_rest(&found, *low)).collect(),
        _ => Vec::new(),
    };
    if layouts.is_empty() {
        return Err(RulesError::Ambiguous { vmm: VMM, wanted, count: found.len() });
    }
    rules(VMM, layouts, "its mappings of RAM, the first up to the hole for devices")
}

/// The block of `low` bytes at 0, and the others from 4 GiB on: one, or one up to the second hole and one behind it.
fn below_and_rest(found: &[Block<'_>], low: u64) -> Option<Vec<Piece>> {
    let index = found.iter().position(|block| block.len() == low)?;
    let rest: Vec<_> =
        found.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, block)| block).collect();
    let mut pieces = vec![piece(0, found.get(index)?)];
    let (hole, behind) = FIRECRACKER_FAR;
    match &rest[..] {
        [one] if one.len() <= hole - ABOVE => pieces.push(piece(ABOVE, one)),
        [one, two] => {
            let (full, far) = if one.len() == hole - ABOVE { (one, two) } else { (two, one) };
            if full.len() != hole - ABOVE {
                return None;
            }
            pieces.extend([piece(ABOVE, full), piece(behind, far)]);
        }
        _ => return None,
    }
    Some(pieces)
}

/// The size is on the command line; whether the first MiB is a region of its own depends on the version.
pub(super) fn cloud_hypervisor(monitor: &Monitor) -> Result<Rules, RulesError> {
    const VMM: &str = "Cloud Hypervisor";
    const LOW: u64 = 640 << 10;
    const MIB: u64 = 1 << 20;
    let options: Vec<_> = values(&monitor.command, &["memory"]).into_iter().map(Properties::parse).collect();
    let size = options.iter().rev().find_map(|memory| mebibytes(memory.get("size")?)).ok_or_else(|| {
        RulesError::Options {
            vmm: VMM,
            reason: "`--memory size=` is not there (made by its API, or of zones)".into(),
        }
    })?;
    let found = blocks(&monitor.maps, |map| map.writable && map.readable);
    if ARM {
        let ram = exact(VMM, &found, size)?;
        return rules(VMM, vec![vec![piece(ARM_RAM, ram)]], "RAM at 2 GiB");
    }
    let regions = |parts: &[(u64, u64)]| {
        let mut left = size;
        let mut pieces = Vec::new();
        for (start, most) in parts {
            let len = left.min(*most);
            if len > 0 {
                pieces.push(piece(*start, exact(VMM, &found, len)?));
            }
            left -= len;
        }
        Ok::<_, RulesError>(pieces)
    };
    let apart = regions(&[(0, LOW), (MIB, 3 * GIB - MIB), (ABOVE, u64::MAX)]);
    let whole = regions(&[(0, 3 * GIB), (ABOVE, u64::MAX)]);
    let layouts = match (apart, whole) {
        (Ok(apart), Ok(whole)) => vec![apart, whole],
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => vec![one],
        (Err(error), Err(_)) => return Err(error),
    };
    rules(VMM, layouts, "RAM up to 3 GiB, the rest from 4 GiB on")
}

/// The one block of that length.
fn exact<'b, 'm>(vmm: &'static str, found: &'b [Block<'m>], len: u64) -> Result<&'b Block<'m>, RulesError> {
    let wanted = || format!("is a block of {len:#x} bytes");
    let mut fit = found.iter().filter(|block| block.len() == len);
    match (fit.next(), fit.count()) {
        (Some(one), 0) => Ok(one),
        (None, _) => Err(RulesError::NoRam { vmm, wanted: wanted() }),
        (Some(_), more) => Err(RulesError::Ambiguous { vmm, wanted: wanted(), count: more + 1 }),
    }
}

/// RAM is a memfd of that name; what lies at its start is what lies at the start of RAM.
pub(super) fn crosvm(monitor: &Monitor) -> Result<Rules, RulesError> {
    const VMM: &str = "crosvm";
    let mut found = blocks(&monitor.maps, |map| map.writable && map.path.starts_with("/memfd:crosvm_guest"));
    found.sort_by_key(|block| block.offset);
    let wanted = || "is the memfd crosvm_guest".to_owned();
    let how = "the mappings of its memfd";
    match &found[..] {
        [] => Err(RulesError::NoRam { vmm: VMM, wanted: wanted() }),
        [one] if ARM => rules(VMM, vec![vec![piece(ARM_RAM, one)]], how),
        // In one mapping there may be both parts; how long the first is depends on the version.
        [one] if one.len() > 2 * GIB => {
            let cut = |low| split(one.start, one.len(), low, ABOVE);
            rules(VMM, vec![cut(2 * GIB), cut(13 * GIB / 4)], how)
        }
        [one] => rules(VMM, vec![vec![piece(0, one)]], how),
        [low, high] if !ARM && low.len() < ABOVE => {
            rules(VMM, vec![vec![piece(0, low), piece(ABOVE, high)]], how)
        }
        several => Err(RulesError::Ambiguous { vmm: VMM, wanted: wanted(), count: several.len() }),
    }
}
