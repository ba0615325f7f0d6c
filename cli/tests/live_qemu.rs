//! A guest in QEMU, reached by its gdb stub and by its machine protocol: standing where its image was taken it says what the
//! image says, and running it runs on, whatever becomes of us.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests may panic"
)]

mod common;
#[path = "common/live/mod.rs"]
mod live;

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Answer, vmc};
use live::{Qemu, json, saved};

/// A guest that is woken where its image was taken; it ends with this.
struct Guest {
    qemu: Qemu,
    folder: PathBuf,
}

impl Guest {
    fn start(more: &[&str]) -> Option<Self> {
        let folder = saved()?;
        Some(Self { qemu: Qemu::start(&folder, more)?, folder })
    }

    fn targets(&self) -> [String; 2] {
        [self.qemu.qmp(), self.qemu.gdb()]
    }

    fn image(&self) -> String {
        self.folder.join("mem.elf.zst").to_str().unwrap().to_owned()
    }

    /// The guest's own counter of ticks: what grows only where it runs.
    fn jiffies(&self) -> u64 {
        let qmp = self.qemu.qmp();
        let symbol = json(&["symbols", &qmp, "jiffies_64"]);
        let at = symbol[0]["address"].as_str().unwrap();
        let bytes = json(&["read", &qmp, at, "8"]);
        u64::from_str_radix(bytes["bytes"].as_str().unwrap(), 16).unwrap().swap_bytes()
    }

    /// It goes on.
    fn runs(&self) {
        let before = self.jiffies();
        let end = Instant::now() + Duration::from_secs(20);
        while self.jiffies() == before {
            assert!(Instant::now() < end, "the guest does not go on");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What is said on stderr, without the line on how long the guest stood.
fn said(answer: &Answer) -> Vec<&str> {
    answer.stderr.lines().filter(|line| !line.contains("the guest ")).collect()
}

#[test]
fn a_guest_that_stands_says_what_its_image_says() {
    let Some(guest) = Guest::start(&[]) else { return };
    let image = guest.image();
    for target in guest.targets() {
        for words in [
            &["ps", "TARGET", "--format", "json"][..],
            &["threads", "TARGET"],
            &["bt", "TARGET", "--format", "jsonl"],
            &["maps", "TARGET", "--pid", "86"],
            &["modules", "TARGET", "--all-ways"],
            &["ps", "TARGET", "--all-ways"],
            &["lsof", "TARGET"],
            &["sockets", "TARGET"],
            &["mounts", "TARGET"],
            &["dmesg", "TARGET"],
            &["ls", "TARGET", "-R", "/"],
            &["symbols", "TARGET", "init_task"],
            &["search", "TARGET", "nanosleep", "--max", "50"],
        ] {
            let of = |target: &str| {
                vmc(&words
                    .iter()
                    .map(|word| if *word == "TARGET" { target } else { word })
                    .collect::<Vec<_>>())
            };
            let (live, told) = (of(&target).succeeded(), of(&image).succeeded());
            assert!(live.stdout == told.stdout, "{target}: {words:?}:\n{}\n{}", live.stdout, told.stdout);
            assert!(live.stderr.contains("the guest was paused before, and still is"), "{live:?}");
            assert_eq!(said(&live).len(), said(&told).len(), "{target}: {live:?}");
        }
        // The monitor does not tell all registers.
        let (live, told) = (json(&["registers", &target]), json(&["registers", &image]));
        let (live, told) = (live.as_array().unwrap(), told.as_array().unwrap());
        assert_eq!(live.len(), told.len());
        for (live, told) in live.iter().zip(told) {
            let told = told.as_object().unwrap();
            assert!(
                live.as_object().unwrap().iter().all(|(name, value)| told.get(name) == Some(value)),
                "{live}"
            );
            assert!(live.as_object().unwrap().len() + 1 >= told.len(), "{live}");
        }
    }
}

#[test]
fn a_guest_that_runs_runs_on() {
    let Some(guest) = Guest::start(&["--cont"]) else { return };
    guest.runs();
    for target in guest.targets() {
        let answer = vmc(&["ps", &target]).succeeded();
        assert!(answer.stdout.contains("/bin/spinner"), "{answer:?}");
        assert!(answer.stderr.contains("the guest stood still for "), "{answer:?}");
        guest.runs();
        assert_eq!(vmc(&["ps", &target, "--pid", "99999"]).status, 1);
        guest.runs();
    }
    let [qmp, _] = guest.targets();
    let answer = vmc(&["bt", &qmp, "--no-stop"]).succeeded();
    assert!(answer.stdout.contains("PID 1 TID 1 "), "{answer:?}");
    assert!(answer.stderr.contains("the guest ran while it was read"), "{answer:?}");
}

/// Ended from outside at many moments, most of them while the guest stands.
#[test]
fn a_guest_runs_on_when_we_are_ended() {
    let Some(guest) = Guest::start(&["--cont", "--attend"]) else { return };
    for target in guest.targets() {
        for (signal, number) in [("INT", 2), ("TERM", 15), ("KILL", 9)] {
            for delay in [30, 200] {
                let mut child = Command::new(env!("CARGO_BIN_EXE_vmc"))
                    .args(["bt", &target])
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                std::thread::sleep(Duration::from_millis(delay));
                let sent =
                    Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
                assert!(sent.is_ok());
                let began = Instant::now();
                let ended = child.wait().unwrap();
                assert!(ended.success() || ended.signal() == Some(number), "{signal}: {ended:?}");
                assert!(began.elapsed() < Duration::from_secs(10), "{signal}: it took {:?}", began.elapsed());
                guest.runs();
            }
        }
    }
}
