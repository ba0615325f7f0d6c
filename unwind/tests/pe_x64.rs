//! Unwind information of real x64 PE images, function by function, against what `llvm-readobj` says about it.
//!
//! The images: `windows/seh/x64` of the shared data, and those in the directories of `VMC_PE_X64_DIRS` (separated by colons).

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests and their helpers may panic and tell what they saw"
)]

mod common;

use std::path::Path;
use std::process::Command;

use common::pe::{PeFile, images};
use vmc_unwind::pe::x64::{Chained, Operation, UnwindInfo};

const REGISTERS: [&str; 16] = [
    "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12", "R13", "R14",
    "R15",
];

/// A function in llvm-readobj's words, as far as they tell what was decoded.
fn words(file: &PeFile, begin: u32, end: u32, rva: u32) -> Vec<String> {
    let base = file.module.range.start;
    let info = UnwindInfo::read(file, file.module.at(rva)).unwrap();
    let frame = |unset: &str, set: String| if info.frame.is_some() { set } else { unset.to_owned() };
    let (register, offset) = info.frame.unwrap_or_default();
    let mut lines = vec![
        format!("StartAddress: ({:#X})", base.get() + u64::from(begin)).replace("0X", "0x"),
        format!("EndAddress: ({:#X})", base.get() + u64::from(end)).replace("0X", "0x"),
        format!("Version: {}", info.version),
        format!("PrologSize: {}", info.prolog_size),
        format!(
            "FrameRegister: {}",
            frame("-", format!("{} ({register:#x})", REGISTERS[usize::from(register)]))
        ),
        format!("FrameOffset: {}", frame("-", format!("{:#X}", offset / 16)).replace("0X", "0x")),
    ];
    for code in info.codes() {
        let code = code.unwrap();
        let register = |number: u8| REGISTERS[usize::from(number)];
        let text = match code.operation {
            Operation::Push { register: number } => format!("PUSH_NONVOL reg={}", register(number)),
            Operation::Allocate { size } if size <= 128 => format!("ALLOC_SMALL size={size}"),
            Operation::Allocate { size } => format!("ALLOC_LARGE size={size}"),
            Operation::SetFrame => {
                format!("SET_FPREG reg={}, offset={:#X}", register(info.frame.unwrap().0), offset)
                    .replace("0X", "0x")
            }
            Operation::Save { register: number, offset } => {
                format!("SAVE_NONVOL reg={}, offset={offset:#X}", register(number)).replace("0X", "0x")
            }
            Operation::SaveXmm { register, offset } => {
                format!("SAVE_XMM128 reg=XMM{register}, offset={offset:#X}").replace("0X", "0x")
            }
            Operation::MachineFrame { error_code } => {
                format!("PUSH_MACHFRAME errcode={}", if error_code { "yes" } else { "no" })
            }
            Operation::Epilog { .. } => "EPILOG".to_owned(),
        };
        lines.push(format!("0x{:02X}: {text}", code.prolog_offset));
    }
    match info.chained {
        Chained::Nothing => {}
        Chained::Handler(rva) => {
            lines.push(format!("Handler: ({:#X})", base.get() + u64::from(rva)).replace("0X", "0x"));
        }
        Chained::Parent(parent) => {
            lines.push("Chained {".to_owned());
            lines.push(
                format!("StartAddress: ({:#X})", base.get() + u64::from(parent.begin)).replace("0X", "0x"),
            );
            lines
                .push(format!("EndAddress: ({:#X})", base.get() + u64::from(parent.end)).replace("0X", "0x"));
        }
    }
    lines
}

/// What llvm-readobj says of one function, without what is not compared.
fn theirs(block: &str) -> Vec<String> {
    let kept = |line: &&str| {
        let named = ["StartAddress", "EndAddress", "Version", "PrologSize", "Frame", "Handler", "Chained"];
        named.iter().any(|name| line.starts_with(name)) || (line.starts_with("0x") && line.contains(": "))
    };
    block.lines().map(str::trim).filter(kept).map(str::to_owned).collect()
}

fn compare(path: &Path) -> Option<(usize, usize)> {
    let file = PeFile::open(path);
    // It may break down in the middle of an image: what it has said before holds.
    let said = Command::new("llvm-readobj").arg("--unwind").arg(path).output().ok()?.stdout;
    let said = String::from_utf8(said).unwrap();
    let functions = file.module.functions(&file);
    let (mut compared, mut index) = (0, 0);
    let blocks: Vec<&str> = said.split("  RuntimeFunction {").skip(1).collect();
    for block in blocks.iter().filter(|block| block.contains("\n  }\n")) {
        let entry = functions.get(index).unwrap();
        index += 1;
        // The parent of a part has a block of its own within the part's.
        let ours = words(&file, entry.begin, entry.end, entry.unwind_info);
        let theirs = theirs(block);
        assert_eq!(ours, theirs[..ours.len().min(theirs.len())], "{}: {:#x}", path.display(), entry.begin);
        assert!(theirs.len() == ours.len() || block.contains("Chained"), "{}", path.display());
        assert_eq!(functions.find(entry.begin).unwrap(), Some(entry));
        assert_eq!(functions.find(entry.end - 1).unwrap(), Some(entry));
        compared += 1;
    }
    Some((compared, functions.count() as usize))
}

#[test]
fn unwind_information_is_read_as_llvm_reads_it() {
    let Some(images) = images("x64", "VMC_PE_X64_DIRS") else { return };
    if Command::new("llvm-readobj").arg("--version").output().is_err() {
        return common::skip("llvm-readobj is not installed");
    }
    let mut sum = (0, 0);
    for path in images {
        let (compared, all) = compare(&path).unwrap();
        println!("{}: {compared} of {all} functions", path.file_name().unwrap().display());
        sum = (sum.0 + compared, sum.1 + all);
    }
    println!("{} of {} functions compared", sum.0, sum.1);
    assert!(sum.0 >= 300, "{sum:?}");
}
