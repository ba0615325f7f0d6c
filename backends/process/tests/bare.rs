//! The host kernel's memory slots and reads by them, held against what a KVM process says of itself.
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

use common::barekvm;
use vmc::{PhysAddr, PhysError, PhysMemory as _};
use vmc_process::{Layout, ProcessMemory, SlotKind, SlotsError, kernel_memslots, memslots};

const HIGH: u64 = 4 << 30;

fn at(address: u64) -> PhysAddr {
    PhysAddr::new(address)
}

/// What stays as it is while the guest runs, of bytes from 0x1fff on: up to the counters, and of the page tables (0x2000 to 0x5000) all but the
/// accessed and dirty bits, which the processor sets when it likes.
fn quiet(range: &[u8]) -> Vec<u8> {
    let page_tables = range.iter().take(0x3001).enumerate();
    page_tables.map(|(at, byte)| if at % 8 == 1 { byte & !0x60 } else { *byte }).collect()
}

/// Reads all there is in ways of all lengths, and compares.
fn check(memory: &ProcessMemory) {
    let mut word = [0; 22];
    memory.read(at(0x200), &mut word).unwrap();
    assert_eq!(&word, b"low memory begins at 0");
    let mut word = [0; 27];
    memory.read(at(HIGH + 0x100), &mut word).unwrap();
    assert_eq!(&word, b"high memory begins at 4 GiB");
    // The page tables that the program made: 4 GiB are mapped by the fifth entry.
    assert_eq!(memory.read_u64(at(0x2000 + 4 * 8)), Ok(0x4003));
    let mut whole = vec![0; 8 << 20];
    memory.read(at(0), &mut whole).unwrap();
    assert_eq!(&whole[0x200..0x216], b"low memory begins at 0");
    for len in [1, 4095, 4096, 4097, 16 << 10, 64 << 10, (64 << 10) + 1] {
        let mut part = vec![0; len];
        memory.read(at(0x1fff), &mut part).unwrap();
        assert_eq!(quiet(&part), quiet(&whole[0x1fff..][..len]), "{len}");
    }
    // Up to the last byte, and not one further.
    assert!(memory.read(at((8 << 20) - 16), &mut [0; 16]).is_ok());
    for (address, len) in [((8 << 20) - 16, 17), (8 << 20, 1), (HIGH - 1, 1), (HIGH - 8, 16), (u64::MAX, 2)] {
        let addr = at(address);
        assert_eq!(
            memory.read(addr, &mut vec![0; len]),
            Err(PhysError::NoMemory { addr, len }),
            "{address:#x}"
        );
    }
    assert_eq!(memory.total(), 16 << 20);
    assert_eq!(memory.regions().len(), 2);
}

#[test]
fn the_kernel_has_the_slots_that_the_program_made() {
    for (options, how) in [(&["sleep"][..], "process_vm_readv"), (&["sleep", "--memfd"], "mapped")] {
        let Some((running, about)) = barekvm(options) else { return };
        let said = Layout::parse(about["layout"].as_str().unwrap()).unwrap();
        let layout = match kernel_memslots(running.pid()) {
            Err(SlotsError::NotPermitted) => return common::skip("BPF is for CAP_BPF and CAP_PERFMON"),
            Err(why @ SlotsError::NoTypes { .. }) => return common::skip(&why.to_string()),
            other => other.unwrap(),
        };
        assert_eq!((&layout.pieces, layout.ram_bytes), (&said.pieces, 16 << 20));
        assert_eq!(said.pieces[1].guest, at(HIGH));
        let slots = memslots(running.pid()).unwrap();
        let kinds: Vec<_> = slots.iter().map(|slot| (slot.id, slot.kind, slot.flags)).collect();
        assert_eq!(kinds, [(0, SlotKind::Ram, 0), (1, SlotKind::Ram, 0)]);
        let memory = ProcessMemory::open(running.pid(), &layout).unwrap();
        assert_eq!(memory.how(), how);
        check(&memory);
    }
}

#[test]
fn what_was_read_stays_until_it_is_forgotten() {
    for options in [&["loop"][..], &["loop", "--memfd"]] {
        let Some((running, about)) = barekvm(options) else { return };
        let layout = Layout::parse(about["layout"].as_str().unwrap()).unwrap();
        let memory = ProcessMemory::open(running.pid(), &layout).unwrap();
        check(&memory);
        let counter = || memory.read_u64(at(0x5000)).unwrap();
        let first = counter();
        let wait = || std::thread::sleep(std::time::Duration::from_millis(20));
        // Also a long read sees the page as it was.
        let long = || {
            let mut bytes = vec![0; 128 << 10];
            memory.read(at(0), &mut bytes).unwrap();
            u64::from_le_bytes(bytes[0x5000..0x5008].try_into().unwrap())
        };
        wait();
        assert_eq!((counter(), long()), (first, first));
        let newer = (0..500).any(|_| {
            wait();
            memory.forget();
            long() > first && counter() > first
        });
        assert!(newer, "the guest does not count");
    }
}

#[test]
fn a_process_that_ends_is_told() {
    for options in [&["sleep"][..], &["sleep", "--memfd"]] {
        let Some((running, about)) = barekvm(options) else { return };
        let pid = running.pid();
        let layout = Layout::parse(about["layout"].as_str().unwrap()).unwrap();
        let memory = ProcessMemory::open(pid, &layout).unwrap();
        assert!(!memory.is_gone());
        running.end();
        assert!(memory.is_gone());
        if memory.how() != "mapped" {
            for len in [8, 64 << 10] {
                let error = memory.read(at(0), &mut vec![0; len]).unwrap_err();
                assert_eq!(error, PhysError::Failed { addr: at(0), reason: "the process has ended" });
            }
        }
        let error = ProcessMemory::open(pid, &layout).unwrap_err();
        assert_eq!(error.to_string(), format!("there is no process {pid}"));
    }
}

#[test]
fn wrong_layouts_and_processes_are_named() {
    let pid = std::process::id();
    let layout = Layout::parse("0x1000+0x2000@0x10").unwrap();
    let error = ProcessMemory::open(pid, &layout).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("process {pid} has nothing mapped at 0x10, where the layout puts guest 0x1000")
    );
    assert!(matches!(kernel_memslots(pid), Err(SlotsError::NoVm { .. })));
    assert!(
        ProcessMemory::open(u32::MAX, &layout).unwrap_err().to_string().starts_with("there is no process")
    );
}

/// Threads that read, and one that forgets, all the time: each reads what is there.
#[test]
fn threads_read_at_the_same_time() {
    let bytes: Vec<u8> = (0..32 << 20).map(|at: usize| (at / 4096) as u8).collect();
    let layout = Layout::parse(&format!("0x0+{}@{:#x}", bytes.len(), bytes.as_ptr().addr())).unwrap();
    let memory = ProcessMemory::open(std::process::id(), &layout).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let memory = &memory;
            scope.spawn(move || {
                for round in 0..20_000u64 {
                    let address = (round * 7919 + thread * 104_729) * 8 % (32 << 20);
                    let expected = u64::from_le_bytes([(address / 4096) as u8; 8]);
                    assert_eq!(memory.read_u64(at(address)), Ok(expected));
                    if round % 5000 == 0 {
                        memory.forget();
                    }
                }
            });
        }
    });
}
