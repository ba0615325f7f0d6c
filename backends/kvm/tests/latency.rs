//! How long a guest is held, and how long attaching takes, with the figures on stdout: run with `--nocapture`, best in release.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests may panic"
)]

mod common;

use std::time::{Duration, Instant};

use common::Bare;
use vmc::vcpu::Vcpus;
use vmc_kvm::{AttachOptions, Machine};

/// Goals are for a quiet machine: what fails here is beyond what any load explains.
const FAR_TOO_LONG: Duration = Duration::from_millis(50);

fn median(times: &mut [Duration], what: &str) -> Duration {
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 1000];
    println!(
        "{what}: median {:?}, 90 % {:?}, 99 % {:?}, most {:?}",
        at(500),
        at(900),
        at(990),
        times[times.len() - 1]
    );
    at(500)
}

/// How long a whole cycle takes, and its parts: attaching, holding and reading, leaving.
fn cycle(bare: &Bare, options: &AttachOptions) -> [Duration; 4] {
    let start = Instant::now();
    let machine = Machine::attach(bare.pid(), options).unwrap();
    let attached = start.elapsed();
    machine.stop().unwrap();
    for vcpu in 0..machine.count() {
        machine.registers(vcpu).unwrap();
    }
    let read = start.elapsed();
    drop(machine);
    let whole = start.elapsed();
    [whole, attached, read - attached, whole - read]
}

#[test]
fn attaching_reading_and_leaving() {
    for arguments in [["loop", "--vcpus", "2"], ["paused", "--vcpus", "2"], ["hlt", "--vcpus", "2"]] {
        let Some(bare) = Bare::start(&arguments) else { return };
        let cycles: Vec<_> = (0..300).map(|_| cycle(&bare, &AttachOptions::default())).collect();
        let part = |index: usize, what: &str| {
            let mut times: Vec<Duration> = cycles.iter().map(|cycle| cycle[index]).collect();
            median(&mut times, &format!("{what}: {arguments:?}"))
        };
        let middle = part(0, "attach, registers, detach");
        part(1, "    attach");
        part(2, "    hold, read");
        part(3, "    leave");
        assert!(middle < FAR_TOO_LONG, "{middle:?}");
    }
}

#[test]
fn holding_and_letting_go() {
    for no_inject in [false, true] {
        let Some(mut bare) = Bare::start(&["loop", "--vcpus", "2"]) else { return };
        let mut options = AttachOptions::default();
        options.no_inject = no_inject;
        let machine = Machine::attach(bare.pid(), &options).unwrap();
        let (mut held, mut pauses) = (Vec::new(), Vec::new());
        for _ in 0..1000 {
            let start = Instant::now();
            machine.stop().unwrap();
            for vcpu in 0..2 {
                machine.registers(vcpu).unwrap();
            }
            held.push(start.elapsed());
            machine.resume().unwrap();
            pauses.push(start.elapsed());
            std::thread::sleep(Duration::from_millis(1));
        }
        median(&mut held, &format!("until held, with registers (no_inject {no_inject})"));
        let middle = median(&mut pauses, &format!("until it runs again (no_inject {no_inject})"));
        assert!(middle < FAR_TOO_LONG, "{middle:?}");
        assert_eq!(machine.how(), "kvm_run");
        drop(machine);
        bare.assert_untouched();
        bare.assert_counting();
    }
}

/// A counter loop that is sampled 99 times a second loses what the samples hold it for, and little more.
#[test]
fn a_sampled_guest_loses_little() {
    let Some(mut bare) = Bare::start(&["loop"]) else { return };
    let machine = Machine::attach(bare.pid(), &AttachOptions::default()).unwrap();
    let mut rate = |sampled: bool| {
        let (start, before) = (Instant::now(), bare.counter(0));
        while start.elapsed() < Duration::from_millis(200) {
            std::thread::sleep(Duration::from_micros(10_101));
            if sampled {
                machine.stop().unwrap();
                machine.registers(0).unwrap();
                machine.resume().unwrap();
            }
        }
        (bare.counter(0) - before) as f64 / start.elapsed().as_secs_f64()
    };
    // In short turns, so that what else the machine does meets both alike.
    let mut lost: Vec<f64> = (0..40)
        .map(|_| {
            let free = rate(false);
            1.0 - rate(true) / free
        })
        .collect();
    lost.sort_by(f64::total_cmp);
    println!("lost at 99 Hz: median {:.4}, quarters {:.4} {:.4}", lost[20], lost[10], lost[30]);
    assert!(lost[10] < 0.5, "three quarters of all turns lost over {:.0} %", lost[10] * 100.0);
}
