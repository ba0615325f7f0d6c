//! The client against a stub that others wrote (the `gdbstub` crate), which serves the sample guest's image and an aarch64
//! machine: registers by name wherever they stand, memory, and what the guest said of itself.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::server::{Left, Machine, on_tcp, on_unix};
use serde_json::Value;
use vmc::arch::aarch64;
use vmc::{LiveGuest, PhysAddr, PhysMemory, Registers, Vcpus};
use vmc_dump::Image;
use vmc_gdb::{ConnectOptions, Gdb};
use vmc_linux::Linux;

fn sample() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/sample")
}

fn image() -> Image {
    common::image(&sample().join("mem.elf.zst"))
}

fn machine(acks: bool) -> Machine<Image> {
    common::sample::machine(image(), acks)
}

fn physical() -> ConnectOptions {
    ConnectOptions { physical: true, ..ConnectOptions::default() }
}

#[test]
fn the_sample_guest_is_as_it_said_through_a_stub() {
    for acks in [false, true] {
        let image = image();
        let (address, left) = if acks { on_unix(machine(acks)) } else { on_tcp(machine(acks)) };
        let gdb = Gdb::connect(&address, &physical()).unwrap();
        assert_eq!(gdb.regions(), image.regions());
        assert_eq!(gdb.count(), image.count());
        for index in 0..gdb.count() {
            assert_eq!(gdb.registers(index).unwrap(), image.registers(index).unwrap());
        }
        let facts = gdb.facts();
        assert_eq!((facts.vmm, facts.pid, facts.memory.as_str()), (None, None, "gdb packets"));
        assert!(facts.layout.contains("memory map"), "{}", facts.layout);
        let truth: Value =
            serde_json::from_slice(&std::fs::read(sample().join("truth.json")).unwrap()).unwrap();
        if acks {
            // Each packet waits for the last one's acknowledgement: some of the memory is enough.
            let (mut ours, mut theirs) = (vec![0; 200_000], vec![0; 200_000]);
            gdb.read(PhysAddr::new(0x10_0123), &mut ours).unwrap();
            image.read(PhysAddr::new(0x10_0123), &mut theirs).unwrap();
            assert!(ours == theirs);
            gdb.detach().unwrap();
            assert_eq!(left.recv().unwrap(), Left::Detached);
            continue;
        }
        let linux = Linux::open(&gdb, &gdb).unwrap();
        assert_eq!(linux.facts().release, truth["uname"]["release"]);
        let found: BTreeMap<u64, String> = linux
            .processes()
            .unwrap()
            .map(|task| task.unwrap().process_row())
            .map(|row| (u64::from(row.pid), row.name))
            .collect();
        let told: BTreeMap<u64, String> = truth["processes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|told| (told["pid"].as_u64().unwrap(), told["comm"].as_str().unwrap().to_owned()))
            .collect();
        assert!(told.iter().all(|(pid, name)| found.get(pid) == Some(name) || name.len() > 15), "{found:?}");
        drop(linux);
        gdb.detach().unwrap();
        assert_eq!(left.recv().unwrap(), Left::Detached, "acks: {acks}");
    }
}

#[test]
fn a_guest_is_stopped_and_let_go_again() {
    let (address, left) = on_tcp(machine(false));
    let gdb = Gdb::connect(&address, &physical()).unwrap();
    let registers = gdb.registers(0).unwrap();
    for round in 0..20 {
        gdb.resume().unwrap();
        assert!(gdb.running());
        gdb.resume().unwrap();
        gdb.stop().unwrap();
        gdb.stop().unwrap();
        assert!(!gdb.running());
        assert_eq!(gdb.registers(0).unwrap(), registers, "round {round}");
        let mut bytes = [0; 100];
        gdb.read(PhysAddr::new(0x10_0000 + round), &mut bytes).unwrap();
    }
    drop(gdb);
    assert_eq!(left.recv().unwrap(), Left::Detached);
}

#[test]
fn aarch64_is_known_by_the_crates_own_description() {
    let xml = <gdbstub_arch::aarch64::AArch64 as gdbstub::arch::Arch>::target_description_xml().unwrap();
    // Op0, Op1, CRn, CRm, Op2 of the Architecture Reference Manual, packed as MRS has them.
    let system =
        |op1: usize, crn: usize, crm: usize, op2: usize| 3 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2;
    let more = vec![
        (system(0, 2, 0, 0), 0x4100_0000),
        (system(0, 2, 0, 1), 0x4200_0000),
        (system(0, 2, 0, 2), 0x5_f5d0_3510),
        (system(0, 4, 1, 0), 0xffff_0000_1234_5678),
        (system(4, 4, 1, 0), 0xffff_8000_0000_1000),
        (system(3, 13, 0, 2), 0x7777),
        (system(0, 13, 0, 4), 0xffff_8888),
        (system(0, 12, 0, 0), 0xffff_8000_0801_0800),
        (system(0, 10, 2, 0), 0x4404_0400_bb44_ffff),
    ];
    let mut g = Vec::new();
    (0..33u64).for_each(|n| g.extend((n + 1).to_le_bytes()));
    g.extend(0x6000_03c5u32.to_le_bytes());
    let memory = image();
    let map = r#"<memory-map><memory type="ram" start="0x40000000" length="0x1000"/></memory-map>"#.into();
    let documents = vec![("target.xml".into(), xml.into())];
    let (address, _) = on_unix(Machine { memory, vcpus: vec![(g, more)], documents, map, acks: false });
    let gdb = Gdb::connect(&address, &physical()).unwrap();
    let Registers::Aarch64(registers) = gdb.registers(0).unwrap() else { panic!("not aarch64") };
    let mut x = [0; 31];
    x.iter_mut().zip(1..).for_each(|(slot, n)| *slot = n);
    let expected = aarch64::Registers {
        x,
        sp: 32,
        pc: 33,
        pstate: 0x6000_03c5,
        ttbr0: Some(0x4100_0000),
        ttbr1: Some(0x4200_0000),
        tcr: Some(0x5_f5d0_3510),
        sp_el0: Some(0xffff_0000_1234_5678),
        // At EL1h it is the stack pointer itself, whatever the stub has of it.
        sp_el1: Some(32),
        tpidr_el0: Some(0x7777),
        tpidr_el1: Some(0xffff_8888),
        vbar: Some(0xffff_8000_0801_0800),
        mair: Some(0x4404_0400_bb44_ffff),
    };
    assert_eq!(registers, expected);
}
