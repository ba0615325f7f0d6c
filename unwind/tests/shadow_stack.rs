//! A program stepped instruction by instruction: at each one the walk has to give the very return addresses that calls have
//! pushed and returns have not taken yet, in prologues, epilogues, PLT stubs, the dynamic linker, callbacks and signal handlers.
//!
//! The oracle is a second stack, kept from the effects of calls, returns and signals alone.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests may panic and tell what they saw"
)]

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol};
use std::os::unix::process::CommandExt;
use vmc::view::Stop;
use vmc::{Fault, Limits, ReadError, VirtAddr, VirtualMemory};
use vmc_unwind::x86_64::Registers;
use vmc_unwind::{Cache, Module, ModuleMap, Section, Sections, UnwindTable, Unwinder};

/// Fewer steps than this prove too little.
const ENOUGH: usize = 10_000;
/// A program that goes on beyond this has gone astray.
const TOO_MANY: usize = 400_000;

/// The memory of a process.
struct ProcessMemory(File);

impl VirtualMemory for ProcessMemory {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        self.0.read_exact_at(buf, addr.get()).map_err(|_| ReadError::new(addr, Fault::NotMapped))
    }
}

impl ProcessMemory {
    fn word(&self, at: u64) -> u64 {
        self.read_u64(VirtAddr::new(at)).unwrap_or(0)
    }
}

/// What an ELF file brings: how to unwind it, and its segments' offsets, sizes and addresses.
struct Image {
    table: Arc<UnwindTable>,
    segments: Vec<(u64, u64, u64)>,
}

fn image(bytes: &[u8]) -> Option<Image> {
    let file = object::read::elf::ElfFile64::<object::LittleEndian>::parse(bytes).ok()?;
    let section = |name| {
        let section = file.section_by_name(name);
        section.map(|s| Section::new(s.address(), s.data().unwrap().to_vec())).unwrap_or_default()
    };
    let sections = Sections {
        eh_frame_hdr: section(".eh_frame_hdr"),
        eh_frame: section(".eh_frame"),
        ..Sections::default()
    };
    let segments = file.segments().map(|s| (s.file_range().0, s.file_range().1, s.address())).collect();
    Some(Image { table: Arc::new(UnwindTable::new(sections)), segments })
}

/// The executable mappings of a process.
fn modules(pid: Pid, memory: &ProcessMemory) -> ModuleMap {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let executable =
        maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|perms| perms.contains('x')));
    let found = executable.enumerate().filter_map(|(index, line)| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (start, end) = words[0].split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (start, end, offset) = (number(start)?, number(end)?, number(words[2])?);
        let path = *words.get(5)?;
        let bytes = if path == "[vdso]" {
            let mut bytes = vec![0; (end - start) as usize];
            memory.read(VirtAddr::new(start), &mut bytes).ok()?;
            bytes
        } else {
            std::fs::read(path).ok()?
        };
        let Image { table, segments } = image(&bytes)?;
        let holds =
            |segment: &&(u64, u64, u64)| segment.0 & !0xfff <= offset && offset < segment.0 + segment.1;
        let segment = segments.iter().rfind(holds)?;
        let bias = start.wrapping_sub((segment.2 & !0xfff) + (offset - (segment.0 & !0xfff)));
        Some(Module { range: VirtAddr::new(start)..VirtAddr::new(end), bias, table: Some(table), index })
    });
    ModuleMap::new(found.collect())
}

fn registers(pid: Pid) -> Registers {
    let r = ptrace::getregs(pid).unwrap();
    let general = [
        r.rax, r.rdx, r.rcx, r.rbx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
        r.r14, r.r15,
    ];
    Registers::with_all(VirtAddr::new(r.rip), general)
}

/// The program, compiled; nothing where there is no compiler.
fn program() -> Option<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/steps.c");
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("steps");
    // Lazy binding: the first call of a function goes through the dynamic linker.
    let made = Command::new("cc").args(["-O2", "-Wl,-z,lazy", "-o"]).arg(&program).arg(source).status();
    made.is_ok_and(|status| status.success()).then_some(program)
}

/// The return addresses above a frame: what `Walk` yields after the first.
fn callers(pid: Pid, modules: &ModuleMap, memory: &ProcessMemory, cache: &mut Cache) -> (Vec<u64>, Stop) {
    let limits = Limits::default();
    let mut walk = Unwinder::new(modules, memory, &limits).walk(registers(pid), cache);
    let ips = walk.by_ref().skip(1).map(|frame| frame.address.address().get()).collect();
    (ips, walk.stop())
}

/// A word that lies above the frame at hand: a return address, or where a signal interrupted the program.
struct Shadow {
    ips: Vec<u64>,
}

#[test]
fn the_walk_equals_the_calls_and_returns_at_each_instruction() {
    let Some(program) = program() else {
        return common::skip("cc, which makes the program to step through, is not there");
    };
    let mut command = Command::new(&program);
    common::trace_me(&mut command);
    let Ok(mut child) = command.arg0("steps").spawn() else {
        return common::skip("a program cannot be traced here (ptrace is not allowed)");
    };
    let pid = Pid::from_raw(child.id() as i32);
    assert!(matches!(waitpid(pid, None).unwrap(), WaitStatus::Stopped(_, Signal::SIGTRAP)));
    // To the first trap in `run`.
    ptrace::cont(pid, None).unwrap();
    assert!(matches!(waitpid(pid, None).unwrap(), WaitStatus::Stopped(_, Signal::SIGTRAP)));

    let memory = ProcessMemory(File::open(format!("/proc/{pid}/mem")).unwrap());
    let modules = modules(pid, &memory);
    let mut cache = Cache::new();
    let (base, stop) = callers(pid, &modules, &memory, &mut cache);
    assert_eq!((stop, base[0]), (Stop::End, told_by_the_program(&program, pid, &memory)));

    let mut shadow = Shadow { ips: base.iter().rev().copied().collect() };
    let (mut steps, mut signals, mut deepest) = (0usize, 0, 0);
    let mut deliver = None;
    loop {
        let before = ptrace::getregs(pid).unwrap();
        let top = memory.word(before.rsp);
        ptrace::step(pid, deliver.take()).unwrap();
        let status = waitpid(pid, None).unwrap();
        let after = ptrace::getregs(pid).unwrap();
        match status {
            WaitStatus::Stopped(_, Signal::SIGTRAP) if memory.word(before.rip) & 0xff == 0xcc => break,
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
            WaitStatus::Stopped(_, signal) => {
                // About to be delivered: nothing has been executed.
                deliver = Some(signal);
                signals += 1;
                shadow.ips.push(after.rip);
                ptrace::step(pid, deliver.take()).unwrap();
                assert!(matches!(waitpid(pid, None).unwrap(), WaitStatus::Stopped(_, Signal::SIGTRAP)));
                let handler = ptrace::getregs(pid).unwrap();
                shadow.ips.push(memory.word(handler.rsp));
                compare(pid, &modules, &memory, &mut cache, &shadow, steps);
                continue;
            }
            other => panic!("after {steps} steps: {other:?}"),
        }
        let pushed = memory.word(after.rsp);
        let called = after.rsp == before.rsp - 8
            && pushed > before.rip
            && pushed <= before.rip + 15
            && after.rip != pushed;
        let returned = after.rsp == before.rsp + 8 && after.rip == top && shadow.ips.last() == Some(&top);
        // The system call of a signal's return brings the interrupted instruction back.
        let resumed = after.rsp != before.rsp
            && !called
            && !returned
            && shadow.ips.last() == Some(&after.rip)
            && signals > 0
            && memory.word(before.rip) & 0xffff == 0x050f;
        if called {
            shadow.ips.push(pushed);
        } else if returned || resumed {
            shadow.ips.pop();
        }
        deepest = deepest.max(shadow.ips.len());
        steps += 1;
        assert!(steps < TOO_MANY, "the program does not end");
        compare(pid, &modules, &memory, &mut cache, &shadow, steps);
    }
    ptrace::kill(pid).unwrap();
    child.wait().unwrap();
    println!("{steps} steps, {signals} signals, up to {deepest} frames");
    assert!(steps >= ENOUGH, "only {steps} steps");
    assert_eq!(signals, 2);
}

fn compare(
    pid: Pid,
    modules: &ModuleMap,
    memory: &ProcessMemory,
    cache: &mut Cache,
    shadow: &Shadow,
    step: usize,
) {
    let (found, stop) = callers(pid, modules, memory, cache);
    let expected: Vec<u64> = shadow.ips.iter().rev().copied().collect();
    if found != expected {
        let ip = ptrace::getregs(pid).unwrap().rip;
        let module = modules.at(VirtAddr::new(ip));
        let link = module.map(|module| ip.wrapping_sub(module.bias));
        let index = module.map(|module| module.index);
        panic!(
            "step {step} at {ip:#x} (module {index:?}, {link:x?}): {found:x?} ({stop}), expected {expected:x?}"
        );
    }
}

/// The program's own word on where `run` returns to.
fn told_by_the_program(program: &PathBuf, pid: Pid, memory: &ProcessMemory) -> u64 {
    let bytes = std::fs::read(program).unwrap();
    let file = object::read::elf::ElfFile64::<object::LittleEndian>::parse(&*bytes).unwrap();
    let link = file.symbols().find(|symbol| symbol.name() == Ok("return_to_main")).unwrap().address();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let first = maps.lines().find(|line| line.ends_with("/steps")).unwrap();
    let start = u64::from_str_radix(first.split('-').next().unwrap(), 16).unwrap();
    // A position-independent program is linked at 0.
    memory.word(start + link)
}
