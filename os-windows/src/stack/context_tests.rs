//! The processors of a real triage dump, and a trap frame that is written here.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "tests may panic and tell what they saw"
)]

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use vmc::bytes::{u32_at, u64_at};
use vmc::layout::Types;
use vmc::{Fault, Limits, ReadError, ReadExt, VirtAddr, VirtualMemory};
use vmc_types::IsfTypes;
use vmc_unwind::gimli::X86_64;

use super::super::fields::StackFields;
use super::frozen;
use crate::types::KernelTypes;

/// Pieces of memory.
struct Pieces(Vec<(u64, Vec<u8>)>);

impl VirtualMemory for Pieces {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        let found = self.0.iter().find_map(|(start, bytes)| {
            let from = usize::try_from(addr.get().checked_sub(*start)?).ok()?;
            bytes.get(from..from.checked_add(buf.len())?)
        });
        buf.copy_from_slice(found.ok_or(ReadError::new(addr, Fault::NotMapped))?);
        Ok(())
    }
}

#[path = "../../tests/common/skipped.rs"]
mod skipped;

use skipped::skip;

/// The shared data's folder of the triage dump, and the types of its kernel.
fn shared() -> Option<(PathBuf, IsfTypes)> {
    let folder = std::env::var_os("VMC_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from)
        .join("windows");
    let isf = folder.join("symbols/ntkrnlmp.pdb/5278AFF86C341677D7D7835C85B7B844-1.json.xz");
    if !isf.exists() {
        skip("the shared data's windows/symbols is not there");
        return None;
    }
    let Ok(unpacked) = Command::new("xz").arg("-dc").arg(isf).output() else {
        skip("xz is not installed");
        return None;
    };
    Some((folder.join("triage"), IsfTypes::parse(&unpacked.stdout, &Limits::default()).unwrap()))
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

#[test]
fn processors_that_a_real_crash_froze() {
    let Some((folder, types)) = shared() else { return };
    let file = std::fs::read(folder.join("triage_x64.dmp")).unwrap();
    let expected = std::fs::read(folder.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    // TRIAGE_DUMP64 at 0x2000: DataBlocksOffset and DataBlocksCount behind the debugger's data.
    let word = |at: usize| u32_at(&file, at).unwrap() as usize;
    let block = |index: usize| {
        let at = word(0x2078) + index * 16;
        (u64_at(&file, at).unwrap(), file[word(at + 8)..][..word(at + 12)].to_vec())
    };
    let memory = Pieces((0..word(0x207c)).map(block).collect());
    let base = number(&expected["kernel_base"]);
    let symbol = |name: &str| types.symbols().find(|symbol| symbol.name == name).unwrap().address + base;
    let blocks = VirtAddr::new(symbol("KiProcessorBlock"));
    let offset = |path| types.member("_KPRCB", path).unwrap().offset;
    let (stack, current, idle) = (offset("RspBase"), offset("CurrentThread"), offset("IdleThread"));
    let mut code: Vec<(u64, Vec<u8>)> =
        types.symbols().map(|symbol| (symbol.address + base, symbol.name.as_bytes().to_vec())).collect();
    code.sort();
    let fields = StackFields::new(&KernelTypes::new("isf", Box::new(types)));
    let fields = fields.unwrap().frozen.unwrap();
    for cpu in 0..expected["processors"].as_u64().unwrap() {
        let block = memory.read_pointer(blocks.wrapping_add(8 * cpu)).unwrap();
        if let Some(told) = expected["prcb"].get(std::format!("{cpu}")) {
            assert_eq!(block.get(), number(told));
        }
        let read = |offset| memory.read_u64(block.wrapping_add(offset)).unwrap();
        let idles = read(current) == read(idle);
        let registers = frozen(&memory, &fields, block);
        // The first one crashed: it is not frozen.
        let Some(registers) = registers else {
            assert_eq!(cpu, 0);
            continue;
        };
        assert!(cpu != 0);
        assert_eq!(registers.cs, 0x10);
        let depth = read(stack).wrapping_sub(registers.rsp());
        assert!(depth < 0x6000, "{cpu}: {:#x} is not on its stack", registers.rsp());
        let behind = code.partition_point(|(start, _)| *start <= registers.rip);
        let name = std::str::from_utf8(&code[behind - 1].1).unwrap();
        // An idle thread stands where the kernel idles; processor 5 runs another.
        assert_eq!(name.contains("Idle"), idles, "{cpu}: {name}");
        assert_eq!(idles, cpu != 5);
    }
}

#[test]
fn trap_frames_give_what_their_kind_of_entry_stores() {
    let Some((_, types)) = shared() else { return };
    let size = types.size_of("_KTRAP_FRAME").unwrap() as usize;
    let place = |name| types.member("_KTRAP_FRAME", name).unwrap().offset as usize;
    let values = [
        ("Rip", 0x1001u64),
        ("Rsp", 0x2002),
        ("Rbp", 0x3003),
        ("Rbx", 0x4004),
        ("Rsi", 0x5005),
        ("Rdi", 0x6006),
    ];
    let mut frame = vec![0; size];
    for (name, value) in values {
        frame[place(name)..][..8].copy_from_slice(&value.to_le_bytes());
    }
    let (segment, kind) = (place("SegCs"), place("ExceptionActive"));
    let fields = StackFields::new(&KernelTypes::new("isf", Box::new(types))).unwrap();
    let mut at = |code_segment, entry| {
        (frame[segment], frame[kind]) = (code_segment, entry);
        let memory = Pieces(vec![(0x7000, frame.clone())]);
        let registers = fields.trapped(&memory, VirtAddr::new(0x7000))?.unwrap();
        let saved = [X86_64::RBP, X86_64::RBX, X86_64::RSI, X86_64::RDI].map(|number| registers.get(number));
        Some((registers.ip().get(), registers.sp().get(), saved))
    };
    let all = [Some(0x3003), Some(0x4004), Some(0x5005), Some(0x6006)];
    assert_eq!(at(0x33, 2), Some((0x1001, 0x2002, all)));
    // An interrupt, an exception.
    for entry in [0, 1] {
        assert_eq!(at(0x33, entry), Some((0x1001, 0x2002, [Some(0x3003), None, None, None])));
    }
    // From the kernel itself.
    assert_eq!(at(0x10, 2), None);
}
