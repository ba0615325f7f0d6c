//! Walks over aarch64 stacks made by hand.

#![allow(clippy::indexing_slicing, reason = "a test may panic, and so may its helpers")]

mod common;

use common::{Cfi, DEF_CFA_OFFSET};
use vmc::view::{FoundBy, Stop};
use vmc::{Fault, Limits, ReadError, VirtAddr, VirtualMemory};
use vmc_unwind::aarch64::{Registers, Signature, runs_32_bit_code};
use vmc_unwind::gimli::{AArch64, Register};
use vmc_unwind::{
    AddressSize, Cache, CodeAddress, Frame, Module, ModuleMap, Sections, UnwindTable, Unwinder,
};

const BIAS: u64 = 0xffff_8000_0000;
const STACK: u64 = 0xffff_f000_0000;
/// Where a trampoline lies that no table describes.
const TRAMPOLINE: u64 = BIAS + 0x5000;

/// `DW_CFA_undefined x30`.
const NO_CALLER: [u8; 2] = [0x07, 30];
/// `DW_CFA_AARCH64_negate_ra_state`.
const NEGATE: u8 = 0x2d;
/// CFA = sp + 32; x29 and x30 at its bottom, x19 and x20 above.
const FRAMED: [u8; 10] = [DEF_CFA_OFFSET, 32, 0x9d, 4, 0x9e, 3, 0x93, 2, 0x94, 1];

/// 0x1000: stores x29, x30, x19 and x20. 0x2000: outermost. 0x3000: a leaf. 0x4000: signs its return address, from its second
/// instruction on stores it. 0x6000: CFA by x29. 0x7000: nothing is stored, CFA above. 0x8000: too far apart for a compact rule.
fn cfi() -> Cfi {
    let mut cfi = Cfi::default();
    let cie = cfi.cie_aarch64("zR", &[]);
    cfi.fde(cie, 0x1000, 0x1000, &FRAMED);
    cfi.fde(cie, 0x2000, 0x100, &NO_CALLER);
    cfi.fde(cie, 0x3000, 0x100, &[]);
    cfi.fde(cie, 0x4000, 0x100, &[0x41, NEGATE, 0x41, DEF_CFA_OFFSET, 16, 0x9d, 2, 0x9e, 1]);
    cfi.fde(cie, 0x6000, 0x100, &[0x0c, 29, 16, 0x9d, 2, 0x9e, 1]);
    cfi.fde(cie, 0x7000, 0x100, &[DEF_CFA_OFFSET, 16]);
    cfi.fde(cie, 0x8000, 0x100, &[DEF_CFA_OFFSET, 0x80, 0x20, 0x9d, 0x80, 4, 0x9e, 0xff, 3, 0x93, 1]);
    cfi
}

/// Words of a stack, and a trampoline: `mov x8, #139; svc #0`.
struct Memory(Vec<u64>);

impl VirtualMemory for Memory {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        let code = 0xd400_0001_d280_1168u64.to_le_bytes();
        for (at, byte) in (addr.get()..).zip(buf) {
            let word = self.0.get((at.wrapping_sub(STACK) / 8) as usize).filter(|_| at >= STACK);
            let stack = word.map(|word| word.to_le_bytes()[(at % 8) as usize]);
            let found = stack.or_else(|| code.get(at.wrapping_sub(TRAMPOLINE) as usize).copied());
            *byte = found.ok_or(ReadError::new(VirtAddr::new(at), Fault::NotMapped))?;
        }
        Ok(())
    }
}

fn registers(ip: u64, link: u64) -> Registers {
    let mut general: [u64; 31] = core::array::from_fn(|number| number as u64);
    general[30] = link;
    Registers::with_all(VirtAddr::new(BIAS + ip), VirtAddr::new(STACK), general)
}

fn walk_from(modules: &ModuleMap, registers: Registers, words: &[u64]) -> (Vec<Frame<Registers>>, Stop) {
    let (limits, memory, mut cache) = (Limits::default(), Memory(words.to_vec()), Cache::new());
    let mut walked = || {
        let mut walk = Unwinder::new(modules, &memory, &limits).walk_aarch64(registers, &mut cache);
        let frames: Vec<_> = walk.by_ref().collect();
        (frames, walk.stop())
    };
    // By an empty cache, and by one that is filled.
    let (cold, warm) = (walked(), walked());
    assert_eq!(cold, warm);
    warm
}

fn walk(ip: u64, link: u64, words: &[u64]) -> (Vec<Frame<Registers>>, Stop) {
    walk_from(&cfi().module(BIAS), registers(ip, link), words)
}

fn ips(frames: &[Frame<Registers>]) -> Vec<u64> {
    frames.iter().map(|frame| frame.address.address().get().wrapping_sub(BIAS)).collect()
}

#[test]
fn callee_saved_registers_go_up_the_stack() {
    let words = [0xff29, BIAS + 0x1010, 0xff19, 0xff20, 0xfe29, BIAS + 0x2004, 0xfe19, 0xfe20];
    let (frames, stop) = walk(0x1004, 0, &words);
    assert_eq!((ips(&frames), stop), (vec![0x1004, 0x1010, 0x2004], Stop::End));
    let values = |frame: &Frame<Registers>, numbers: &[u16]| -> Vec<Option<u64>> {
        numbers.iter().map(|number| frame.registers.get(Register(*number))).collect()
    };
    assert_eq!(values(&frames[1], &[19, 20, 29]), [Some(0xff19), Some(0xff20), Some(0xff29)]);
    assert_eq!(values(&frames[2], &[19, 20, 29]), [Some(0xfe19), Some(0xfe20), Some(0xfe29)]);
    for frame in &frames[1..] {
        assert_eq!(values(frame, &[0, 18, 21, 28]), [None, None, Some(21), Some(28)]);
        assert_eq!(frame.registers.get(AArch64::X30), Some(frame.address.address().get()));
        assert_eq!(frame.found_by, FoundBy::Cfi);
    }
    let places: Vec<_> = frames.iter().map(|frame| (frame.sp.get() - STACK, frame.cfa)).collect();
    let at = |offset| Some(VirtAddr::new(STACK + offset));
    assert_eq!(places, [(0, at(32)), (32, at(64)), (64, at(64))]);
}

#[test]
fn a_leaf_returns_through_its_link() {
    let words = [7, BIAS + 0x2004, 0, 0];
    let (frames, stop) = walk(0x3000, BIAS + 0x1010, &words);
    assert_eq!((ips(&frames), stop), (vec![0x3000, 0x1010, 0x2004], Stop::End));
    assert_eq!((frames[0].cfa, frames[1].sp), (Some(VirtAddr::new(STACK)), VirtAddr::new(STACK)));
    assert_eq!(frames[1].address, CodeAddress::ReturnAddress(VirtAddr::new(BIAS + 0x1010)));
    // It has taken something off the stack, but stored nothing.
    let (frames, stop) = walk(0x7000, BIAS + 0x1010, &[&[0, 0][..], &words].concat());
    assert_eq!((ips(&frames), stop), (vec![0x7000, 0x1010, 0x2004], Stop::End));
    assert_eq!(frames[1].sp, VirtAddr::new(STACK + 16));
    // The link is only good for the innermost: who was returned to is no leaf.
    let (frames, stop) = walk(0x3000, BIAS + 0x3010, &words);
    assert_eq!((ips(&frames), stop), (vec![0x3000, 0x3010], Stop::BadFrame(VirtAddr::new(BIAS + 0x3010))));
    // Nothing is known of it.
    let registers = Registers::new(VirtAddr::new(BIAS + 0x3000), VirtAddr::new(STACK));
    let (frames, stop) = walk_from(&cfi().module(BIAS), registers, &words);
    assert_eq!((frames.len(), stop), (1, Stop::BadFrame(VirtAddr::new(BIAS + 0x3000))));
}

#[test]
fn signatures_are_taken_off() {
    let signed = |address: u64| address | 0x005a << 48;
    // Before it is signed, when it is, and when it is stored.
    for (ip, link, words) in [
        (0x4000, BIAS + 0x1010, &[][..]),
        (0x4004, signed(BIAS + 0x1010), &[]),
        (0x4008, 0, &[0xff29, signed(BIAS + 0x1010)]),
    ] {
        let words = [words, &[7, signed(BIAS + 0x2004), 0, 0]].concat();
        let (frames, stop) = walk(ip, link, &words);
        assert_eq!((ips(&frames), stop), (vec![ip, 0x1010, 0x2004], Stop::End), "{ip:#x}");
    }
    // A signature that reaches further down, for smaller addresses.
    let small = BIAS & 0x7f_ffff_ffff;
    let modules = cfi().module(small);
    let start = Registers::new(VirtAddr::new(small + 0x1000), VirtAddr::new(STACK));
    let start = start.with_signature(Signature::of_address_bits(39));
    let (frames, stop) = walk_from(&modules, start, &[0, (small + 0x2004) | 0x007f_ff80_0000_0000, 0, 0]);
    assert_eq!((frames.len(), stop), (2, Stop::End));
    assert_eq!(frames[1].address.address(), VirtAddr::new(small + 0x2004));
}

/// `struct rt_sigframe` at the stack's start: what was interrupted stood at `pc`, with `sp`.
fn signal_frame(pc: u64, sp: u64, link: u64) -> Vec<u64> {
    let mut words = vec![0; 38];
    words.push(0xfa);
    words.extend((0..30).map(|number| 0x5000 + number));
    words.extend([link, sp, pc, 0x8000_0000]);
    words
}

#[test]
fn a_signal_frame_gives_all_registers() {
    // The handler, a leaf, returns to the trampoline; a leaf was interrupted at its first instruction, with its caller's CFA.
    let mut words = signal_frame(BIAS + 0x3000, STACK + 8 * 80, BIAS + 0x1010);
    words.resize(80, 0);
    words.extend([7, BIAS + 0x2004, 0, 0]);
    let modules = cfi().module(BIAS);
    let (frames, stop) = walk_from(&modules, registers(0x3004, TRAMPOLINE), &words);
    assert_eq!((ips(&frames), stop), (vec![0x3004, 0x5000, 0x3000, 0x1010, 0x2004], Stop::End));
    let found: Vec<_> = frames.iter().map(|frame| (frame.found_by, frame.interrupted_by_signal)).collect();
    let expected = [
        (FoundBy::Registers, false),
        (FoundBy::Cfi, false),
        (FoundBy::SignalFrame, true),
        (FoundBy::Cfi, false),
    ];
    assert_eq!(found[..4], expected);
    assert_eq!(frames[2].address, CodeAddress::InstructionPointer(VirtAddr::new(BIAS + 0x3000)));
    assert_eq!(frames[1].cfa, Some(VirtAddr::new(STACK + 8 * 80)));
    for number in 0..30 {
        assert_eq!(frames[2].registers.get(Register(number)), Some(0x5000 + u64::from(number)));
    }
    assert_eq!(frames[2].registers.get(AArch64::SP), Some(STACK + 8 * 80));
    // Its registers are not to be had.
    let (frames, stop) = walk_from(&modules, registers(0x3004, TRAMPOLINE), &words[..70]);
    assert_eq!((frames.len(), stop), (2, Stop::NotResident(VirtAddr::new(STACK + 70 * 8))));
}

#[test]
fn circles_end() {
    // The handler was interrupted by itself.
    let (frames, stop) = walk(0x3004, TRAMPOLINE, &signal_frame(BIAS + 0x3004, STACK, TRAMPOLINE));
    assert_eq!(ips(&frames), [0x3004, 0x5000, 0x3004, 0x5000]);
    assert_eq!(stop, Stop::BadFrame(VirtAddr::new(TRAMPOLINE)));
    // A frame pointer that points at its own frame.
    let mut start = registers(0x6000, 0);
    start.set(AArch64::X29, STACK);
    let (frames, stop) = walk_from(&cfi().module(BIAS), start, &[STACK, BIAS + 0x6010, 0, 0]);
    assert_eq!((ips(&frames), stop), (vec![0x6000, 0x6010], Stop::BadFrame(VirtAddr::new(BIAS + 0x6010))));
}

#[test]
fn what_does_not_fit_a_compact_rule_is_a_whole_one() {
    let mut words = vec![0xff29, BIAS + 0x1010];
    words.resize(511, 0);
    words.extend([0xff19, 7, BIAS + 0x2004, 0, 0]);
    let (frames, stop) = walk(0x8000, 0, &words);
    assert_eq!((ips(&frames), stop), (vec![0x8000, 0x1010, 0x2004], Stop::End));
    let caller = &frames[1].registers;
    assert_eq!((caller.get(AArch64::X19), caller.get(AArch64::X29)), (Some(0xff19), Some(0xff29)));
    assert_eq!(caller.get(AArch64::X30), Some(BIAS + 0x1010));
}

/// `DW_CFA_AARCH64_negate_ra_state_with_pc`: gimli does not know it, the code does.
#[test]
fn instructions_that_are_not_known_leave_the_code() {
    let mut cfi = cfi();
    cfi.fde(0, TRAMPOLINE - BIAS - 0x100, 0x200, &[0x2c, DEF_CFA_OFFSET, 16, 0x9e, 2]);
    let frame = signal_frame(BIAS + 0x2004, STACK + 0x2000, 0);
    let (frames, stop) = walk_from(&cfi.module(BIAS), registers(0x3000, TRAMPOLINE), &frame);
    assert_eq!((ips(&frames), stop), (vec![0x3000, 0x5000, 0x2004], Stop::End));
}

/// A 32-bit program's image: its code is not read as if it were 64-bit.
#[test]
fn images_of_the_other_kind_end_a_walk() {
    let sections = Sections { address_size: AddressSize::Four, ..cfi().sections() };
    let range = VirtAddr::new(BIAS)..VirtAddr::new(BIAS + 0x10_0000);
    let module = Module { range, bias: BIAS, table: Some(UnwindTable::new(sections).into()), index: 0 };
    let (frames, stop) = walk_from(&ModuleMap::new(vec![module]), registers(0x5000, BIAS + 0x1010), &[]);
    assert_eq!((ips(&frames), stop), (vec![0x5000], Stop::NoUnwindInfo(VirtAddr::new(TRAMPOLINE))));
    assert!(runs_32_bit_code(0x6000_0010) && !runs_32_bit_code(0x6000_0000));
}

#[test]
fn an_unreadable_stack_is_named() {
    let (frames, stop) = walk(0x1004, 0, &[1]);
    assert_eq!((frames.len(), stop), (1, Stop::NotResident(VirtAddr::new(STACK + 8))));
    // x20's slot is missing: that is no matter here.
    let (frames, stop) = walk(0x1004, 0, &[0, BIAS + 0x2004, 19]);
    assert_eq!((frames.len(), stop), (2, Stop::End));
    assert_eq!(frames[1].registers.get(Register(20)), None);
}

#[test]
fn a_cache_keeps_rules_of_both_architectures() {
    let modules = cfi().module(BIAS);
    let (limits, memory, mut cache) = (Limits::default(), Memory(vec![0, BIAS + 0x2004, 0, 0]), Cache::new());
    for round in 0..2 {
        let unwinder = Unwinder::new(&modules, &memory, &limits);
        assert_eq!(unwinder.walk_aarch64(registers(0x1000, 0), &mut cache).count(), 2);
        // The same table by x86_64's numbers: another cache's affair.
        let other = vmc_unwind::x86_64::Registers::new(VirtAddr::new(BIAS + 0x1000), VirtAddr::new(STACK));
        assert_eq!(unwinder.walk(other, &mut cache).count(), 1);
        assert_eq!(cache.hits(), round * 2);
    }
}
