//! Unwind records of real ARM64 PE images: full ones against what `llvm-readobj` says about them, packed ones against the
//! instructions of the functions themselves.
//!
//! The images: `windows/seh/ARM64` of the shared data, and those in the directories of `VMC_PE_ARM64_DIRS`.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "tests and their helpers may panic and tell what they saw"
)]

mod common;

use std::path::Path;
use std::process::Command;

use common::pe::{PeFile, images};
use vmc::{ReadExt, VirtualMemory};
use vmc_unwind::pe::arm64::{Entry, Operation, Record, RecordError, Register, UnwindData};

fn name(register: Register) -> String {
    match register {
        Register::X(number) => format!("x{number}"),
        Register::D(number) => format!("d{number}"),
        Register::Q(number) => format!("q{number}"),
    }
}

/// An operation of a prolog in llvm-readobj's words.
fn prolog_words(operation: Operation) -> String {
    match operation {
        Operation::Allocate { size } => format!("sub sp, #{size}"),
        Operation::Save { first, second, offset, pre_indexed } => {
            let (what, second) = match second {
                Some(second) => ("stp", format!(", {}", name(second))),
                None => ("str", String::new()),
            };
            let place = if pre_indexed { format!("[sp, #-{offset}]!") } else { format!("[sp, #{offset}]") };
            format!("{what} {}{second}, {place}", name(first))
        }
        Operation::SetFrame => "mov fp, sp".into(),
        Operation::AddFrame { offset } => format!("add fp, sp, #{offset}"),
        Operation::Nop => "nop".into(),
        Operation::End => "end".into(),
        Operation::EndOfPart => "end_c".into(),
        Operation::SaveNext => "save next".into(),
        Operation::TrapFrame => "trap frame".into(),
        Operation::MachineFrame => "machine frame".into(),
        Operation::Context => "context".into(),
        Operation::EmulatedContext => "EC context".into(),
        Operation::ClearUnwoundToCall => "clear unwound to call".into(),
        // It is younger than the llvm-readobj that is usual.
        Operation::SignReturnAddress => "Bad opcode!".into(),
    }
}

/// The same of an epilog: undone.
fn epilog_words(operation: Operation) -> String {
    match operation {
        Operation::Allocate { size } => format!("add sp, #{size}"),
        Operation::Save { first, second, offset, pre_indexed } => {
            let (what, second) = match second {
                Some(second) => ("ldp", format!(", {}", name(second))),
                None => ("ldr", String::new()),
            };
            let place = if pre_indexed { format!("[sp], #{offset}") } else { format!("[sp, #{offset}]") };
            format!("{what} {}{second}, {place}", name(first))
        }
        Operation::SetFrame => "mov sp, fp".into(),
        Operation::AddFrame { offset } => format!("sub sp, fp, #{offset}"),
        other => prolog_words(other),
    }
}

/// The lines of code listings of a block, list by list: the prologue's, then each epilogue's.
fn listings(block: &str) -> Vec<Vec<String>> {
    let mut lists: Vec<Vec<String>> = Vec::new();
    let mut inside = false;
    for line in block.lines().map(str::trim) {
        match line {
            "Prologue [" | "Epilogue [" | "Opcodes [" => {
                lists.push(Vec::new());
                inside = true;
            }
            "]" => inside = false,
            line if inside => lists.last_mut().unwrap().push(line.split_once("; ").unwrap().1.to_owned()),
            _ => {}
        }
    }
    lists
}

fn compare_record(file: &PeFile, rva: u32, block: &str, who: &str) -> bool {
    let record = match Record::read(file, file.module.at(rva)) {
        // Images that hold x64 code too (ARM64X) have its functions behind: nothing of ours.
        Err(RecordError::Version { version, .. }) => {
            assert!(block.contains(&format!("Version: {version}\n")), "{who}");
            return false;
        }
        other => other.unwrap(),
    };
    assert!(block.contains(&format!("FunctionLength: {}\n", record.length)), "{who}");
    assert!(
        block.contains(&format!("ExceptionData: {}\n", if record.has_handler { "Yes" } else { "No" })),
        "{who}"
    );
    if let Some(handler) = record.handler {
        let at = file.module.at(handler).get();
        assert!(block.contains(&format!("Routine: {at:#X}").replace("0X", "0x")), "{who}");
    }
    let list = |index: usize, words: fn(Operation) -> String| -> Vec<String> {
        record.codes(index).map(|code| words(code.unwrap().operation)).collect()
    };
    let mut ours = vec![list(0, prolog_words)];
    // An epilog at the function's end that undoes just the prolog is not listed.
    let listed = record.epilogs.iter().filter(|epilog| epilog.start.is_some() || epilog.codes != 0);
    ours.extend(listed.map(|epilog| list(epilog.codes, epilog_words)));
    let theirs = listings(block);
    assert_eq!(ours.len(), theirs.len(), "{who}");
    for (ours, theirs) in ours.iter().zip(&theirs) {
        // It reads on after `end` where a record has more codes. Codes of any register are younger than it, and one that
        // it does not know takes a byte for it.
        let unknown =
            ours.iter().zip(theirs).position(|(ours, theirs)| theirs == "Bad opcode!" && ours != theirs);
        let known = unknown.unwrap_or(ours.len());
        assert!(known <= theirs.len(), "{who}");
        assert_eq!(ours[..known], theirs[..known], "{who}");
    }
    true
}

/// The instruction that does it.
fn instruction(operation: Operation) -> Option<u32> {
    let pair = |base: u32, first: u8, second: u8, offset: i64, size: i64| {
        let scaled = (offset / size) as u32 & 0x7f;
        base | scaled << 15 | u32::from(second) << 10 | 31 << 5 | u32::from(first)
    };
    Some(match operation {
        Operation::Allocate { size } if size < 4096 => 0xd100_03ff | size << 10,
        Operation::Allocate { .. } => return None,
        Operation::Save { first, second, offset, pre_indexed } => {
            let offset = i64::from(offset);
            match (first, second) {
                (Register::X(a), Some(Register::X(b))) if pre_indexed => pair(0xa980_0000, a, b, -offset, 8),
                (Register::X(a), Some(Register::X(b))) => pair(0xa900_0000, a, b, offset, 8),
                (Register::D(a), Some(Register::D(b))) if pre_indexed => pair(0x6d80_0000, a, b, -offset, 8),
                (Register::D(a), Some(Register::D(b))) => pair(0x6d00_0000, a, b, offset, 8),
                (Register::X(a), None) if pre_indexed => {
                    0xf800_0c00 | ((-offset) as u32 & 0x1ff) << 12 | 31 << 5 | u32::from(a)
                }
                (Register::X(a), None) => 0xf900_0000 | ((offset / 8) as u32) << 10 | 31 << 5 | u32::from(a),
                (Register::D(a), None) if pre_indexed => {
                    0xfc00_0c00 | ((-offset) as u32 & 0x1ff) << 12 | 31 << 5 | u32::from(a)
                }
                (Register::D(a), None) => 0xfd00_0000 | ((offset / 8) as u32) << 10 | 31 << 5 | u32::from(a),
                _ => return None,
            }
        }
        Operation::SetFrame => 0x9100_03fd,
        Operation::SignReturnAddress => 0xd503_237f,
        _ => return None,
    })
}

/// Packed functions whose code begins with the instructions that were decoded.
fn packed_by_code(file: &PeFile, entry: &Entry) -> Option<bool> {
    let UnwindData::Packed(packed) = entry.data else { return None };
    if packed.fragment {
        return None;
    }
    for (index, operation) in packed.operations().iter().rev().enumerate() {
        let at = file.module.at(entry.begin + index as u32 * 4);
        let code: u32 = file.read_value(at).ok()?;
        match instruction(*operation) {
            // Parameters may be stored in several ways.
            None => {}
            Some(expected) if expected == code => {}
            Some(_) => return Some(false),
        }
    }
    Some(true)
}

#[test]
fn records_are_read_as_llvm_and_the_code_say() {
    let Some(images) = images("ARM64", "VMC_PE_ARM64_DIRS") else { return };
    if Command::new("llvm-readobj").arg("--version").output().is_err() {
        return common::skip("llvm-readobj is not installed");
    }
    let (mut records, mut packed, mut odd) = (0, 0, 0);
    for path in images {
        let file = PeFile::open(&path);
        let who = path.file_name().unwrap().display().to_string();
        for (index, block) in said_of(&path).iter().enumerate() {
            let mut bytes = [0; 8];
            let at = file.module.at(file.module.exceptions.0 + index as u32 * Entry::SIZE);
            file.read(at, &mut bytes).unwrap();
            let entry = Entry::from_bytes(bytes);
            let begin = file.module.at(entry.begin).get();
            assert!(
                block.contains(&format!("Function: {begin:#X}").replace("0X", "0x")),
                "{who} {index}: {block}"
            );
            match entry.data {
                UnwindData::Record(rva) => {
                    if !compare_record(&file, rva, block, &format!("{who} {begin:#x}")) {
                        println!("{who}: {index} functions are of this architecture");
                        break;
                    }
                    records += 1;
                }
                UnwindData::Packed(fields) => {
                    for field in [
                        format!("FunctionLength: {}\n", fields.length),
                        format!("RegF: {}\n", fields.floats),
                        format!("RegI: {}\n", fields.integers),
                        format!("CR: {}\n", fields.chain),
                        format!("FrameSize: {}\n", fields.frame_size),
                    ] {
                        assert!(block.contains(&field), "{who} {begin:#x}: {field} {block}");
                    }
                    match packed_by_code(&file, &entry) {
                        Some(true) => packed += 1,
                        Some(false) => {
                            odd += 1;
                            println!("{who} {begin:#x}: {fields:?} {:?}", fields.operations());
                        }
                        None => {}
                    }
                }
                UnwindData::Reserved(word) => panic!("{who} {begin:#x}: {word:#x}"),
            }
        }
    }
    println!("{records} records, {packed} packed functions as their code says, {odd} not");
    assert!(records >= 100 && packed >= 30 && odd == 0, "{records} {packed} {odd}");
}

/// What llvm-readobj says, a block a function. It may break down in the middle: what it has said before holds.
fn said_of(path: &Path) -> Vec<String> {
    let said = Command::new("llvm-readobj").arg("--unwind").arg(path).output().unwrap().stdout;
    let said = String::from_utf8(said).unwrap();
    let blocks = said.split("  RuntimeFunction {").skip(1);
    blocks.filter(|block| block.contains("\n  }\n")).map(str::to_owned).collect()
}
