//! Kernel stacks of aarch64 made by hand.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test may panic, and so may its helpers")]

mod common;

use std::ops::Range;

use common::Random;
use vmc::view::{FoundBy, Stop};
use vmc::{Fault, Limits, ReadError, VirtAddr, VirtualMemory};
use vmc_unwind::aarch64::Registers;
use vmc_unwind::aarch64::kernel::{KernelCode, KernelUnwinder, SavedRegisters};
use vmc_unwind::gimli::{AArch64, Register};
use vmc_unwind::{CodeAddress, Frame};

const TEXT: u64 = 0xffff_8000_0800_0000;
const STACK: u64 = 0xffff_8000_1000_0000;
const IRQ: u64 = 0xffff_8000_0000_8000;
/// Words of each stack.
const WORDS: usize = 512;
/// Where `stackframe` lies in `struct pt_regs`: x0 to x30, sp, pc, pstate, x0 of a system call, its number and some.
const RECORD: u64 = 304;

/// A function every 64 bytes. 0: a leaf. 1: makes a record, calls, returns. 2: makes one and never returns.
const CODE: [&[u32]; 3] = [
    // ldr x1, [x0]; add x0, x0, x1; ret
    &[0xf940_0001, 0x8b01_0000, 0xd65f_03c0],
    // paciasp; stp x29, x30, [sp, #-16]!; mov x29, sp; blr x0; ldp x29, x30, [sp], #16; autiasp; ret
    &[0xd503_233f, 0xa9bf_7bfd, 0x9100_03fd, 0xd63f_0000, 0xa8c1_7bfd, 0xd503_23bf, 0xd65f_03c0],
    // stp x29, x30, [sp, #-32]!; mov x29, sp; 1: blr x0; nop; b 1b
    &[0xa9be_7bfd, 0x9100_03fd, 0xd63f_0000, 0xd503_201f, 0x17ff_fffd],
];

/// In the leaf; behind the calls of the others.
const LEAF: u64 = TEXT + 4;
const CALLED: u64 = TEXT + 64 + 16;
const ENDLESS: u64 = TEXT + 128 + 12;

struct Kernel {
    code: Vec<u8>,
    task: Vec<u64>,
    irq: Vec<u64>,
    symbols: bool,
}

impl Kernel {
    fn new() -> Self {
        let mut code = vec![0; 0x1000];
        for (index, function) in CODE.iter().enumerate() {
            for (place, word) in code[index * 64..].chunks_mut(4).zip(*function) {
                place.copy_from_slice(&word.to_le_bytes());
            }
        }
        Self { code, task: vec![0; WORDS], irq: vec![0; WORDS], symbols: true }
    }

    fn put(&mut self, at: u64, words: &[u64]) {
        let (base, stack) = if at >= STACK { (STACK, &mut self.task) } else { (IRQ, &mut self.irq) };
        let place = ((at - base) / 8) as usize;
        stack[place..place + words.len()].copy_from_slice(words);
    }

    /// The registers that an exception stores at `at`, with a record by this kernel's custom.
    fn put_registers(&mut self, at: u64, registers: &Registers, pstate: u64, metadata: bool) {
        let all = (0..=32).map(|number| registers.get(Register(number)).unwrap_or(0));
        let words: Vec<u64> = all.chain([pstate]).collect();
        self.put(at, &words);
        let user = pstate & 0xc == 0;
        let record = match (metadata, user) {
            (false, false) => [words[29], words[32], 0],
            (false, true) => [0, 0, 0],
            (true, _) => [0, 0, if user { 1 } else { 2 }],
        };
        self.put(at + RECORD, &record);
    }
}

impl VirtualMemory for Kernel {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        for (done, byte) in buf.iter_mut().enumerate() {
            let at = addr.get().wrapping_add(done as u64);
            let of = |base: u64, words: &[u64]| {
                let word = words.get((at.wrapping_sub(base) / 8) as usize).filter(|_| at >= base)?;
                Some(word.to_le_bytes()[(at % 8) as usize])
            };
            let found = self.code.get(at.wrapping_sub(TEXT) as usize).copied();
            let found = found.or_else(|| of(STACK, &self.task)).or_else(|| of(IRQ, &self.irq));
            let missing = ReadError { done, ..ReadError::new(VirtAddr::new(at), Fault::NotMapped) };
            *byte = found.ok_or(missing)?;
        }
        Ok(())
    }
}

impl KernelCode for Kernel {
    fn is_code(&self, address: VirtAddr) -> bool {
        (TEXT..TEXT + 0x1000).contains(&address.get())
    }

    fn function_start(&self, address: VirtAddr) -> Option<VirtAddr> {
        self.symbols.then(|| VirtAddr::new(address.get() & !63))
    }
}

fn stack_at(start: u64) -> Range<VirtAddr> {
    VirtAddr::new(start)..VirtAddr::new(start + WORDS as u64 * 8)
}

fn registers(pc: u64, sp: u64, fp: u64, link: u64) -> Registers {
    let mut general = [0x77; 31];
    (general[29], general[30]) = (fp, link);
    Registers::with_all(VirtAddr::new(pc), VirtAddr::new(sp), general)
}

fn walk_on(
    kernel: &Kernel,
    start: Registers,
    returned: bool,
    stacks: &[Range<VirtAddr>],
) -> (Vec<Frame<Registers>>, Stop) {
    let limits = Limits { stack_switches: 2, ..Limits::default() };
    let address = if returned {
        CodeAddress::ReturnAddress(start.ip())
    } else {
        CodeAddress::InstructionPointer(start.ip())
    };
    let saved = SavedRegisters::new(RECORD).unwrap();
    let mut walk = KernelUnwinder::new(kernel, kernel, saved, stacks, &limits).walk(start, address);
    let frames = walk.by_ref().collect();
    (frames, walk.stop())
}

fn walk(kernel: &Kernel, start: Registers) -> (Vec<Frame<Registers>>, Stop) {
    walk_on(kernel, start, false, &[stack_at(STACK), stack_at(IRQ)])
}

fn ips(frames: &[Frame<Registers>]) -> Vec<u64> {
    frames.iter().map(|frame| frame.address.address().get()).collect()
}

#[test]
fn records_lead_to_the_last_one() {
    for last in [[0, 0, 0], [0, 0, 1]] {
        for symbols in [true, false] {
            let mut kernel = Kernel::new();
            kernel.symbols = symbols;
            // The last one lies where the program's registers do; return addresses are signed.
            kernel.put(STACK + 0x100, &[STACK + 0x140, CALLED ^ 0x0055 << 48]);
            kernel.put(STACK + 0x140, &[STACK + 0x200, ENDLESS]);
            kernel.put(STACK + 0x200, &last);
            let mut start = Registers::new(VirtAddr::new(CALLED), VirtAddr::new(STACK + 0x80));
            start.set(AArch64::X29, STACK + 0x100);
            let (frames, stop) = walk_on(&kernel, start, true, &[stack_at(STACK)]);
            assert_eq!((ips(&frames), stop), (vec![CALLED, CALLED, ENDLESS], Stop::End));
            assert!(frames[1].address.is_return_address());
            assert_eq!(
                (frames[1].found_by, frames[1].registers.get(AArch64::X29)),
                (FoundBy::FramePointer, Some(STACK + 0x140))
            );
            // The function takes 16 bytes, and has its record at the bottom of them.
            let cfa = |record: u64| symbols.then_some(VirtAddr::new(record + 16));
            assert_eq!((frames[0].cfa, frames[1].cfa), (cfa(STACK + 0x100), cfa(STACK + 0x140)));
            assert_eq!(frames[1].sp, cfa(STACK + 0x100).unwrap_or(VirtAddr::new(STACK + 0x140)));
            assert_eq!((frames[2].sp, frames[2].cfa), (VirtAddr::new(STACK + 0x200 - RECORD), None));
        }
    }
    // Until 5.13 a kernel thread's chain ends with no x29.
    let mut kernel = Kernel::new();
    kernel.put(STACK + 0x100, &[0, CALLED]);
    let (frames, stop) = walk_on(&kernel, registers(CALLED, STACK, STACK + 0x100, 0), true, &[]);
    assert_eq!((ips(&frames), stop), (vec![CALLED; 2], Stop::End));
}

#[test]
fn exceptions_are_crossed() {
    for metadata in [false, true] {
        let mut kernel = Kernel::new();
        // On the interrupts' stack, from there to the thread's; there a leaf was interrupted, above it a program.
        let entry = STACK + 0x100;
        kernel.put(IRQ + 0x80, &[entry + RECORD, CALLED]);
        let leaf = registers(LEAF, STACK + 0x300, STACK + 0x340, CALLED);
        kernel.put_registers(entry, &leaf, 0x3c5, metadata);
        kernel.put(STACK + 0x340, &[STACK + 0x380, CALLED]);
        kernel.put(STACK + 0x380, &[STACK + 0x400 + RECORD, ENDLESS]);
        kernel.put_registers(STACK + 0x400, &registers(0x1000, 0x8000, 0x9000, 0), 0, metadata);
        let (frames, stop) = walk(&kernel, registers(CALLED, IRQ + 0x80, IRQ + 0x80, 0));
        assert_eq!((ips(&frames), stop), (vec![CALLED, CALLED, LEAF, CALLED, CALLED, ENDLESS], Stop::End));
        assert_eq!(frames[2].address, CodeAddress::InstructionPointer(VirtAddr::new(LEAF)));
        assert_eq!(frames[2].registers, leaf);
        assert_eq!((frames[3].found_by, frames[3].sp), (FoundBy::LinkRegister, leaf.sp()));
        assert_eq!(frames[2].cfa, Some(leaf.sp()));
        assert_eq!(frames[4].found_by, FoundBy::FramePointer);
        // Into 32-bit code.
        kernel.put_registers(STACK + 0x400, &registers(0x1000, 0x8000, 0x9000, 0), 0x10, metadata);
        assert_eq!(walk(&kernel, registers(CALLED, IRQ + 0x80, IRQ + 0x80, 0)), (frames, stop));
    }
}

#[test]
fn before_and_behind_its_record_a_function_has_its_callers() {
    let mut kernel = Kernel::new();
    let (own, callers) = (STACK + 0x40, STACK + 0x80);
    kernel.put(callers, &[STACK + 0x200, ENDLESS]);
    kernel.put(own, &[callers, CALLED]);
    let from = TEXT + 64;
    for (offset, sp, fp, link) in [
        (0, own + 16, callers, CALLED),
        (4, own + 16, callers, CALLED | 0x7f << 48),
        (8, own, callers, CALLED),
        (12, own, own, CALLED),
        (16, own, own, from + 16),
        (20, own + 16, callers, CALLED),
        (24, own + 16, callers, CALLED),
    ] {
        let (frames, stop) = walk(&kernel, registers(from + offset, sp, fp, link));
        assert_eq!((ips(&frames), stop), (vec![from + offset, CALLED, ENDLESS], Stop::End), "{offset}");
        assert_eq!(
            (frames[0].cfa, frames[1].sp),
            (Some(VirtAddr::new(own + 16)), VirtAddr::new(own + 16)),
            "{offset}"
        );
    }
    // It never returns: from its start, or without symbols by its record.
    let from = TEXT + 128;
    for symbols in [true, false] {
        kernel.symbols = symbols;
        kernel.put(own, &[callers, CALLED]);
        let (frames, stop) = walk(&kernel, registers(from + 12, own, own, from + 12));
        assert_eq!((ips(&frames), stop), (vec![from + 12, CALLED, ENDLESS], Stop::End));
    }
    kernel.symbols = true;
    for (offset, sp) in [(0, own + 32), (4, own)] {
        let (frames, stop) = walk(&kernel, registers(from + offset, sp, callers, CALLED));
        assert_eq!((ips(&frames), stop), (vec![from + offset, CALLED, ENDLESS], Stop::End), "{offset}");
        assert_eq!((frames[1].found_by, frames[1].sp.get()), (FoundBy::LinkRegister, own + 32));
    }
}

#[test]
fn a_call_of_nothing_goes_back_to_its_caller() {
    let mut kernel = Kernel::new();
    kernel.put(STACK + 0x40, &[STACK + 0x80, ENDLESS]);
    let (frames, stop) = walk(&kernel, registers(0, STACK, STACK + 0x40, CALLED));
    assert_eq!((ips(&frames), stop), (vec![0, CALLED, ENDLESS], Stop::End));
    assert_eq!(frames[1].found_by, FoundBy::LinkRegister);
}

#[test]
fn broken_chains_end() {
    let bad = Stop::BadFrame(VirtAddr::new(CALLED));
    for (record, frames, stop) in [
        // Itself, below, unaligned, on no stack, to what is no code, into nothing.
        ([STACK + 0x40, CALLED], 2, bad),
        ([STACK, CALLED], 2, bad),
        ([STACK + 0x44, CALLED], 2, bad),
        ([0xffff_0000_0000_0000, CALLED], 2, bad),
        ([STACK + 0x80, 0x1234], 1, bad),
        ([STACK + WORDS as u64 * 8 - 8, CALLED], 2, bad),
    ] {
        let mut kernel = Kernel::new();
        kernel.put(STACK + 0x40, &record);
        let start = registers(CALLED, STACK + 0x40, STACK + 0x40, CALLED);
        let (found, why) = walk_on(&kernel, start, true, &[stack_at(STACK), stack_at(IRQ)]);
        assert_eq!((found.len(), why), (frames, stop), "{record:#x?}");
    }
    // Round and round between two stacks.
    let mut kernel = Kernel::new();
    kernel.put(STACK + 0x40, &[IRQ + 0x40, CALLED]);
    kernel.put(IRQ + 0x40, &[STACK + 0x40, CALLED]);
    let start = registers(CALLED, STACK + 0x40, STACK + 0x40, CALLED);
    let (_, stop) = walk_on(&kernel, start, true, &[stack_at(STACK), stack_at(IRQ)]);
    assert_eq!(stop, Stop::Limit);
    // No x29; no memory.
    let (_, stop) = walk_on(&kernel, Registers::new(VirtAddr::new(CALLED), VirtAddr::new(STACK)), true, &[]);
    assert_eq!(stop, bad);
    let (_, stop) = walk_on(&kernel, registers(CALLED, 0, 0x1000, 0), true, &[]);
    assert_eq!(stop, Stop::NotResident(VirtAddr::new(0x1000)));
}

#[test]
fn noise_is_walked_in_bounds() {
    let mut random = Random(0xbad_c0de);
    for _ in common::times(500) {
        let mut kernel = Kernel::new();
        let mut word = || match random.below(5) {
            0 => TEXT + 4 * random.below(0x60) as u64,
            1 => STACK + 8 * random.below(WORDS) as u64,
            2 => IRQ + 8 * random.below(WORDS) as u64,
            3 => random.below(3) as u64,
            _ => random.next(),
        };
        kernel.task.fill_with(&mut word);
        kernel.irq.fill_with(&mut word);
        let start = registers(TEXT + (word() % 0x180), STACK, STACK + 8, word());
        let (frames, _) = walk(&kernel, start);
        assert!(!frames.is_empty() && frames.len() <= Limits::default().frames);
    }
}
