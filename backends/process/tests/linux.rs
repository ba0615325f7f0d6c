//! A Linux with more RAM than fits below 4 GiB: the right cut is confirmed by its page tables, each other one refused.
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

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Running, qemu, skip};
use vmc::arch::{Registers, x86_64};
use vmc::{PhysAddr, PhysMemory as _};
use vmc_process::{ChooseError, Layout, Piece, ProcessMemory, choose, verify, vmm_rules};

const GIB: u64 = 1 << 30;
const RAM: u64 = 6 * GIB;

/// The kernel of a guest in `shared/` beside the repository (`VMC_SHARED` names another place).
fn kernel() -> Option<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = std::env::var_os("VMC_SHARED").map_or_else(|| top.join("../shared"), PathBuf::from);
    let kernel = shared.join("guests/x86_64-6.1-pti/kernel/vmlinuz");
    if kernel.is_file() {
        return Some(kernel);
    }
    skip(&format!("there is no {}", kernel.display()));
    None
}

/// Boots until the kernel has no init to go on with, and stops there.
fn booted(machine: &str, kernel: &Path) -> Option<Running> {
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{machine}-{}.log", std::process::id()));
    let arguments = format!(
        "-accel tcg -machine {machine} -cpu qemu64 -m 6G -serial file:{} -kernel {} -append console=ttyS0",
        log.display(),
        kernel.display()
    );
    let mut running = qemu("qemu-system-x86_64", &arguments)?;
    running.hmp("cont");
    let end = Instant::now() + Duration::from_secs(180);
    let panicked = |text: &str| text.contains("end Kernel panic");
    while !panicked(&String::from_utf8_lossy(&std::fs::read(&log).unwrap())) {
        assert!(Instant::now() < end, "{machine}: the kernel does not get to its end");
        std::thread::sleep(Duration::from_millis(200));
    }
    running.hmp("stop");
    let said = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    // The kernel's own word on where its RAM is: from 4 GiB on as much as the rule puts there.
    let high = if machine == "pc" { 3 * GIB } else { 4 * GIB };
    let usable = format!("[mem 0x0000000100000000-{:#018x}] usable", 4 * GIB + high - 1);
    assert!(said.contains(&usable), "{machine}: no {usable}");
    Some(running)
}

fn registers(running: &mut Running) -> Registers {
    let said = running.hmp("info registers");
    let value = |name: &str| {
        let found = said.split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        u64::from_str_radix(found.unwrap_or_else(|| panic!("no {name}")), 16).unwrap()
    };
    let (rip, cr0, cr3, cr4) = (value("RIP"), value("CR0"), value("CR3"), value("CR4"));
    Registers::X86_64(x86_64::Registers { rip, cr0, cr3, cr4, ..Default::default() })
}

/// All of RAM, cut at `low`.
fn cut(host: u64, low: u64) -> Layout {
    let piece = |guest, len, host| Piece { guest: PhysAddr::new(guest), len, host };
    Layout::new(vec![piece(0, low, host), piece(4 * GIB, RAM - low, host + low)], format!("{low:#x}"))
        .unwrap()
}

fn try_machine(machine: &str, right: u64) {
    let Some(kernel) = kernel() else { return };
    let Some(mut running) = booted(machine, &kernel) else { return };
    let registers = [registers(&mut running)];
    let rules = vmm_rules(running.pid()).unwrap();
    let [layout] = &rules.candidates[..] else { panic!("{rules:?}") };
    assert_eq!((layout.pieces[0].len, layout.ram_bytes), (right, RAM));
    let memory = ProcessMemory::open(running.pid(), layout).unwrap();
    let verified = verify(layout, &memory, &registers).unwrap();
    println!("{machine}: {verified:?}");
    assert!(verified.whole && verified.confirmed.len() >= 3, "{verified:?}");

    let host = layout.pieces[0].host;
    let lows = [GIB, 2 * GIB, 11 * GIB / 4, 3 * GIB, 13 * GIB / 4, 7 * GIB / 2];
    assert!(lows.contains(&right));
    for low in lows.into_iter().filter(|low| *low != right) {
        let wrong = cut(host, low);
        let memory = ProcessMemory::open(running.pid(), &wrong).unwrap();
        let why = verify(&wrong, &memory, &registers).expect_err("a wrong cut is taken");
        println!("{machine} cut at {low:#x}: {why}");
    }
    let candidates = lows.map(|low| cut(host, low)).to_vec();
    let (chosen, memory, _) = choose(running.pid(), candidates, &registers).unwrap();
    assert_eq!(chosen.pieces, layout.pieces);
    assert_eq!(memory.total(), RAM);
    let wrong = choose(running.pid(), vec![cut(host, GIB)], &registers).unwrap_err();
    assert!(matches!(wrong, ChooseError::Wrong { .. }));
}

#[test]
fn six_gib_in_a_q35() {
    try_machine("q35", 2 * GIB);
}

#[test]
fn six_gib_in_a_pc() {
    try_machine("pc", 3 * GIB);
}
