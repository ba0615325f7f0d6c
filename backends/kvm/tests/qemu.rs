//! A Linux guest in a QEMU that uses KVM, paused where its image was taken: registers and memory are those of the image.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests may panic"
)]

mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::skip;
use serde_json::Value;
use vmc::arch::Registers;
use vmc::{LiveGuest, PhysAddr, PhysMemory, Vcpus};
use vmc_dump::Image;
use vmc_kvm::{AttachOptions, Kvm};

/// A QEMU with the guest of an image.
struct Qemu {
    script: Child,
    image: PathBuf,
    facts: Value,
    folder: PathBuf,
}

impl Qemu {
    fn start() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let shared = std::env::var_os("VMC_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
        let image = shared.join("guests/x86_64-6.1-pti");
        if !image.join("state.mig.zst").exists() && !image.join("state.mig").exists() {
            skip("there is no guests/x86_64-6.1-pti in the folder that VMC_SHARED names, or in ../shared");
            return None;
        }
        let tools = ["qemu-system-x86_64", "python3", "zstd"];
        let missing = tools.iter().find(|tool| Command::new(tool).arg("--version").output().is_err());
        if let Some(missing) = missing {
            skip(&format!("{missing} is not there"));
            return None;
        }
        if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
            skip(&format!("/dev/kvm: {error}"));
            return None;
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kvm-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut script = Command::new(root.join("guests/run-live"))
            .arg(&folder)
            .arg(&image)
            .args(["--kvm", "--attend"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(script.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let facts =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("run-live said {line:?}: {error}"));
        Some(Self { script, image, facts, folder })
    }

    fn pid(&self) -> u32 {
        self.facts["pid"].as_u64().unwrap().try_into().unwrap()
    }

    fn status(&self) -> String {
        let monitor =
            vmc_qmp::Qmp::connect(self.facts["qmp"].as_str().unwrap(), &Default::default()).unwrap();
        monitor.status().unwrap()
    }

    fn threads_and_descriptors(&self) -> (usize, usize) {
        let count = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", self.pid())).unwrap().count();
        (count("task"), count("fd"))
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let _ = self.script.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Without what the dump lacks.
fn plain(registers: Registers) -> Registers {
    let Registers::X86_64(mut registers) = registers else { panic!("not of this architecture") };
    registers.kernel_gs_base = None;
    Registers::X86_64(registers)
}

#[test]
fn a_paused_linux_is_what_its_image_says() {
    let Some(qemu) = Qemu::start() else { return };
    let image = ["mem.elf", "mem.elf.zst"].map(|name| qemu.image.join(name));
    let image = Image::open(image.iter().find(|path| path.exists()).unwrap()).unwrap();
    // Counted before the monitor is asked: QEMU takes its time to close what it was asked by.
    let before = qemu.threads_and_descriptors();
    assert_eq!(qemu.status(), "paused");

    let guest = Kvm::attach(qemu.pid(), &AttachOptions::default()).unwrap();
    println!("{:#?}", guest.facts());
    assert!(!guest.running());
    guest.stop().unwrap();
    assert_eq!(guest.count(), image.count());
    for vcpu in 0..guest.count() {
        assert_eq!(
            plain(guest.registers(vcpu).unwrap()),
            plain(image.registers(vcpu).unwrap()),
            "vCPU {vcpu}"
        );
    }
    let (mut ours, mut theirs) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let (mut compared, mut different) = (0, Vec::new());
    for region in image.regions() {
        let mut at = region.start.get();
        while at < region.end().get() {
            let len = usize::try_from(region.end().get() - at).unwrap().min(ours.len());
            image.read(PhysAddr::new(at), &mut theirs[..len]).unwrap();
            guest
                .read(PhysAddr::new(at), &mut ours[..len])
                .unwrap_or_else(|error| panic!("{at:#x}: {error}"));
            for (page, (ours, theirs)) in ours[..len].chunks(4096).zip(theirs[..len].chunks(4096)).enumerate()
            {
                compared += 1;
                if ours != theirs {
                    different.push(at + 4096 * page as u64);
                }
            }
            at += len as u64;
        }
    }
    // KVM's clock page and the like are written when the state is taken in.
    println!("{compared} pages compared, other than the image's: {different:x?}");
    assert!(
        compared > 25_000 && different.len() <= 4,
        "{} of {compared} pages: {different:x?}",
        different.len()
    );
    drop(guest);

    let mut options = AttachOptions::default();
    options.monitor = Some(qemu.facts["qmp"].as_str().unwrap().to_owned());
    let by_monitor = Kvm::attach(qemu.pid(), &options).unwrap();
    assert_eq!(by_monitor.facts().ram_bytes, 112 << 20, "{:?}", by_monitor.facts());
    drop(by_monitor);

    let mut times = Vec::new();
    let machine = |round: u32| {
        let start = Instant::now();
        let machine = vmc_kvm::Machine::attach(qemu.pid(), &AttachOptions::default()).unwrap();
        machine.stop().unwrap();
        for vcpu in 0..image.count() {
            let registers = plain(machine.registers(vcpu).unwrap());
            assert_eq!(registers, plain(image.registers(vcpu).unwrap()), "round {round}, vCPU {vcpu}");
        }
        drop(machine);
        start.elapsed()
    };
    times.extend((0..1000).map(machine));
    times.sort_unstable();
    println!(
        "paused QEMU: attach, registers of 2 vCPUs, detach: median {:?}, 99 % {:?}",
        times[500], times[990]
    );
    assert_eq!(qemu.threads_and_descriptors(), before);
    assert_eq!(qemu.status(), "paused");
}

#[test]
fn an_emulating_qemu_is_told_from_one_with_kvm() {
    let qemu = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-machine", "none", "-nodefaults", "-display", "none", "-S"])
        .stdin(Stdio::null())
        .spawn();
    let Ok(mut qemu) = qemu else { return skip("qemu-system-x86_64 is not there") };
    let error = Kvm::attach(qemu.id(), &AttachOptions::default()).unwrap_err().to_string();
    qemu.kill().unwrap();
    qemu.wait().unwrap();
    assert!(error.contains("gdb:") && error.contains("qmp:"), "{error}");
}
