//! The host's libc, row by row, against what `readelf` says about it; and its signal return.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests and their helpers may panic and tell what they saw"
)]

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use common::{Words, functions, libc, sections_of};
use vmc::view::{FoundBy, Stop};
use vmc::{Limits, VirtAddr};
use vmc_unwind::cfi::{CfaRule, RegisterRule, Row};
use vmc_unwind::gimli::{Register, X86_64};
use vmc_unwind::x86_64::Registers;
use vmc_unwind::{AddressSize, Cache, Module, ModuleMap, Scratch, UnwindTable, Unwinder};

const NAMES: [&str; 17] = [
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15", "ra",
];
/// Debian's libc6-i386.
const LIBC_32: &str = "/usr/lib32/libc.so.6";
/// Debian's libc6-arm64-cross and its like.
const AARCH64: &str = "/usr/aarch64-linux-gnu/lib/";
const NAMES_AARCH64: [&str; 32] = [
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",
    "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "ra",
    "sp",
];
const NAMES_32: [&str; 9] = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "ra"];

/// Our rule in readelf's words.
fn cell(rule: RegisterRule) -> String {
    match rule {
        RegisterRule::Unspecified | RegisterRule::Undefined => "u".into(),
        RegisterRule::SameValue => "s".into(),
        RegisterRule::Offset(offset) => format!("c{offset:+}"),
        RegisterRule::ValOffset(offset) => format!("v{offset:+}"),
        RegisterRule::Register(register) => format!("r{}", register.0),
        RegisterRule::Expression(_) => "exp".into(),
        RegisterRule::ValExpression(_) => "vexp".into(),
    }
}

fn compare(names: &[&str], row: &Row, columns: &[&str], cells: &[&str], at: u64) {
    let cfa = match row.cfa {
        CfaRule::RegisterAndOffset { register, offset } => {
            format!("{}{offset:+}", names[usize::from(register.0)])
        }
        CfaRule::Expression(_) => "exp".into(),
    };
    assert_eq!(cfa, cells[0], "CFA at {at:#x}");
    let mut theirs: HashMap<&str, &str> = columns.iter().copied().zip(cells[1..].iter().copied()).collect();
    for (number, name) in (0u16..).zip(names) {
        let rule = if *name == "ra" { row.return_address } else { row.register(Register(number)) };
        assert_eq!(cell(rule), theirs.remove(name).unwrap_or("u"), "{name} at {at:#x}");
    }
}

/// Compares at every address of every FDE of the file at `path`; gives how many FDEs, rows and addresses there were.
fn as_readelf_says(path: &str) -> Option<(usize, usize, u64)> {
    let Some(sections) = sections_of(path) else {
        common::skip(&format!("{path} is not there, or no little-endian ELF file"));
        return None;
    };
    let Ok(output) = Command::new("readelf").args(["--debug-dump=frames-interp", path]).output() else {
        common::skip("readelf, the oracle, is not there");
        return None;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let aarch64 = path.starts_with(AARCH64);
    // Its instructions begin at every fourth.
    let step = if aarch64 { 4 } else { 1 };
    let names: &[&str] = match sections.address_size {
        AddressSize::Four => &NAMES_32,
        AddressSize::Eight if aarch64 => &NAMES_AARCH64,
        AddressSize::Eight => &NAMES,
    };
    let table = UnwindTable::new(sections);
    let mut scratch = Scratch::new();
    let (mut functions, mut rows, mut addresses) = (0, 0, 0);
    // A CIE's own rules, by its offset: those of an FDE without instructions.
    let mut initial: HashMap<&str, (Vec<&str>, Vec<&str>)> = HashMap::new();
    // Blocks: a head, the columns' names, rows.
    for block in text.split("\n\n") {
        let mut lines = block.lines().filter(|line| !line.is_empty() && !line.starts_with("Contents of"));
        let Some(head) = lines.next() else { continue };
        let columns: Vec<&str> =
            lines.next().map(|names| names.split_whitespace().skip(2).collect()).unwrap_or_default();
        let number = |text: &str| u64::from_str_radix(text.trim(), 16).unwrap();
        let mut listed: Vec<(u64, Vec<&str>)> = Vec::new();
        for line in lines {
            // Another register is written twice: `r1 (rdx)`.
            let mut cells = line.split_whitespace().filter(|cell| !cell.starts_with('('));
            listed.push((number(cells.next().unwrap()), cells.collect()));
        }
        if head.contains(" CIE ") {
            let cells = listed.first().map(|(_, cells)| cells.clone()).unwrap_or_default();
            initial.insert(head.split(' ').next().unwrap(), (columns, cells));
            continue;
        }
        let Some((_, range)) = head.split_once("pc=") else { continue };
        let (start, end) = range.split_once("..").unwrap();
        let (start, end) = (number(start), number(end));
        functions += 1;
        let mut columns = columns;
        if listed.is_empty() {
            let cie = head.split("cie=").nth(1).unwrap().split(' ').next().unwrap();
            let (names, cells) = initial[cie].clone();
            columns = names;
            listed.push((start, cells));
        }
        for (index, (at, cells)) in listed.iter().enumerate() {
            let next = listed.get(index + 1).map_or(end, |(next, _)| *next);
            rows += usize::from(*at < next);
            for address in (*at..next).step_by(step) {
                let row = table.row_for(address, &mut scratch).unwrap();
                assert_eq!(row.function, start..end);
                compare(names, &row, &columns, cells, address);
                addresses += 1;
            }
        }
    }
    println!("{path}: {functions} functions, {rows} rows, {addresses} addresses");
    Some((functions, rows, addresses))
}

/// A library of the host.
fn library(name: &str, least: usize) {
    if let Some((functions, rows, _)) = as_readelf_says(&format!("/lib/x86_64-linux-gnu/{name}")) {
        assert!(functions >= least && rows > functions, "{functions} functions, {rows} rows");
    }
}

#[test]
fn libc_is_as_readelf_says() {
    library("libc.so.6", 1000);
}

#[test]
fn the_dynamic_linker_is_as_readelf_says() {
    library("ld-linux-x86-64.so.2", 100);
}

#[test]
fn libgcc_is_as_readelf_says() {
    library("libgcc_s.so.1", 50);
}

#[test]
fn libstdcpp_is_as_readelf_says() {
    let name = "libstdc++.so.6";
    if ["/lib/x86_64-linux-gnu/", "/usr/lib/x86_64-linux-gnu/"]
        .iter()
        .all(|dir| !Path::new(dir).join(name).exists())
    {
        return common::skip("libstdc++.so.6 is not there");
    }
    library(name, 1000);
}

#[test]
fn a_32_bit_libc_is_as_readelf_says() {
    if let Some((functions, rows, _)) = as_readelf_says(LIBC_32) {
        assert!(functions > 1000 && rows > functions, "{functions} functions, {rows} rows");
    }
}

/// Signed return addresses, and registers that are stored without a frame pointer.
#[test]
fn aarch64_libraries_are_as_readelf_says() {
    for (name, least) in
        [("libc.so.6", 1000), ("libgcc_s.so.1", 50), ("libstdc++.so.6", 1000), ("ld-linux-aarch64.so.1", 100)]
    {
        if let Some((functions, rows, _)) = as_readelf_says(&format!("{AARCH64}{name}")) {
            assert!(functions >= least && rows > functions, "{name}: {functions} functions, {rows} rows");
        }
    }
}

#[test]
fn a_rust_program_is_as_readelf_says() {
    // This very test.
    let program = std::env::current_exe().unwrap();
    let (functions, rows, _) =
        as_readelf_says(program.to_str().unwrap()).unwrap_or((usize::MAX, usize::MAX, 0));
    assert!(functions > 1000 && rows > 1000, "{functions} functions, {rows} rows");
}

/// Go's linker writes `.debug_frame` and no `.eh_frame`.
#[test]
fn a_go_program_is_as_readelf_says() {
    let directory = std::env::temp_dir().join(format!("vmc-go-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let source = "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(\"hello\") }\n";
    std::fs::write(directory.join("main.go"), source).unwrap();
    let mut go = Command::new("go");
    go.args(["build", "-ldflags=-compressdwarf=false", "-o", "program", "main.go"]);
    go.current_dir(&directory).env("GO111MODULE", "off").env("CGO_ENABLED", "0");
    let built = go.env("HOME", &directory).env("GOCACHE", directory.join("cache")).output();
    match built {
        Err(_) => common::skip("go is not there"),
        Ok(built) => {
            assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
            let program = directory.join("program");
            let (functions, rows, _) =
                as_readelf_says(program.to_str().unwrap()).unwrap_or((usize::MAX, usize::MAX, 0));
            assert!(functions > 1000 && rows > 1000, "{functions} functions, {rows} rows");
        }
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn the_index_finds_what_the_header_finds() {
    let Some(sections) = libc() else { return };
    let indexed = vmc_unwind::Sections { eh_frame_hdr: Default::default(), ..sections.clone() };
    let (by_header, by_index) = (UnwindTable::new(sections.clone()), UnwindTable::new(indexed));
    let mut scratch = Scratch::new();
    for function in functions(&sections) {
        for address in [function.start.wrapping_sub(1), function.start, function.end - 1, function.end] {
            let row = by_header.row_for(address, &mut scratch);
            assert_eq!(row, by_index.row_for(address, &mut scratch), "{address:#x}");
        }
    }
    let address = vmc_unwind::eh_frame_address(&sections.eh_frame_hdr, sections.address_size);
    assert_eq!(address, Some(sections.eh_frame.address));
}

/// glibc's restorer: the registers come out of the `ucontext` that the kernel left on the stack.
#[test]
fn the_signal_return_of_libc_gives_all_registers() {
    let Some(sections) = libc() else { return };
    let table = UnwindTable::new(sections.clone());
    let mut scratch = Scratch::new();
    let signal = functions(&sections)
        .into_iter()
        .find(|function| table.row_for(function.start, &mut scratch).is_ok_and(|row| row.signal_frame));
    let Some(signal) = signal else {
        common::skip("this libc has no marked signal return");
        return;
    };
    let stack = 0x7ffc_0000_0000u64;
    // uc_flags, uc_link, stack_t, then r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip.
    let mut words = vec![0u64; 5];
    words.extend(0x108..=0x10f);
    words.extend([0x105, 0x104, 0x106, 0x103, 0x101, 0x100, 0x102, 0x1234_5678, 0xdead_beef]);
    let memory = Words(stack, words);
    let range = VirtAddr::new(0)..VirtAddr::new(1 << 30);
    let modules = ModuleMap::new(vec![Module { range, bias: 0, table: Some(table.into()), index: 0 }]);
    // The table begins one byte before the code, for the look-up of a return address.
    let registers = Registers::new(VirtAddr::new(signal.start + 1), VirtAddr::new(stack));
    let limits = Limits::default();
    let mut cache = Cache::new();
    let mut walk = Unwinder::new(&modules, &memory, &limits).walk(registers, &mut cache);
    let frames: Vec<_> = walk.by_ref().collect();
    assert_eq!(walk.stop(), Stop::NoUnwindInfo(VirtAddr::new(0xdead_beef)));
    let interrupted = frames.last().unwrap();
    assert_eq!((frames.len(), interrupted.found_by), (2, FoundBy::SignalFrame));
    for number in (0..16).filter(|number| *number != 7) {
        assert_eq!(interrupted.registers.get(Register(number)), Some(0x100 + u64::from(number)));
    }
    assert_eq!(interrupted.registers.get(X86_64::RSP), Some(0x1234_5678));
    assert_eq!(frames[0].cfa, Some(VirtAddr::new(0x1234_5678)));
}
