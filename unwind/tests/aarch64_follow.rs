//! What the code of libc does, followed without its tables, against what the tables say: on aarch64.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests and their helpers may panic and tell what they saw"
)]

mod common;

use common::{functions, libc_aarch64};
use object::{Object, ObjectSection};
use vmc::{Fault, Limits, ReadError, VirtAddr, VirtualMemory};
use vmc_unwind::aarch64::Registers;
use vmc_unwind::cfi::{CfaRule, RegisterRule};
use vmc_unwind::gimli::{AArch64, Register};
use vmc_unwind::{Cache, Module, ModuleMap, Scratch, UnwindTable, Unwinder};

const STACK: u64 = 0xffff_0000_0000;
/// Words of the stack on both sides of the stack pointer's start.
const WORDS: usize = 0x8000;
const SP: u64 = STACK + WORDS as u64 * 4;

/// The text of a library where it is linked, and a stack.
struct Memory {
    text_at: u64,
    text: Vec<u8>,
    stack: Vec<u64>,
}

impl Memory {
    fn put(&mut self, at: u64, value: u64) {
        self.stack[((at - STACK) / 8) as usize] = value;
    }
}

impl VirtualMemory for Memory {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        let missing = ReadError::new(addr, Fault::NotMapped);
        let at = addr.get().wrapping_sub(self.text_at) as usize;
        if let Some(part) = self.text.get(at..).and_then(|text| text.get(..buf.len())) {
            buf.copy_from_slice(part);
            return Ok(());
        }
        let word = self.stack.get((addr.get().wrapping_sub(STACK) / 8) as usize).filter(|_| buf.len() == 8);
        buf.copy_from_slice(&word.ok_or(missing)?.to_le_bytes());
        Ok(())
    }
}

/// What each register began the function with.
fn began_with(number: u16) -> u64 {
    0x1_0000 + 16 * u64::from(number)
}

#[test]
fn the_code_does_what_the_tables_say() {
    let Some(sections) = libc_aarch64() else { return };
    let file = std::fs::read("/usr/aarch64-linux-gnu/lib/libc.so.6").unwrap();
    let object = object::read::elf::ElfFile64::<object::LittleEndian>::parse(&*file).unwrap();
    let text = object.section_by_name(".text").unwrap();
    let mut memory =
        Memory { text_at: text.address(), text: text.data().unwrap().to_vec(), stack: vec![0; WORDS] };
    // Where it returns to: behind the first call.
    let call = memory.text.chunks(4).position(|word| word[3] == 0x94).unwrap();
    let link = memory.text_at + 4 * call as u64 + 4;
    let range = VirtAddr::new(memory.text_at)..VirtAddr::new(memory.text_at + memory.text.len() as u64);
    let modules = ModuleMap::new(vec![Module { range: range.clone(), bias: 0, table: None, index: 0 }]);
    let limits = Limits { frames: 2, ..Limits::default() };
    let table = UnwindTable::new(sections.clone());
    let (mut scratch, mut cache) = (Scratch::new(), Cache::new());
    let (mut found, mut missed, mut wrong) = (0, 0, Vec::new());
    let (mut registers_known, mut registers_changed) = (0, 0);
    for function in
        functions(&sections).into_iter().filter(|function| range.contains(&VirtAddr::new(function.start)))
    {
        // Tables may say only behind several instructions what each of them has stored.
        let mut all_stored = Vec::new();
        let mut at = function.start;
        while at < function.end {
            let row = table.row_for(at, &mut scratch).unwrap();
            for (register, rule) in row.registers() {
                if let RegisterRule::Offset(place) = rule {
                    all_stored.push((register, place));
                }
            }
            at = row.range.end;
        }
        let places = (function.start..function.end).step_by(4 * 61);
        // As a function finds them, and changed where they were stored: tables say so up to an epilogue's end, when they
        // have been loaded again.
        for (at, changes) in places.flat_map(|at| [(at, false), (at, true)]) {
            let row = table.row_for(at, &mut scratch).unwrap();
            let CfaRule::RegisterAndOffset { register, offset } = row.cfa else { continue };
            if row.return_address == RegisterRule::Undefined || row.signal_frame {
                continue;
            }
            // A stack as the row has it; what is not stored is in its register, what is stored may have changed.
            let mut general: [u64; 31] = core::array::from_fn(|number| began_with(number as u16));
            general[30] = link;
            let cfa = match register {
                AArch64::SP => SP.wrapping_add_signed(offset),
                _ => SP + 0x4000,
            };
            for (register, place) in &all_stored {
                let value = if *register == AArch64::X30 { link } else { began_with(register.0) };
                memory.put(cfa.wrapping_add_signed(*place), value);
            }
            for (register, rule) in row.registers() {
                let RegisterRule::Offset(place) = rule else { continue };
                match general.get_mut(usize::from(register.0)) {
                    Some(record) if register == AArch64::X29 => *record = cfa.wrapping_add_signed(place),
                    Some(changed) if changes => *changed += 1,
                    _ => {}
                }
            }
            if register != AArch64::SP {
                general[usize::from(register.0)] = cfa.wrapping_add_signed(-offset);
            }
            let start = Registers::with_all(VirtAddr::new(at), VirtAddr::new(SP), general);
            let frames: Vec<_> =
                Unwinder::new(&modules, &memory, &limits).walk_aarch64(start, &mut cache).collect();
            match frames.get(1) {
                None => missed += 1,
                Some(caller) => {
                    found += 1;
                    let mut differs = (caller.address.address().get(), caller.sp.get()) != (link, cfa);
                    for number in 19..30 {
                        let value = caller.registers.get(Register(number));
                        registers_known += usize::from(value.is_some());
                        let changed = value.is_some()
                            && value != Some(began_with(number))
                            && value == start.get(Register(number));
                        registers_changed += usize::from(changed);
                        differs |= !changed && value.is_some_and(|value| value != began_with(number));
                    }
                    if differs {
                        wrong.push(format!("{at:#x} of {:#x}: {caller:x?}, CFA {cfa:#x}", function.start));
                    }
                }
            }
            for (_, place) in &all_stored {
                memory.put(cfa.wrapping_add_signed(*place), 0);
            }
        }
    }
    println!(
        "{found} found, {missed} not, {} wrong, {registers_known} registers, {registers_changed} changed",
        wrong.len()
    );
    assert!(found > 5_000 && missed * 20 < found, "{found} found, {missed} not");
    assert!(registers_changed * 50 < registers_known, "{registers_changed} of {registers_known} registers");
    assert!(wrong.len() * 1000 < found, "{} of {found}: {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
}
