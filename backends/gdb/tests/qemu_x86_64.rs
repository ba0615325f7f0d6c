//! QEMU's stub on an x86_64 guest of which an image was taken at the same moment: memory, registers, and what the guest said of
//! itself.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs,
    reason = "tests may panic"
)]

mod common;

use std::time::{Duration, Instant};

use common::Guest;
use vmc::{LiveGuest, PhysMemory, Vcpus};
use vmc_gdb::{ConnectOptions, Gdb};

const GUEST: &str = "x86_64-6.1-pti";

fn packets_only() -> ConnectOptions {
    ConnectOptions { process: false, ..ConnectOptions::default() }
}

#[test]
fn memory_and_registers_are_the_images() {
    let Some(mut guest) = Guest::incoming(GUEST, false) else { return };
    let image = guest.image();
    let gdb = Gdb::connect(&guest.stub(), &packets_only()).unwrap();
    let facts = gdb.facts();
    assert_eq!(facts.ram_bytes, 112 << 20);
    assert!(facts.vmm.unwrap().starts_with("QEMU "), "{:?}", facts.warnings);
    assert!(facts.warnings.is_empty(), "{:?}", facts.warnings);
    assert_eq!(gdb.count(), 2);
    for index in 0..2 {
        assert_eq!(gdb.registers(index).unwrap(), image.registers(index).unwrap(), "vCPU {index}");
    }
    let start = Instant::now();
    let mut bytes = 0;
    let (mut ours, mut theirs) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for region in gdb.regions() {
        let mut at = region.start;
        while at < region.end() {
            let len = (region.end().get() - at.get()).min(1 << 20) as usize;
            // Without optimisation all of it takes a minute: then every eighth piece.
            if cfg!(debug_assertions) && (at.get() >> 20) % 8 != 1 {
                at = at.checked_add(len as u64).unwrap();
                continue;
            }
            gdb.read(at, &mut ours[..len]).unwrap();
            image.read(at, &mut theirs[..len]).unwrap();
            let same = ours[..len].chunks(4096).zip(theirs[..len].chunks(4096)).position(|(a, b)| a != b);
            assert_eq!(same, None, "page of {at}");
            bytes += len;
            at = at.checked_add(len as u64).unwrap();
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("{bytes} bytes in {seconds:.2} s: {:.1} MB/s", bytes as f64 / seconds / 1e6);
    assert_eq!(bytes, if cfg!(debug_assertions) { 14 << 20 } else { 112 << 20 });
    gdb.detach().unwrap();
    assert_eq!(guest.status(), "paused");
}

#[test]
fn guests_are_left_as_they_were_found() {
    for (running, status) in [(true, "running"), (false, "paused")] {
        let Some(mut guest) = Guest::incoming(GUEST, running) else { return };
        guest.wait_for(status, Duration::from_secs(5)).unwrap();
        let start = Instant::now();
        let cycles = 1000;
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = descriptors();
        for cycle in 0..cycles {
            let gdb = Gdb::connect(&guest.stub(), &packets_only()).unwrap();
            for index in 0..gdb.count() {
                gdb.registers(index).unwrap();
            }
            // As by an error on the way, or by intent.
            if cycle % 2 == 0 {
                drop(gdb)
            } else {
                gdb.detach().unwrap()
            }
            assert_eq!(guest.status(), status, "cycle {cycle}");
        }
        eprintln!("{status}: {:.3} ms a cycle", start.elapsed().as_secs_f64() * 1e3 / f64::from(cycles));
        // Another test of this process may have a few of its own.
        assert!(descriptors() < before + 50, "{} descriptors, {before} before", descriptors());
    }
}
