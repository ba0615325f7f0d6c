//! The fast path: a stub of this host has its guest's memory in a process that can be read directly.
//!
//! What the monitor says of host addresses is not believed: places all over the memory are read both ways first, and have to be the same.

use vmc::{PhysAddr, PhysMemory, Region, Registers};
use vmc_process::{Layout, ProcessMemory};

use crate::link::Link;
use crate::memory::{PAGE, Pages};

/// Places that are compared.
const SAMPLES: u64 = 16;
/// Bytes of each.
const SAMPLE: usize = 512;

/// The memory of the guest in a process, if its bytes are those that the stub gives. The guest has to be stopped.
pub(crate) fn open(
    pid: u32,
    layout: &Layout,
    link: &mut Link,
    pages: &Pages,
    regions: &[Region],
    registers: Option<&Registers>,
) -> Result<ProcessMemory, String> {
    let memory = ProcessMemory::open(pid, layout).map_err(|error| error.to_string())?;
    let addrs = samples(regions, registers);
    let ours = pages.samples(link, &addrs, SAMPLE).map_err(|error| error.to_string())?;
    let mut theirs = [0; SAMPLE];
    let mut told = false;
    for (&addr, ours) in addrs.iter().zip(&ours) {
        memory.read(addr, &mut theirs).map_err(|error| error.to_string())?;
        if **ours != theirs {
            return Err(format!("process {pid} has other bytes at {addr} than the stub"));
        }
        told |= ours.iter().any(|byte| *byte != 0);
    }
    if told { Ok(memory) } else { Err(format!("nothing but zeros was there to compare with process {pid}")) }
}

/// Places all over the memory, and the kernel's half of the root of the page tables, which is of this guest alone.
fn samples(regions: &[Region], registers: Option<&Registers>) -> Vec<PhysAddr> {
    let root = registers.and_then(|registers| match registers {
        Registers::X86_64(registers) => Some(registers.page_table_root()),
        Registers::Aarch64(registers) => Some(registers.ttbr1? & 0x0000_ffff_ffff_f000),
        _ => None,
    });
    let total = regions.iter().fold(0u64, |sum, region| sum.saturating_add(region.len));
    let step = (total / SAMPLES).max(PAGE);
    let in_root = PAGE - SAMPLE as u64;
    let mut samples: Vec<PhysAddr> =
        root.and_then(|root| root.checked_add(in_root)).into_iter().map(PhysAddr::new).collect();
    let mut left = step / 2;
    for region in regions {
        // Each region at its start, and where the steps fall.
        samples.push(region.start);
        while left < region.len && (samples.len() as u64) < 4 * SAMPLES {
            samples.push(PhysAddr::new((region.start.get() + left) & !(PAGE - 1)));
            left += step;
        }
        left = left.saturating_sub(region.len);
    }
    samples.retain(|addr| crate::memory::covers(regions, addr.get(), SAMPLE));
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_lie_all_over_the_memory() {
        let region = |start, len| Region { start: PhysAddr::new(start), len };
        let regions = [region(0, 0xa_0000), region(0xc_0000, 64 << 20), region(1 << 32, 64 << 20)];
        let registers =
            Registers::X86_64(vmc::arch::x86_64::Registers { cr3: 0x12_3018, ..Default::default() });
        let samples = samples(&regions, Some(&registers));
        assert_eq!(samples[0], PhysAddr::new(0x12_3e00));
        for region in &regions {
            assert!(samples.contains(&region.start));
        }
        let high = samples.iter().filter(|addr| addr.get() >= 1 << 32).count();
        assert!(samples.len() > 16 && (7..=10).contains(&high), "{samples:?}");
        assert!(samples.iter().all(|addr| crate::memory::covers(&regions, addr.get(), 512)));
    }
}
