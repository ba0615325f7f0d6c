//! The smallest program that uses KVM, as a machine to attach to: `guests/kvm/barekvm.c`.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper of tests may panic, and not every test uses every helper"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use vmc::arch::{Registers, x86_64};

/// Says that something is skipped; where everything has to run (`VMC_REQUIRE_ALL`) that is a failure.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("VMC_REQUIRE_ALL").is_none(), "cannot be skipped here: {why}");
    let thread = std::thread::current();
    let _ = writeln!(std::io::stderr(), "test {} skipped: {why}", thread.name().unwrap_or("?"));
}

/// Builds barekvm once. None where that cannot be.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = PROGRAM.get_or_init(|| {
        if cfg!(not(target_arch = "x86_64")) {
            return Err("barekvm is for x86_64".to_owned());
        }
        std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .map_err(|error| format!("/dev/kvm: {error}"))?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/kvm/barekvm.c");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("barekvm-{}", std::process::id()));
        let gcc = Command::new("gcc").args(["-O2", "-pthread", "-o"]).arg(&program).arg(source).output();
        let gcc = gcc.map_err(|error| format!("gcc: {error}"))?;
        assert!(gcc.status.success(), "{}", String::from_utf8_lossy(&gcc.stderr));
        Ok(program)
    });
    match built {
        Ok(program) => Some(program),
        Err(why) => {
            skip(why);
            None
        }
    }
}

/// A barekvm that runs.
pub(crate) struct Bare {
    /// Its vCPUs take whole processors: one at a time.
    _alone: MutexGuard<'static, ()>,
    child: Child,
    out: BufReader<ChildStdout>,
    /// What it said of itself at first.
    pub(crate) facts: Value,
}

impl Bare {
    /// Starts it with these arguments. None where that cannot be.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let program = program()?;
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = Command::new(program)
            .args(arguments)
            .args(["--control", "--seconds", "300"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let facts = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        Some(Self { _alone: alone, child, out, facts })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn vcpus(&self) -> usize {
        self.facts["vcpus"].as_array().unwrap().len()
    }

    /// Gives a command; what it answers.
    pub(crate) fn tell(&mut self, command: &str) -> Value {
        writeln!(self.child.stdin.as_mut().unwrap(), "{command}").unwrap();
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{command}: {line:?}: {error}"))
    }

    /// The counter of a vCPU.
    pub(crate) fn counter(&mut self, vcpu: usize) -> u64 {
        self.tell("counters")["vcpus"][vcpu]["counter"].as_u64().unwrap()
    }

    /// Do all vCPUs count?
    pub(crate) fn assert_counting(&mut self) {
        let count = self.vcpus();
        let before: Vec<u64> = (0..count).map(|vcpu| self.counter(vcpu)).collect();
        let until = Instant::now() + Duration::from_secs(10);
        for (vcpu, before) in before.into_iter().enumerate() {
            while self.counter(vcpu) == before {
                assert!(Instant::now() < until, "vCPU {vcpu} does not run any more");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Is everything as it is for a program that nobody looks at? Soon, where it is not yet.
    pub(crate) fn assert_untouched(&self) {
        let until = Instant::now() + Duration::from_secs(5);
        while let Some(what) = self.touched() {
            assert!(Instant::now() < until, "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What is not as it was.
    fn touched(&self) -> Option<String> {
        for tid in self.tids() {
            let status = std::fs::read_to_string(format!("/proc/{}/task/{tid}/status", self.pid())).unwrap();
            let field = |name: &str| {
                status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
            };
            let blocked = u64::from_str_radix(&field("SigBlk:"), 16).unwrap();
            // The kernel's own thread in the process blocks signals.
            if blocked != 0 && !field("Name:").starts_with("kvm-nx") {
                return Some(format!("thread {tid} blocks {blocked:#x}"));
            }
            if field("TracerPid:") != "0" || field("State:").starts_with(['t', 'T']) {
                return Some(format!("thread {tid}: {}, traced by {}", field("State:"), field("TracerPid:")));
            }
        }
        // kvm_valid_regs, and the registers behind it, of every vCPU.
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.pid())).unwrap();
        for line in maps.lines().filter(|line| line.contains("kvm-vcpu")) {
            let start = usize::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
            let mut bytes = [0xff; 8 + 8 + 456];
            let len = bytes.len();
            let read = nix::sys::uio::process_vm_readv(
                nix::unistd::Pid::from_raw(self.pid() as i32),
                &mut [std::io::IoSliceMut::new(&mut bytes)],
                &[nix::sys::uio::RemoteIoVec { base: start + 288, len }],
            );
            assert_eq!(read, Ok(len));
            if bytes.iter().any(|byte| *byte != 0) {
                return Some("a kvm_run page is changed".to_owned());
            }
        }
        None
    }

    pub(crate) fn tids(&self) -> Vec<i32> {
        let mut tids: Vec<i32> = std::fs::read_dir(format!("/proc/{}/task", self.pid()))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .collect();
        tids.sort_unstable();
        tids
    }

    pub(crate) fn fds(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Are those the registers that it says it has? But for what a guest that runs changes: rip, rflags.
    pub(crate) fn assert_registers(&self, vcpu: usize, found: &Registers) {
        let Registers::X86_64(found) = found else { panic!("not of this architecture") };
        let facts = &self.facts["vcpus"][vcpu]["registers"];
        let number = |name: &str| {
            let text = facts[name].as_str().unwrap_or_else(|| panic!("{name}"));
            u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
        };
        let names = [
            "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
            "r14", "r15",
        ];
        assert_eq!(found.general, names.map(number), "vCPU {vcpu}");
        let x86_64::Registers { cr0, cr2, cr3, cr4, fs_base, gs_base, cs, ss, .. } = found;
        assert_eq!([*cr0, *cr2, *cr3, *cr4], ["cr0", "cr2", "cr3", "cr4"].map(number));
        assert_eq!([*fs_base, *gs_base], ["fs_base", "gs_base"].map(number));
        assert_eq!([u64::from(*cs), u64::from(*ss)], ["cs", "ss"].map(number));
        assert!((number("rip")..=number("rip") + 5).contains(&found.rip), "rip {:#x}", found.rip);
        if let Some(base) = found.kernel_gs_base {
            assert_eq!(base, number("kernel_gs_base"));
        }
    }

    /// A number of the facts of a vCPU.
    pub(crate) fn fact(&self, vcpu: usize, name: &str) -> u64 {
        let text = self.facts["vcpus"][vcpu]["registers"][name].as_str().unwrap();
        u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
