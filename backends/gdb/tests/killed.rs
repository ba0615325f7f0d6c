//! Clients that are killed: whatever the moment, the guest goes on as it was found, and the stub is free for the next.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::Guest;
use vmc::{LiveGuest, PhysAddr, PhysMemory, Vcpus};
use vmc_gdb::{ConnectError, ConnectOptions, Gdb, Step};

const STUB: &str = "VMC_TEST_STUB";
const STEP: &str = "VMC_TEST_STEP";
const STEPS: [Step; 8] = [
    Step::Socket,
    Step::Connected,
    Step::Found,
    Step::Physical,
    Step::Attached,
    Step::Running,
    Step::Releasing,
    Step::Released,
];

/// Says where it is; at the step that is asked for it stays there.
fn at_step(step: Step) {
    if std::env::var(STEP).is_ok_and(|wanted| wanted == format!("{step:?}")) {
        let _ = std::io::stdout().write_all(b"here\n");
        std::thread::sleep(Duration::from_secs(600));
    }
}

/// Not a test of its own: the client that is killed.
#[test]
fn client() {
    let Ok(stub) = std::env::var(STUB) else { return };
    let _ = std::io::stdout().write_all(b"begins\n");
    // Where it runs on its memory is read elsewhere.
    let process = std::env::var(STEP).is_ok_and(|wanted| wanted == "Running");
    let options = ConnectOptions { at_step: Some(at_step), process, ..ConnectOptions::default() };
    loop {
        let gdb = Gdb::connect(&stub, &options).unwrap();
        let mut page = [0; 4096];
        for round in 0..3 {
            for index in 0..gdb.count() {
                gdb.registers(index).unwrap();
            }
            for at in 0..20 {
                gdb.read(PhysAddr::new((round * 20 + at) << 16), &mut page).unwrap();
            }
            gdb.resume().unwrap();
            gdb.stop().unwrap();
        }
        gdb.detach().unwrap();
    }
}

/// Starts a client, and waits until it has said `word`.
fn start(guest: &Guest, step: Option<Step>, word: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "client", "--nocapture"]).env(STUB, guest.stub());
    if let Some(step) = step {
        command.env(STEP, format!("{step:?}"));
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The runner's own words stand before it, without an end of line.
    let found = lines.map_while(Result::ok).any(|line| line.ends_with(word));
    assert!(found, "the client ended before it said {word:?}");
    child
}

/// The guest is as it was, and the stub answers the next client.
fn is_well(guest: &mut Guest, status: &str, when: &str) {
    guest.wait_for(status, Duration::from_secs(10)).unwrap_or_else(|what| panic!("killed {when}: {what}"));
    let end = Instant::now() + Duration::from_secs(10);
    let gdb = loop {
        match Gdb::connect(&guest.stub(), &ConnectOptions::default()) {
            Err(ConnectError::Busy { .. }) if Instant::now() < end => {}
            other => break other.unwrap_or_else(|error| panic!("killed {when}: {error}")),
        }
    };
    gdb.registers(0).unwrap();
    gdb.detach().unwrap();
    assert_eq!(guest.status(), status, "killed {when}");
    // Nothing of ours is left in the stub's settings: it reads virtual addresses again.
    assert_eq!(guest.mode(), "0", "killed {when}");
    guest.wait_for(status, Duration::from_secs(10)).unwrap();
}

#[test]
fn guests_survive_clients_that_are_killed_at_each_step() {
    for (running, status) in [(true, "running"), (false, "paused")] {
        let Some(mut guest) = Guest::incoming("x86_64-6.1-pti", running) else { return };
        for step in STEPS {
            // A guest that is paused stays so.
            if step == Step::Running && !running {
                continue;
            }
            let mut child = start(&guest, Some(step), "here");
            child.kill().unwrap();
            child.wait().unwrap();
            is_well(&mut guest, status, &format!("at {step:?} ({status})"));
        }
    }
}

#[test]
fn guests_survive_clients_that_are_killed_at_any_moment() {
    for (running, status) in [(true, "running"), (false, "paused")] {
        let Some(mut guest) = Guest::incoming("x86_64-6.1-pti", running) else { return };
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..50 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let micros = state % 60_000;
            let mut child = start(&guest, None, "begins");
            std::thread::sleep(Duration::from_micros(micros));
            // Every fifth by a signal that can be caught; Ctrl-C's is ignored in what a shell runs behind it.
            if round % 5 == 0 {
                let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
                assert!(kill.success());
            } else {
                child.kill().unwrap();
            }
            child.wait().unwrap();
            is_well(&mut guest, status, &format!("after {micros} us ({status}, round {round})"));
        }
    }
}
