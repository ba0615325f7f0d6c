//! `dump` of live guests: against QEMU's own core of the same moment, against the core that a bare KVM process holds, and broken
//! off in the middle: by a signal, and by the guest's end.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "tests may panic and tell what they saw"
)]

mod common;
#[path = "common/live/mod.rs"]
mod live;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::{scratch, vmc};
use live::{Bare, Qemu, Seen, alike, registers_hold, sample_core, saved};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use vmc::PhysMemory;
use vmc_dump::Image;

const QUESTIONS: [&[&str]; 6] = [&["ps"], &["threads"], &["mounts"], &["bt"], &["lsof"], &["sockets"]];

/// A folder for one test's cores; it goes with them.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = scratch().join(format!("live-dump-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn core(&self) -> PathBuf {
        self.0.join("core.elf")
    }

    /// Saves `target`. What was said.
    fn save(&self, target: &str) -> String {
        vmc(&["dump", target, self.core().to_str().unwrap(), "--force"]).succeeded().stderr
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(&self.0).unwrap().next().is_none()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// All memory of `ours` is in `theirs`, the same byte for byte. How much that is.
fn same_memory(ours: &Image, theirs: &Image) -> u64 {
    const PART: u64 = 64 << 10;
    let (mut mine, mut other) = (vec![0; PART as usize], vec![0; PART as usize]);
    for region in ours.regions() {
        let mut done = 0;
        while done < region.len {
            let size = PART.min(region.len - done) as usize;
            let at = region.start.wrapping_add(done);
            ours.read(at, &mut mine[..size]).unwrap();
            theirs.read(at, &mut other[..size]).unwrap();
            assert!(mine[..size] == other[..size], "memory at {at} differs");
            done += size as u64;
        }
    }
    ours.total()
}

/// The notes of `ours` have the registers that those of `theirs` have, but what the segments of data are.
fn same_notes(ours: &Image, theirs: &Image) {
    let [ours, theirs] = [ours, theirs].map(|image| {
        image.notes().into_iter().filter(|(name, ..)| *name != b"VMCOREINFO").collect::<Vec<_>>()
    });
    assert!(ours.len() == theirs.len() && !theirs.is_empty());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!((ours.0, ours.1, ours.2.len()), (theirs.0, theirs.1, theirs.2.len()));
        let unknown = |at: usize| match ours.0 {
            b"CORE" => (112 + 23 * 8..112 + 27 * 8).contains(&at),
            _ => (152..392).contains(&at),
        };
        for (at, (mine, other)) in ours.2.iter().zip(theirs.2).enumerate() {
            assert!(mine == other || (unknown(at) && *mine == 0), "{at}: {mine:#x}, {other:#x}");
        }
    }
}

/// `target`, a guest that stands, is saved as it is by QEMU, and answers as it did.
fn saved_as_by_qemu(qemu: &Qemu, target: &str, ram: u64) {
    let folder = Folder::new("paused");
    let said = folder.save(target);
    assert_eq!(said.trim_end(), "vmc: the guest was paused before, and still is");
    let (path, theirs) = (folder.core(), qemu.core());
    let core = path.to_str().unwrap();
    let (ours, others) = (Image::open(&path).unwrap(), Image::open(&theirs).unwrap());
    // KVM knows the firmware as memory, too.
    let firmware = same_memory(&ours, &others) - ram;
    assert!(firmware <= 1 << 20, "{target}: {firmware} bytes more than RAM");
    same_notes(&ours, &others);
    registers_hold(core, theirs.to_str().unwrap());
    for question in QUESTIONS {
        alike(question, target, core);
    }
    assert_eq!(qemu.status(), "paused");
}

/// The RAM that QEMU was told to make.
fn ram_of(folder: &Path) -> u64 {
    let meta: Value = serde_json::from_slice(&fs::read(folder.join("meta.json")).unwrap()).unwrap();
    let words = meta["qemu"].as_array().unwrap();
    let at = words.iter().position(|word| word == "-m").unwrap();
    let size = words[at + 1].as_str().unwrap().trim_end_matches('M');
    size.parse::<u64>().unwrap() << 20
}

#[test]
fn a_paused_guest_as_qemu_saves_it() {
    let Some(folder) = saved() else { return };
    let Some(qemu) = Qemu::start(&folder, &[]) else { return };
    let before = Seen::of(qemu.pid());
    for target in [qemu.qmp(), qemu.gdb()] {
        saved_as_by_qemu(&qemu, &target, ram_of(&folder));
    }
    before.again(qemu.pid());
}

#[test]
fn a_kvm_guest_as_qemu_saves_it() {
    let Some(folder) = saved() else { return };
    for words in [&["--kvm"][..], &["--kvm", "--shared"]] {
        let Some(qemu) = Qemu::start(&folder, words) else { return };
        saved_as_by_qemu(&qemu, &qemu.kvm(), ram_of(&folder));
    }
}

#[test]
fn a_bare_process_as_the_core_that_it_holds() {
    let core = sample_core();
    let given = Image::open(&core).unwrap();
    for way in [&["parked"][..], &["exits", "--memfd", "--seccomp"]] {
        let Some(bare) = Bare::start(&[&["core", core.to_str().unwrap()], way].concat()) else { return };
        let before = Seen::of(bare.pid());
        let folder = Folder::new("bare");
        folder.save(&bare.target());
        let path = folder.core();
        let ours = Image::open(&path).unwrap();
        assert_eq!(same_memory(&ours, &given), given.total());
        same_notes(&ours, &given);
        registers_hold(path.to_str().unwrap(), core.to_str().unwrap());
        for question in QUESTIONS {
            alike(question, &bare.target(), path.to_str().unwrap());
        }
        before.again(bare.pid());
    }
}

/// A `dump` that has made its file, and is held there.
struct Begun(Child);

impl Begun {
    /// Nothing where it was faster.
    fn of(target: &str, folder: &Folder) -> Option<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_vmc"))
            .args(["dump", target])
            .arg(folder.core())
            .arg("--cache-dir")
            .arg(scratch())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let descriptors = PathBuf::from(format!("/proc/{}/fd", child.id()));
        let begin = Instant::now();
        // What it writes into has no name yet, but lies in the folder.
        let made = |fd: &Path| fs::read_link(fd).is_ok_and(|path| path.starts_with(&folder.0));
        while !fs::read_dir(&descriptors).is_ok_and(|fds| fds.flatten().any(|entry| made(&entry.path()))) {
            if child.try_wait().unwrap().is_some() {
                let output = child.wait_with_output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success(), "{target}: {} {said}", output.status);
                return None;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "{target}: it does not begin");
        }
        let begun = Self(child);
        begun.send(Signal::SIGSTOP);
        Some(begun)
    }

    fn send(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
    }

    /// Lets it go on. How it ends, and what it says.
    fn go_on(self) -> (ExitStatus, String, String) {
        self.send(Signal::SIGCONT);
        let output = self.0.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status, text(&output.stdout), text(&output.stderr))
    }
}

/// What breaks a program off: Ctrl-C's signal, or SIGTERM where that is ignored (a shell has it so in what runs behind it).
fn breaks_off() -> Signal {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    if ignored >> (Signal::SIGINT as u32 - 1) & 1 == 1 { Signal::SIGTERM } else { Signal::SIGINT }
}

/// Ctrl-C in the middle. One that was saved before the signal came is tried again.
fn broken_off(target: &str, name: &str) {
    for _ in 0..20 {
        let folder = Folder::new(name);
        let Some(begun) = Begun::of(target, &folder) else { continue };
        begun.send(breaks_off());
        let (status, stdout, stderr) = begun.go_on();
        // The signal may also meet a program that has done everything and said so.
        if status.success() || (folder.core().exists() && !stdout.is_empty()) {
            continue;
        }
        assert_eq!(
            (status.signal(), stdout.as_str()),
            (Some(breaks_off() as i32), ""),
            "{target}: {status} {stderr}"
        );
        assert!(folder.is_empty(), "{target}: something is left");
        return;
    }
    panic!("{target}: it was saved each time before a signal came");
}

#[test]
fn a_signal_in_the_middle_leaves_no_file_and_a_running_guest() {
    let Some(folder) = saved() else { return };
    let Some(qemu) = Qemu::start(&folder, &["--cont"]) else { return };
    let before = Seen::of(qemu.pid());
    for target in [qemu.qmp(), qemu.gdb()] {
        broken_off(&target, "signal");
        qemu.becomes_running();
        // The whole of it says how long the guest stood.
        let folder = Folder::new("running");
        let said = folder.save(&target);
        assert!(said.contains("the guest stood still for "), "{said}");
        assert!(Image::open(folder.core()).is_ok_and(|core| core.total() > 64 << 20));
        qemu.becomes_running();
    }
    before.again(qemu.pid());
}

#[test]
fn a_signal_in_the_middle_leaves_a_kvm_process_as_it_was() {
    let core = sample_core();
    let Some(bare) = Bare::start(&["core", core.to_str().unwrap(), "exits", "--seccomp"]) else { return };
    let before = Seen::of(bare.pid());
    broken_off(&bare.target(), "signal-bare");
    before.again(bare.pid());
    alike(&["bt"], &bare.target(), core.to_str().unwrap());
}

/// The process `pid`, killed: the guest is gone while it is saved.
fn ends_in_the_middle(target: &str, pid: u64) {
    let (folder, begun) = (0..20)
        .find_map(|_| {
            let folder = Folder::new("killed");
            let begun = Begun::of(target, &folder)?;
            Some((folder, begun))
        })
        .unwrap();
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
    let dead = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status"));
        status.is_err() || status.is_ok_and(|text| text.contains("State:\tZ"))
    };
    let begin = Instant::now();
    while !dead() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{pid} does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    let (status, stdout, stderr) = begun.go_on();
    assert_eq!((status.code(), stdout.as_str()), (Some(1), ""), "{target}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{target}: {stderr}");
    assert!(stderr.starts_with(&format!("vmc: {target}: ")), "{stderr}");
    assert!(folder.is_empty(), "{target}: something is left");
    assert!(begin.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_guest_that_ends_in_the_middle() {
    let Some(folder) = saved() else { return };
    for state in [&["--cont"][..], &[]] {
        for of in [Qemu::qmp, Qemu::gdb] {
            let Some(qemu) = Qemu::start(&folder, state) else { return };
            ends_in_the_middle(&of(&qemu), qemu.pid());
        }
    }
    let core = sample_core();
    let Some(bare) = Bare::start(&["core", core.to_str().unwrap(), "exits"]) else { return };
    ends_in_the_middle(&bare.target(), bare.pid());
}
