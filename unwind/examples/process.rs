//! The stack of a process of this host that is blocked in a system call: no virtual machine anywhere.
//!
//! `cargo run -p vmc-unwind --example process -- PID`, or without a PID for a `sleep` of its own. The stack pointer and the
//! instruction pointer come from `/proc/PID/syscall`, memory from `/proc/PID/mem`, images from the files that are mapped.
#![allow(clippy::print_stdout, reason = "an example prints what it finds")]

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use object::{Object, ObjectSection, ObjectSegment};
use vmc::{Fault, Limits, ReadError, VirtAddr, VirtualMemory};
use vmc_unwind::x86_64::Registers;
use vmc_unwind::{Cache, Module, ModuleMap, Section, Sections, UnwindTable, Unwinder};

/// The memory of a process.
struct Memory(File);

impl VirtualMemory for Memory {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        self.0.read_exact_at(buf, addr.get()).map_err(|_| ReadError::new(addr, Fault::NotMapped))
    }
}

fn hex(text: &str) -> Result<u64, Box<dyn Error>> {
    Ok(u64::from_str_radix(text.trim_start_matches("0x"), 16)?)
}

/// An executable mapping (a line of `/proc/PID/maps`) as a module, where its file is an ELF image.
fn module(line: &str, index: usize) -> Result<Module, Box<dyn Error>> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next().and_then(|range| range.split_once('-')).ok_or("no range")?;
    let (start, end) = (hex(start)?, hex(end)?);
    let offset = hex(words.nth(1).ok_or("no offset")?)?;
    let bytes = fs::read(words.nth(2).ok_or("no file")?)?;
    let file = object::read::elf::ElfFile64::<object::LittleEndian>::parse(&*bytes)?;
    let section = |name| -> Section {
        let found = file.section_by_name(name);
        found.and_then(|s| Some(Section::new(s.address(), s.data().ok()?.to_vec()))).unwrap_or_default()
    };
    let sections = Sections {
        eh_frame_hdr: section(".eh_frame_hdr"),
        eh_frame: section(".eh_frame"),
        ..Sections::default()
    };
    // Where the mapped part of the file is linked tells how far the image was moved.
    let holds = |range: (u64, u64)| range.0 & !0xfff <= offset && offset < range.0 + range.1;
    let segment = file.segments().filter(|segment| holds(segment.file_range())).last().ok_or("no segment")?;
    let link = (segment.address() & !0xfff) + (offset - (segment.file_range().0 & !0xfff));
    let range = VirtAddr::new(start)..VirtAddr::new(end);
    Ok(Module {
        range,
        bias: start.wrapping_sub(link),
        table: Some(Arc::new(UnwindTable::new(sections))),
        index,
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut own = None;
    let pid = match std::env::args().nth(1) {
        Some(pid) => pid,
        None => {
            let child = Command::new("sleep").arg("10").spawn()?;
            std::thread::sleep(Duration::from_millis(200));
            own.insert(child).id().to_string()
        }
    };
    // nr, six arguments, stack pointer, instruction pointer; `running` where it is not blocked.
    let syscall = fs::read_to_string(format!("/proc/{pid}/syscall"))?;
    let words: Vec<&str> = syscall.split_whitespace().collect();
    let [.., sp, ip] = words.as_slice() else {
        return Err("the process is not blocked in a system call".into());
    };
    let registers = Registers::new(VirtAddr::new(hex(ip)?), VirtAddr::new(hex(sp)?));

    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let executable =
        maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.contains('x')));
    let modules =
        ModuleMap::new(executable.enumerate().filter_map(|(index, line)| module(line, index).ok()).collect());
    let memory = Memory(File::open(format!("/proc/{pid}/mem"))?);

    let (limits, mut cache) = (Limits::default(), Cache::new());
    let mut walk = Unwinder::new(&modules, &memory, &limits).walk(registers, &mut cache);
    for (number, frame) in walk.by_ref().enumerate() {
        println!("#{number:<3} {:#018x} sp {}", frame.address.address(), frame.sp);
    }
    println!("stopped: {}", walk.stop());
    if let Some(mut child) = own {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}
