//! Many attachments, and clients that are killed: the guest goes on as before.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs,
    reason = "tests may panic and tell figures"
)]

mod common;

use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::Guest;
use vmc::{LiveGuest, PhysAddr, PhysMemory, Registers, Vcpus};
use vmc_qmp::{ConnectOptions, Qmp};

const IMAGE: &str = "x86_64-6.1-pti";
/// Where a test's helper attaches to.
const HELPER: &str = "VMC_TEST_QMP_SOCKET";
const CYCLES: usize = 1000;
const KILLS: u64 = 100;

/// One test after the other: what this process has and starts is counted.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn options() -> ConnectOptions {
    ConnectOptions { timeout: Duration::from_secs(20), ..ConnectOptions::default() }
}

/// Threads and descriptors of this process, and of QEMU's.
fn held(pid: u32) -> [usize; 4] {
    let count = |path: String| std::fs::read_dir(path).unwrap().count();
    ["self".to_owned(), pid.to_string()]
        .iter()
        .flat_map(|who| [count(format!("/proc/{who}/task")), count(format!("/proc/{who}/fd"))])
        .collect::<Vec<_>>()
        .try_into()
        .unwrap()
}

/// The processes that have this one for a parent and have ended, or not.
fn children() -> usize {
    let own = std::process::id().to_string();
    let stats = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        entry.file_name().to_str()?.parse::<u32>().ok()?;
        std::fs::read_to_string(entry.path().join("stat")).ok()
    });
    stats
        .filter(|stat| {
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)) == Some(&own)
        })
        .count()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn cycles(running: bool) {
    let _alone = alone();
    let Some(mut guest) = Guest::of_image(IMAGE, running) else { return };
    let state = if running { "running" } else { "paused" };
    let (mut whole, mut paused) = (Vec::new(), Vec::new());
    let mut first = None;
    let mut before = None;
    for cycle in 0..CYCLES {
        let started = Instant::now();
        let qmp = Qmp::connect(&guest.qmp, &options()).unwrap();
        let stop = Instant::now();
        qmp.stop().unwrap();
        let registers: Vec<_> = (0..qmp.count()).map(|index| qmp.registers(index).unwrap()).collect();
        let mut word = [0; 4096];
        qmp.read(PhysAddr::new(0x10_0000), &mut word).unwrap();
        qmp.resume().unwrap();
        paused.push(stop.elapsed());
        drop(qmp);
        whole.push(started.elapsed());
        assert_eq!(registers.len(), 2);
        for registers in &registers {
            let Registers::X86_64(x86) = registers else { panic!() };
            // Linux in long mode with paging, and a GS base of the kernel's on one side or the other.
            let bases = [Some(x86.gs_base), x86.kernel_gs_base];
            assert!(x86.cr0 >> 31 == 1 && bases.iter().flatten().any(|base| base >> 63 == 1), "{x86:x?}");
        }
        // A paused guest has not gone on by one instruction.
        let seen = first.get_or_insert_with(|| (registers.clone(), word));
        assert!(running || *seen == (registers, word));
        if cycle % 50 == 0 {
            assert_eq!(guest.control.status(), state);
        }
        if cycle == 10 {
            before = Some((held(guest.pid), children()));
        }
    }
    guest.control.wait_for(state);
    let (now, then) = ((held(guest.pid), children()), before.unwrap());
    assert!(now.1 <= then.1, "processes are left: {} became {}", then.1, now.1);
    assert!(now.0.iter().zip(then.0).all(|(now, then)| *now <= then + 8), "{then:?} became {now:?}");
    let mut line = format!("{state}: attach, stop, registers, read, go on, detach {:?}", median(whole));
    line += &format!(", stopped for {:?} (medians of {CYCLES})", median(paused));
    eprintln!("{line}");
}

#[test]
fn a_thousand_cycles_on_a_running_guest() {
    cycles(true);
}

#[test]
fn a_thousand_cycles_on_a_paused_guest() {
    cycles(false);
}

/// Not a test of its own: what the next ones start, to be killed.
#[test]
fn helper() {
    let Some(path) = std::env::var_os(HELPER) else { return };
    loop {
        let Ok(qmp) = Qmp::connect(path.to_str().unwrap(), &options()) else { continue };
        for _ in 0..20 {
            qmp.stop().unwrap();
            qmp.registers(0).unwrap();
            qmp.read(PhysAddr::new(0x10_0000), &mut [0; 8]).unwrap();
            qmp.resume().unwrap();
        }
    }
}

/// How long the helper lives: different each time, from before it attaches to some cycles later.
fn lives(seed: u64) -> Duration {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..3 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    Duration::from_micros(state % 60_000)
}

/// Kills helpers at all kinds of moments; gives how often the guest stood still when that happened.
fn kills(guest: &mut Guest, state: &str) -> usize {
    let mut caught = 0;
    for seed in 0..KILLS {
        let mut helper = Command::new(std::env::current_exe().unwrap());
        helper.args(["--exact", "helper"]).env(HELPER, &guest.qmp);
        let mut helper = helper.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(lives(seed));
        helper.kill().unwrap();
        helper.wait().unwrap();
        caught += usize::from(guest.control.status() != "running");
        guest.control.wait_for(state);
        // It stays so: nobody says anything later.
        if seed % 10 == 0 {
            std::thread::sleep(Duration::from_millis(50));
            assert_eq!(guest.control.status(), state);
        }
    }
    caught
}

#[test]
fn a_guest_whose_client_is_killed_runs_on() {
    let _alone = alone();
    let Some(mut guest) = Guest::of_image(IMAGE, true) else { return };
    let caught = kills(&mut guest, "running");
    eprintln!("{KILLS} clients killed, {caught} while the guest was stopped");
    assert!(caught > 0, "no client was killed while it held the guest: nothing was tested");
}

#[test]
fn a_paused_guest_whose_client_is_killed_stays_paused() {
    let _alone = alone();
    let Some(mut guest) = Guest::of_image(IMAGE, false) else { return };
    kills(&mut guest, "paused");
}
