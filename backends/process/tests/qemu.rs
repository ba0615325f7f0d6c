//! The rules for QEMU, and the host kernel's slots, held against what QEMU says of itself. No guest runs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "tests may panic and tell what they saw"
)]

mod common;

use common::{Running, qemu};
use vmc_process::{Layout, SlotsError, kernel_memslots, vmm_rules};

const MIB: u64 = 1 << 20;

/// Is the layout where QEMU says that its memory is? `from`: below it, what the guest sees is still firmware.
fn hold(running: &mut Running, layout: &Layout, names: &[&str], from: u64) {
    for piece in &layout.pieces {
        let last = piece.guest.get() + piece.len - 1;
        for guest in [piece.guest.get(), last].into_iter().filter(|guest| *guest >= from) {
            assert_eq!(
                running.gpa2hva(guest),
                piece.host + (guest - piece.guest.get()),
                "{guest:#x} of {layout}"
            );
        }
    }
    let above = |ranges: Vec<(u64, u64)>| -> Vec<(u64, u64)> {
        let cut = ranges.into_iter().filter(|range| range.1 > from);
        cut.map(|range| (range.0.max(from), range.1)).collect()
    };
    let said = above(running.ranges(names));
    let ours = above(layout.regions().iter().map(|r| (r.start.get(), r.end().get())).collect());
    assert_eq!(ours, said, "{}", layout.how);
}

fn rule(program: &str, arguments: &str, from: u64) -> Option<Vec<u64>> {
    let mut running = qemu(program, arguments)?;
    let rules = vmm_rules(running.pid()).unwrap_or_else(|why| panic!("{arguments}: {why}"));
    assert_eq!((rules.vmm, rules.candidates.len()), ("QEMU", 1), "{arguments}");
    let layout = &rules.candidates[0];
    hold(&mut running, layout, &["pc.ram", "microvm.ram", "mach-virt.ram", "ram", "m", "n"], from);
    Some(layout.pieces.iter().map(|piece| piece.len / MIB).collect())
}

/// On both sides of each border; the oracle is QEMU, the lengths are in the test to show that the borders were crossed.
#[test]
fn pc_and_q35() {
    for (machine, memory, lengths) in [
        ("pc", "256M", &[256][..]),
        ("pc", "3583M", &[3583]),
        ("pc", "3584M", &[3072, 512]),
        ("pc", "6G", &[3072, 3072]),
        ("pc,max-ram-below-4g=2G", "6G", &[2048, 4096]),
        ("pc,max-ram-below-4g=128M", "size=256M", &[128, 128]),
        ("q35", "2815M", &[2815]),
        ("q35", "2816M", &[2048, 768]),
        ("q35", "8G,maxmem=16G,slots=2", &[2048, 6144]),
        ("q35,max-ram-below-4g=1G", "6G", &[1024, 5120]),
    ] {
        let arguments = format!("-accel tcg -machine {machine} -m {memory}");
        let Some(found) = rule("qemu-system-x86_64", &arguments, MIB) else { return };
        assert_eq!(found, lengths, "{arguments}");
    }
}

#[test]
fn an_old_pc() {
    // Newer QEMU have no such machine any more, and nothing to compare with.
    let help = std::process::Command::new("qemu-system-x86_64").args(["-machine", "help"]).output();
    if help.is_ok_and(|help| !String::from_utf8_lossy(&help.stdout).contains("pc-i440fx-1.7")) {
        return;
    }
    let Some(found) = rule("qemu-system-x86_64", "-accel tcg -machine pc-i440fx-1.7 -m 6G", MIB) else {
        return;
    };
    assert_eq!(found, [3584, 2560]);
}

#[test]
fn microvm_also_in_its_first_mib() {
    for (memory, lengths) in [("3072M", &[0, 3071][..]), ("3583M", &[0, 3071, 511])] {
        let arguments = format!("-accel tcg -machine microvm -m {memory}");
        let Some(found) = rule("qemu-system-x86_64", &arguments, 0) else { return };
        assert_eq!(found, lengths, "{arguments}");
    }
}

#[test]
fn backends_and_nodes() {
    let shared = "-machine q35,memory-backend=m -m 4G -object memory-backend-memfd,id=m,size=4G,share=on";
    let nodes = "-machine pc -smp 2 -m 5G -object memory-backend-ram,id=n,size=4G -object memory-backend-ram,id=m,size=1G \
        -numa node,cpus=0,memdev=n -numa node,cpus=1,memdev=m";
    for (arguments, lengths) in [(shared, &[2048, 2048][..]), (nodes, &[3072, 1024, 1024])] {
        let Some(found) = rule("qemu-system-x86_64", &format!("-accel tcg {arguments}"), MIB) else { return };
        assert_eq!(found, lengths, "{arguments}");
    }
}

#[test]
fn virt_of_aarch64() {
    for memory in ["256M", "4G"] {
        let arguments = format!("-accel tcg -machine virt -cpu cortex-a57 -m {memory}");
        let Some(found) = rule("qemu-system-aarch64", &arguments, 0) else { return };
        assert_eq!(found.len(), 1);
    }
}

/// Under KVM the kernel has slots: firmware among them, and a graphics card's memory, which are no RAM.
#[test]
fn the_kernels_slots_of_qemu() {
    for (arguments, ram) in [
        ("-machine q35 -m 6G -vga std", 6144),
        ("-machine pc -m 4G", 4096),
        ("-machine microvm -m 3583M", 3583),
    ] {
        if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
            return common::skip("/dev/kvm cannot be opened");
        }
        let Some(mut running) = qemu("qemu-system-x86_64", &format!("-accel kvm {arguments}")) else {
            return;
        };
        let layout = match kernel_memslots(running.pid()) {
            Err(SlotsError::NotPermitted) => return common::skip("BPF is for CAP_BPF and CAP_PERFMON"),
            Err(why @ SlotsError::NoTypes { .. }) => return common::skip(&why.to_string()),
            other => other.unwrap(),
        };
        for piece in &layout.pieces {
            assert_eq!(running.gpa2hva(piece.guest.get()), piece.host, "{arguments}: {layout}");
        }
        // What the firmware has not unlocked yet, of the first MiB, is no RAM now.
        let missing = ram - layout.ram_bytes.div_ceil(MIB);
        assert!(missing <= 1, "{arguments}: {} of {ram} MiB: {layout}", layout.ram_bytes / MIB);
        let rules = vmm_rules(running.pid()).unwrap();
        hold(&mut running, &rules.candidates[0], &["pc.ram", "microvm.ram"], MIB);
    }
}
