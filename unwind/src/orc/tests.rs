//! Walks over hand-made stacks by hand-made rules, and over hostile ones.

use gimli::X86_64;
use vmc::view::{FoundBy, Stop};
use vmc::{Limits, ReadError, VirtAddr, VirtualMemory};

use super::table::tests::table;
use super::{KernelUnwinder, OrcTable, OrcTables, SavedRegisters};
use crate::code_address::CodeAddress;
use crate::frame::Frame;
use crate::module::NoTable;
use crate::test_memory::{Bytes, Words};
use crate::x86_64::Registers;
use alloc::vec::Vec;

const TEXT: u64 = 0xffff_ffff_8100_0000;
const STACK: u64 = 0xffff_c900_0000_0000;
/// Places in words on the test's stack.
const fn at(word: u64) -> u64 {
    STACK + word * 8
}

// sp_reg, bp_reg, type, signal of 6.4 and later.
const CALL: u16 = 5 | 2 << 8;
const SAVES_BP: u16 = CALL | 1 << 4;
const BY_BP: u16 = 4 | 1 << 4 | 2 << 8;
const OTHER_STACK: u16 = 9 | 2 << 8;
const REGS: u16 = 5 | 3 << 8 | 1 << 11;
const PARTIAL: u16 = 5 | 4 << 8 | 1 << 11;
const END: u16 = 1 << 8;
const R10: u16 = 6 | 2 << 8;

struct Tables {
    table: OrcTable<'static>,
    frame_pointers: bool,
}

impl OrcTables for Tables {
    fn find(&self, address: VirtAddr) -> Result<&OrcTable<'_>, NoTable> {
        match self.table.range().contains(&address) {
            true if !self.frame_pointers => Ok(&self.table),
            _ if address.get() == 0xbad => Err(NoTable::NotResident(VirtAddr::new(0xbad))),
            _ => Err(NoTable::None),
        }
    }

    fn is_code(&self, address: VirtAddr) -> bool {
        address.get() >= TEXT && address.get() < TEXT + 0x10_0000
    }

    fn frame_pointers(&self) -> bool {
        self.frame_pointers
    }
}

/// A function every 256 bytes, each with one rule: stack pointer's offset, rbp's offset, flags.
fn tables(rules: &[(i16, i16, u16)]) -> Tables {
    let mut all: Vec<_> =
        (0..).zip(rules).map(|(n, rule)| (TEXT + n * 256, rule.0, rule.1, rule.2)).collect();
    all.push((TEXT + rules.len() as u64 * 256, 0, 0, 0));
    Tables { table: table(&all), frame_pointers: false }
}

/// An address in function number `n`.
const fn code(n: u64) -> u64 {
    TEXT + n * 256 + 16
}

/// `struct pt_regs`: r15 r14 r13 r12 bp bx r11 r10 r9 r8 ax cx dx si di orig_ax ip cs flags sp ss.
fn saved() -> SavedRegisters {
    let general = [80, 96, 88, 40, 104, 112, 32, 152, 72, 64, 56, 48, 24, 16, 8, 0];
    SavedRegisters::new(168, general, 128, 136).unwrap()
}

fn walk(tables: &Tables, words: &[u64], ip: u64, sp: u64, bp: u64) -> (Vec<Frame>, Stop) {
    let limits = Limits { stack_switches: 2, frames: 64, ..Limits::default() };
    let memory = Words::new(STACK, words);
    let mut registers = Registers::new(VirtAddr::new(ip), VirtAddr::new(sp));
    registers.set(X86_64::RBP, bp);
    let saved = saved();
    let unwinder = KernelUnwinder::new(tables, &memory, &saved, &limits);
    let mut walk = unwinder.walk(registers, CodeAddress::InstructionPointer(VirtAddr::new(ip)));
    let frames = walk.by_ref().collect();
    (frames, walk.stop())
}

fn ips(frames: &[Frame]) -> Vec<u64> {
    frames.iter().map(|frame| frame.address.address().get()).collect()
}

#[test]
fn calls_lead_to_the_outermost_frame() {
    let tables = tables(&[(16, -16, SAVES_BP), (16, -16, BY_BP), (8, 0, END)]);
    // Function 0 has pushed rbp; 1 has it point at what it pushed.
    let words = [at(4), code(1), 0, 0, 77, code(2), 0];
    let (frames, stop) = walk(&tables, &words, code(0), at(0), 5);
    assert_eq!((ips(&frames), stop), ([code(0), code(1), code(2)].to_vec(), Stop::End));
    assert_eq!(frames[0].found_by, FoundBy::Registers);
    assert_eq!(frames[1].found_by, FoundBy::Orc);
    assert_eq!(frames[1].address, CodeAddress::ReturnAddress(VirtAddr::new(code(1))));
    assert_eq!(frames[0].cfa, Some(VirtAddr::new(at(2))));
    assert_eq!(frames[2].registers.get(X86_64::RBP), Some(77));
    assert_eq!((frames[2].sp, frames[2].cfa), (VirtAddr::new(at(6)), None));
    // What a call may change is not known of its caller.
    assert_eq!(frames[1].registers.get(X86_64::RBX), None);
}

#[test]
fn stored_registers_lead_to_what_was_interrupted() {
    let tables = tables(&[(0, 0, REGS), (8, 0, END), (0, 0, R10)]);
    // bp (word 4), r10 (7), ip (16), cs (17), sp (19).
    let mut words = [0u64; 32];
    (words[4], words[7], words[16], words[17], words[19]) = (99, at(26), TEXT + 512, 0x10, at(21));
    words[25] = code(1);
    let (frames, stop) = walk(&tables, &words, code(0), at(0), 5);
    assert_eq!((ips(&frames), stop), ([code(0), TEXT + 512, code(1)].to_vec(), Stop::End));
    // It was interrupted at its first byte, and there its stack was r10.
    assert_eq!(frames[1].address, CodeAddress::InstructionPointer(VirtAddr::new(TEXT + 512)));
    assert_eq!(frames[1].registers.get(X86_64::RBP), Some(99));
    // From a program: the end.
    words[17] = 0x33;
    let (frames, stop) = walk(&tables, &words, code(0), at(0), 5);
    assert_eq!((frames.len(), stop), (1, Stop::End));
}

#[test]
fn what_the_cpu_stores_keeps_the_other_registers() {
    let tables = tables(&[(0, 0, PARTIAL), (8, 0, END)]);
    let words = [code(1), 0x10, 0, at(9), 0x18];
    let (frames, stop) = walk(&tables, &words, code(0), at(0), 5);
    assert_eq!((ips(&frames), stop), ([code(0), code(1)].to_vec(), Stop::End));
    assert_eq!((frames[1].sp, frames[1].registers.get(X86_64::RBP)), (VirtAddr::new(at(9)), Some(5)));
}

#[test]
fn another_stack_may_lie_below_but_not_for_ever() {
    let tables = tables(&[(16, 0, OTHER_STACK), (8, 0, END), (0, 0, REGS)]);
    // From an IRQ stack at word 8 to a task's at word 0.
    let mut words = [0u64; 32];
    (words[8], words[1]) = (at(0), code(1));
    let (frames, stop) = walk(&tables, &words, code(0), at(8), 0);
    assert_eq!((ips(&frames), stop), ([code(0), code(1)].to_vec(), Stop::End));
    // Registers that interrupted themselves.
    (words[16], words[17], words[19]) = (code(2), 0x10, at(0));
    let (frames, stop) = walk(&tables, &words, code(2), at(0), 0);
    assert_eq!((frames.len(), stop), (3, Stop::Limit));
}

#[test]
fn a_walk_does_not_go_down_a_stack() {
    let tables = tables(&[(-8, 0, CALL), (0, 0, CALL), (16, -16, BY_BP)]);
    let words = [code(0); 8];
    for n in 0..2 {
        let (frames, stop) = walk(&tables, &words, code(n), at(4), 0);
        assert_eq!((frames.len(), stop), (1, Stop::BadFrame(VirtAddr::new(code(n)))));
    }
    // By an rbp that points below, at nothing, at the end of all.
    let stops = [at(0), 0, u64::MAX, u64::MAX - 23].map(|bp| walk(&tables, &words, code(2), at(4), bp).1);
    assert_eq!(stops[0], Stop::BadFrame(VirtAddr::new(code(2))));
    assert!(stops.iter().skip(1).all(|stop| matches!(stop, Stop::NotResident(_))), "{stops:?}");
}

#[test]
fn rules_that_say_nothing_and_registers_that_are_not_known_end_it() {
    let tables = tables(&[(0, 0, 0), (0, 0, 5 | 7 << 8), (0, 0, R10), (8, 0, 15 | 2 << 8), (8, 0, CALL)]);
    let words = [0xbad, 0, 0];
    let stop = |n: u64| walk(&tables, &words, code(n), at(0), 0).1;
    assert_eq!(stop(0), Stop::NoUnwindInfo(VirtAddr::new(code(0))));
    for n in 1..4 {
        assert_eq!(stop(n), Stop::BadFrame(VirtAddr::new(code(n))));
    }
    // To a module whose table is gone; off the stack.
    let (frames, stop) = walk(&tables, &[0xbad + 1, 0], code(4), at(0), 0);
    assert_eq!((frames.len(), stop), (2, Stop::NotResident(VirtAddr::new(0xbad))));
    let (_, stop) = walk(&tables, &words, code(4), at(3), 0);
    assert_eq!(stop, Stop::NotResident(VirtAddr::new(at(3))));
}

#[test]
fn a_call_of_nothing_goes_back_to_its_caller() {
    let tables = tables(&[(0, 0, END)]);
    let (frames, stop) = walk(&tables, &[code(0)], 0, at(0), 0);
    assert_eq!((ips(&frames), stop), ([0, code(0)].to_vec(), Stop::End));
}

#[test]
fn code_without_rules_is_walked_by_frame_pointers() {
    let tables = tables(&[(8, 0, END)]);
    let outside = TEXT + 0x8000;
    let (frames, stop) = walk(&tables, &[0, 0, 7, code(0), 0], outside, at(0), at(2));
    assert_eq!((ips(&frames), stop), ([outside, code(0)].to_vec(), Stop::End));
    assert_eq!(frames[1].found_by, FoundBy::FramePointer);
    // To what is no code; from what is none; without an rbp.
    let stops = [
        walk(&tables, &[0, 0, 7, 0x1234, 0], outside, at(0), at(2)).1,
        walk(&tables, &[0, 0, 7, code(0), 0], outside, at(0), 0).1,
    ];
    assert_eq!(stops, [Stop::NoUnwindInfo(VirtAddr::new(outside)); 2]);
    let (frames, stop) = walk(&tables, &[0], 0x1234, at(0), at(2));
    assert_eq!((frames.len(), stop), (1, Stop::NoUnwindInfo(VirtAddr::new(0x1234))));
}

#[test]
fn a_kernel_with_frame_pointers_needs_no_rules() {
    let tables = Tables { table: table(&[]), frame_pointers: true };
    let mut words = [0u64; 48];
    // A frame, then an interrupt's registers (at word 4), whose rbp leads to the outermost frame.
    (words[0], words[1]) = (at(4) + 1, code(1));
    (words[4 + 4], words[4 + 16], words[4 + 17], words[4 + 19]) = (at(40), code(2), 0x10, at(30));
    (words[40], words[41]) = (0, code(3));
    let (frames, stop) = walk(&tables, &words, code(0), at(0), at(0));
    assert_eq!((ips(&frames), stop), ([code(0), code(1), code(2), code(3)].to_vec(), Stop::End));
    assert_eq!(frames[2].address, CodeAddress::InstructionPointer(VirtAddr::new(code(2))));
    // Of a kernel's thread: there are no registers.
    words[4..25].fill(0);
    let (frames, stop) = walk(&tables, &words, code(0), at(0), at(0));
    assert_eq!((ips(&frames), stop), ([code(0), code(1)].to_vec(), Stop::End));
    // From an interrupt's stack down to the thread's.
    (words[40], words[41], words[10], words[11]) = (at(10), code(1), 0, code(2));
    let (frames, stop) = walk(&tables, &words, code(0), at(40), at(40));
    assert_eq!((ips(&frames), stop), ([code(0), code(1), code(2)].to_vec(), Stop::End));
    // A frame that is its own caller: round and round, as often as stacks may be changed.
    (words[0], words[1]) = (at(0), code(1));
    let (frames, stop) = walk(&tables, &words, code(0), at(0), at(0));
    assert_eq!((frames.len(), stop), (4, Stop::Limit));
}

#[test]
fn a_kernel_with_frame_pointers_is_followed_from_where_it_was_interrupted() {
    let tables = Tables { table: table(&[]), frame_pointers: true };
    // In code(0): push %rbp; mov %rsp,%rbp; pop %rbp; ret. Before code(1), which is its caller: call *%rax.
    let mut text = alloc::vec![0x90; 0x400];
    text[16..22].copy_from_slice(&[0x55, 0x48, 0x89, 0xe5, 0x5d, 0xc3]);
    text[256 + 14..256 + 16].copy_from_slice(&[0xff, 0xd0]);
    let memory = TextAndWords(Bytes::new(TEXT, &text), Words::new(STACK, &[at(3), code(1), 0, 0, code(2)]));
    let (limits, saved) = (Limits::default(), saved());
    // By place: how many words it has pushed, and rbp.
    for (offset, sp, bp) in [(0, at(1), at(3)), (1, at(0), at(3)), (4, at(0), at(0)), (5, at(1), at(3))] {
        let mut registers = Registers::new(VirtAddr::new(code(0) + offset), VirtAddr::new(sp));
        registers.set(X86_64::RBP, bp);
        let unwinder = KernelUnwinder::new(&tables, &memory, &saved, &limits);
        let mut walk = unwinder.walk(registers, CodeAddress::InstructionPointer(registers.ip()));
        let frames: Vec<_> = walk.by_ref().collect();
        assert_eq!((ips(&frames), walk.stop()), ([code(0) + offset, code(1), code(2)].to_vec(), Stop::End));
        assert_eq!((frames[1].found_by, frames[1].sp), (FoundBy::Code, VirtAddr::new(at(2))));
        assert_eq!(frames[2].found_by, FoundBy::FramePointer);
    }
}

struct TextAndWords(Bytes, Words);

impl VirtualMemory for TextAndWords {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        self.0
            .read(addr, buf)
            .or_else(|error| if error.done > 0 { Err(error) } else { self.1.read(addr, buf) })
    }
}
