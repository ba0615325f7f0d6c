//! Rules on texts as processes have them, written down from what QEMU and the others say of themselves.

use super::*;
use crate::maps;

fn monitor(program: &str, command: &str, smaps: &str) -> Monitor {
    let command = command.split_whitespace().map(str::to_owned).collect();
    Monitor { pid: 1, program: PathBuf::from(program), command, maps: maps::parse(1, smaps).unwrap() }
}

fn decided(monitor: &Monitor) -> Result<Rules, RulesError> {
    decide(vmm(monitor)?, monitor)
}

fn texts(rules: &Rules) -> Vec<String> {
    rules.candidates.iter().map(ToString::to_string).collect()
}

/// A block of QEMU's with its guard.
fn block(start: u64, len: u64) -> String {
    let end = start + len;
    format!(
        "{start:x}-{end:x} rw-p 00000000 00:00 0\nVmFlags: rd wr mr mw me ac dc hg mg sd\n{end:x}-{:x} ---p 00000000 00:00 0\nVmFlags: mr mw me sd\n",
        end + 4096
    )
}

const HOST: u64 = 0x7f00_0000_0000;

/// A QEMU with RAM of `size` bytes between its firmware and a large file that it has mapped for itself.
fn qemu(size: u64, machine: &str) -> Monitor {
    let kernel =
        "7e0000000000-7e0180000000 rw-p 00000000 08:01 77 /boot/vmlinux\nVmFlags: rd wr mr mw me ac sd\n";
    let smaps = format!("{kernel}{}{}", block(HOST, size), block(HOST + (1 << 44), 0x40000));
    monitor("/usr/bin/qemu-system-x86_64", &format!("qemu -m {}M -machine {machine}", size >> 20), &smaps)
}

fn low(size_mib: u64, machine: &str) -> u64 {
    let rules = decided(&qemu(size_mib << 20, machine)).unwrap();
    let [layout] = &rules.candidates[..] else { panic!("{rules:?}") };
    assert_eq!(layout.total(), size_mib << 20);
    if let [low, high] = &layout.pieces[..] {
        assert_eq!((high.guest.get(), high.host), (4 << 30, HOST + low.len));
    }
    layout.pieces[0].len
}

/// The table of the facts that were measured on QEMU 7.2, on both sides of each border.
#[test]
fn qemu_splits_ram_as_it_says() {
    const G: u64 = 1 << 30;
    assert_eq!(low(256, "pc"), 256 << 20);
    assert_eq!((low(3583, "pc"), low(3584, "pc"), low(6144, "pc,accel=tcg")), (3583 << 20, 3 * G, 3 * G));
    assert_eq!(low(6144, "pc-i440fx-1.7"), 0xe000_0000);
    assert_eq!((low(2815, "q35"), low(2816, "q35"), low(8192, "type=q35")), (2815 << 20, 2 * G, 2 * G));
    assert_eq!((low(8192, "pc-q35-7.2"), low(6144, "pc-i440fx-rhel7.6.0")), (2 * G, 3 * G));
    assert_eq!((low(6144, "pc,max-ram-below-4g=2G"), low(8192, "q35,max-ram-below-4g=1G")), (2 * G, G));
    assert_eq!(low(256, "pc,max-ram-below-4g=128M"), 128 << 20);
}

#[test]
fn microvm_has_firmware_over_its_ram() {
    let rules = decided(&qemu(3583 << 20, "microvm,acpi=off")).unwrap();
    assert_eq!(
        texts(&rules),
        [
            "0x0+0xf0000@0x7f0000000000,0x100000+0xbff00000@0x7f0000100000,0x100000000+0x1ff00000@0x7f00c0000000"
        ]
    );
}

#[test]
fn virt_has_its_ram_at_one_gib() {
    let smaps = block(HOST, 8 << 30);
    let arm =
        monitor("/usr/bin/qemu-system-aarch64", "qemu -M virt,gic-version=3 -m size=8G,slots=2", &smaps);
    assert_eq!(texts(&decided(&arm).unwrap()), ["0x40000000+0x200000000@0x7f0000000000"]);
    let other = monitor("/usr/bin/qemu-system-aarch64", "qemu -M raspi3b -m 1G", &smaps);
    assert!(matches!(decided(&other), Err(RulesError::Machine { .. })));
}

#[test]
fn very_much_ram_may_have_made_room_for_hypertransport() {
    let rules = decided(&qemu(1 << 40, "q35")).unwrap();
    let second: Vec<_> = rules.candidates.iter().map(|layout| layout.pieces[1].guest.get()).collect();
    assert_eq!(second, [4 << 30, 1 << 40]);
}

#[test]
fn backends_are_ram_in_the_order_of_the_nodes() {
    let file = "7d0000000000-7d0080000000 rw-s 00000000 00:01 9 /dev/hugepages/b/qemu_back_mem (deleted)\nVmFlags: rd wr sh mr mw me ms dc ht\n";
    let smaps = format!("{file}{}", block(HOST, 4 << 30));
    let command = "qemu -m 6G -object memory-backend-ram,id=a,size=4G -object memory-backend-file,size=2G,mem-path=/dev/hugepages/b,id=b,share=on -numa node,memdev=b -numa node,memdev=a";
    let rules = decided(&monitor("/usr/bin/qemu-system-x86_64", command, &smaps)).unwrap();
    assert_eq!(
        texts(&rules),
        [
            "0x0+0x80000000@0x7d0000000000,0x80000000+0x40000000@0x7f0000000000,0x100000000+0xc0000000@0x7f0040000000"
        ]
    );
    // Two that nothing tells apart: both orders.
    let smaps = format!("{}{}", block(HOST, 1 << 30), block(HOST + (8 << 30), 1 << 30));
    let command = "qemu -m 2G -object memory-backend-ram,id=a,size=1G -object memory-backend-ram,size=1G,id=b -numa node,memdev=b -numa node,memdev=a";
    let rules = decided(&monitor("/usr/bin/qemu-system-x86_64", command, &smaps)).unwrap();
    assert_eq!(rules.candidates.len(), 2);
    assert_ne!(rules.candidates[0], rules.candidates[1]);
}

#[test]
fn without_ram_of_that_size_there_is_no_layout() {
    let mut other = qemu(1 << 30, "pc");
    other.command[2] = "2G".into();
    let error = decided(&other).unwrap_err();
    assert_eq!(
        error.to_string(),
        "QEMU's RAM was not found: none of its mappings is a block of 0x80000000 bytes"
    );
    other.command[2] = "many".into();
    assert!(matches!(decided(&other), Err(RulesError::Options { .. })));
}

#[test]
fn who_is_no_monitor_is_named() {
    let error = decided(&monitor("/usr/bin/bash", "bash", "")).unwrap_err();
    assert!(
        error.to_string().starts_with("process 1 (/usr/bin/bash) is no virtual machine monitor"),
        "{error}"
    );
}

/// Mappings with guards on both sides.
fn guarded(regions: &[(u64, u64)]) -> String {
    let row = |(start, len): &(u64, u64)| {
        let end = start + len;
        let guard = |at: u64| format!("{at:x}-{:x} ---p 00000000 00:00 0\n", at + 4096);
        format!("{}{start:x}-{end:x} rw-p 00000000 00:00 0\n{}", guard(start - 4096), guard(end))
    };
    regions.iter().map(row).collect()
}

#[cfg(target_arch = "x86_64")]
#[test]
fn firecracker_maps_each_region() {
    let rules =
        |regions: &[(u64, u64)]| decided(&monitor("/srv/firecracker", "firecracker", &guarded(regions)));
    let one = rules(&[(HOST, 512 << 20), (HOST + (1 << 40), 2 << 20)]).unwrap();
    assert_eq!(texts(&one), ["0x0+0x20000000@0x7f0000000000"]);
    let old = rules(&[(HOST, 3 << 30), (HOST + (1 << 40), 0xd000_0000)]).unwrap();
    // A rest that is as long as the other version's low part: both are possible.
    assert_eq!(
        texts(&old),
        [
            "0x0+0xc0000000@0x7f0000000000,0x100000000+0xd0000000@0x800000000000",
            "0x0+0xd0000000@0x800000000000,0x100000000+0xc0000000@0x7f0000000000"
        ]
    );
    assert_eq!(rules(&[(HOST, 1 << 30), (HOST + (1 << 40), 0xd000_0000)]).unwrap().candidates.len(), 1);
    assert!(matches!(
        rules(&[(HOST, 1 << 30), (HOST + (1 << 40), 1 << 30)]),
        Err(RulesError::Ambiguous { .. })
    ));
    let far = rules(&[(HOST, 252 << 30), (HOST + (1 << 40), 3 << 30), (HOST + (2 << 40), 4 << 30)]).unwrap();
    assert_eq!(far.candidates[0].pieces[2].guest.get(), 512 << 30);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn cloud_hypervisor_and_crosvm() {
    let map = |start: u64, len: u64, offset: u64, path: &str| {
        format!("{start:x}-{:x} rw-s {offset:x} 00:01 5 {path}\n", start + len)
    };
    let smaps = map(HOST, 0xa_0000, 0, "/memfd:ch_ram")
        + &map(HOST + (8 << 30), 0xbff0_0000, 0xa_0000, "/memfd:ch_ram")
        + &map(HOST + (16 << 30), (4 << 30) - 0xbff0_0000 - 0xa_0000, 0xbffa_0000, "/memfd:ch_ram");
    let ch = monitor("/usr/bin/cloud-hypervisor", "ch --memory size=4G,shared=on", &smaps);
    let layout = &decided(&ch).unwrap().candidates[0];
    let guests: Vec<_> = layout.pieces.iter().map(|piece| piece.guest.get()).collect();
    assert_eq!((guests, layout.total()), (vec![0, 1 << 20, 4 << 30], 4 << 30));

    let smaps = map(HOST, 1 << 30, 0xd000_0000, "/memfd:crosvm_guest (deleted)")
        + &map(HOST + (8 << 30), 0xd000_0000, 0, "/memfd:crosvm_guest (deleted)");
    let crosvm = decided(&monitor("/usr/bin/crosvm", "crosvm run", &smaps)).unwrap();
    assert_eq!(texts(&crosvm), ["0x0+0xd0000000@0x7f0200000000,0x100000000+0x40000000@0x7f0000000000"]);
}
