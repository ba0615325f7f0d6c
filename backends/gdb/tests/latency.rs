//! How long attaching takes and for how long the guest stands for it, with the figures on stdout: run with `--nocapture`, best in
//! release.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "tests may panic")]

mod common;

use std::time::{Duration, Instant};

use common::Guest;
use vmc::{LiveGuest, Vcpus};
use vmc_gdb::{ConnectOptions, Gdb};

/// What fails here is beyond what any load explains.
const FAR_TOO_LONG: Duration = Duration::from_millis(200);

fn median(times: &mut [Duration], what: &str) -> Duration {
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 100];
    println!("{what}: least {:?}, median {:?}, 90 % {:?}", at(0), at(50), at(90));
    at(50)
}

#[test]
fn attaching_reading_and_leaving() {
    for running in [false, true] {
        let Some(mut guest) = Guest::incoming("x86_64-6.1-pti", running) else { return };
        for process in [false, true] {
            let cycle = |_| {
                let start = Instant::now();
                let options = ConnectOptions { process, ..ConnectOptions::default() };
                let gdb = Gdb::connect(&guest.stub(), &options).unwrap();
                for index in 0..gdb.count() {
                    gdb.registers(index).unwrap();
                }
                gdb.detach().unwrap();
                start.elapsed()
            };
            let mut times: Vec<Duration> = (0..300).map(cycle).collect();
            let what = format!("attach, registers, detach (running {running}, by the process {process})");
            let middle = median(&mut times, &what);
            assert!(middle < FAR_TOO_LONG, "{middle:?}");
        }
        assert_eq!(guest.status(), if running { "running" } else { "paused" });
    }
}

#[test]
fn holding_and_letting_go() {
    let Some(guest) = Guest::incoming("x86_64-6.1-pti", true) else { return };
    for process in [false, true] {
        let gdb =
            Gdb::connect(&guest.stub(), &ConnectOptions { process, ..ConnectOptions::default() }).unwrap();
        gdb.resume().unwrap();
        let mut pauses: Vec<Duration> = (0..300)
            .map(|_| {
                std::thread::sleep(Duration::from_millis(2));
                let start = Instant::now();
                gdb.stop().unwrap();
                for index in 0..gdb.count() {
                    gdb.registers(index).unwrap();
                }
                gdb.resume().unwrap();
                start.elapsed()
            })
            .collect();
        let middle = median(&mut pauses, &format!("stop, registers, resume (by the process {process})"));
        assert!(middle < FAR_TOO_LONG, "{middle:?}");
        gdb.detach().unwrap();
    }
}
