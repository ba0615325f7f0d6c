//! Walks through aarch64 code that no table describes.

#![allow(clippy::indexing_slicing, reason = "a test may panic, and so may its helpers")]

mod common;

use common::Random;
use common::bare::{CODE, Memory, STACK};
use vmc::view::{FoundBy, Stop};
use vmc::{Limits, VirtAddr};
use vmc_unwind::aarch64::{Registers, Signature};
use vmc_unwind::gimli::{AArch64, Register};
use vmc_unwind::{Cache, Frame, Module, ModuleMap, Unwinder, guess_callers_aarch64};

/// stp x29, x30, [sp, #-48]!; mov x29, sp; stp x19, x20, [sp, #16]; str x21, [sp, #32]; blr x0; ldr x21, [sp, #32];
/// ldp x19, x20, [sp, #16]; ldp x29, x30, [sp], #48; ret
const FRAMED: &[u32] = &[
    0xa9bd_7bfd,
    0x9100_03fd,
    0xa901_53f3,
    0xf900_13f5,
    0xd63f_0000,
    0xf940_13f5,
    0xa941_53f3,
    0xa8c3_7bfd,
    0xd65f_03c0,
];
/// paciasp; stp x29, x30, [sp, #-16]!; mov x29, sp; blr x0; ldp x29, x30, [sp], #16; autiasp; ret
const SIGNED: &[u32] =
    &[0xd503_233f, 0xa9bf_7bfd, 0x9100_03fd, 0xd63f_0000, 0xa8c1_7bfd, 0xd503_23bf, 0xd65f_03c0];
/// str x30, [sp, #-16]!; blr x0; ldr x30, [sp], #16; ret
const OMITS: &[u32] = &[0xf81f_0ffe, 0xd63f_0000, 0xf841_07fe, 0xd65f_03c0];
/// ldr x1, [x0]; cbz x1, 1f; nop; 1: add x0, x0, x1; ret
const LEAF: &[u32] = &[0xf940_0001, 0xb400_0041, 0xd503_201f, 0x8b01_0000, 0xd65f_03c0];
/// stp x29, x30, [sp, #-32]!; mov x29, sp; str x19, [sp, #16]; 1: blr x0; b 1b
const ENDLESS: &[u32] = &[0xa9be_7bfd, 0x9100_03fd, 0xf900_0bf3, 0xd63f_0000, 0x17ff_ffff];
/// str x30, [sp, #-32]!; str x19, [sp, #16]; blr x0; udf #0
const EXITS: &[u32] = &[0xf81e_0ffe, 0xf900_0bf3, 0xd63f_0000, 0];
/// adrp x16, .; ldr x17, [x16, #8]; add x16, x16, #8; br x17
const STUB: &[u32] = &[0x9000_0010, 0xf940_0611, 0x9100_2210, 0xd61f_0220];
/// mov x12, #0x1230; movk x12, #1, lsl #16; sub sp, sp, x12; stp x29, x30, [sp]; blr x0; mov x12, #0x1230;
/// movk x12, #1, lsl #16; ldp x29, x30, [sp]; add sp, sp, x12; ret
const BIG: &[u32] = &[
    0xd282_460c,
    0xf2a0_002c,
    0xcb2c_63ff,
    0xa900_7bfd,
    0xd63f_0000,
    0xd282_460c,
    0xf2a0_002c,
    0xa940_7bfd,
    0x8b2c_63ff,
    0xd65f_03c0,
];
/// mov x29, #0; mov x30, #0; blr x0; udf #0: by it a function was called without a caller.
const START: &[u32] = &[0xd280_001d, 0xd280_001e, 0xd63f_0000, 0];

/// Where START has called.
const STARTED: u64 = CODE + 0x810;

/// Code at its places, zeros (traps) between; START at 0x804.
fn code(parts: &[(usize, &[u32])]) -> Vec<u8> {
    let mut code = vec![0; 0x1000];
    for (at, part) in parts.iter().chain(&[(0x804, START)]) {
        for (place, word) in code[*at..].chunks_mut(4).zip(*part) {
            place.copy_from_slice(&word.to_le_bytes());
        }
    }
    code
}

fn registers(ip: u64, fp: u64, link: u64) -> Registers {
    let mut general: [u64; 31] = core::array::from_fn(|number| number as u64);
    (general[29], general[30]) = (fp, link);
    Registers::with_all(VirtAddr::new(CODE + ip), VirtAddr::new(STACK), general)
}

fn walk(memory: &Memory, registers: Registers) -> (Vec<Frame<Registers>>, Stop) {
    let range = VirtAddr::new(CODE)..VirtAddr::new(CODE + 0x1000);
    let modules = ModuleMap::new(vec![Module { range, bias: 0, table: None, index: 0 }]);
    let (mut cache, limits) = (Cache::new(), Limits::default());
    let mut walk = Unwinder::new(&modules, memory, &limits).walk_aarch64(registers, &mut cache);
    let frames = walk.by_ref().collect();
    (frames, walk.stop())
}

fn ips(frames: &[Frame<Registers>]) -> Vec<u64> {
    frames.iter().map(|frame| frame.address.address().get().wrapping_sub(CODE)).collect()
}

#[test]
fn a_leaf_returns_from_where_it_stands() {
    let memory =
        Memory { code: code(&[(0x10, LEAF), (0x100, FRAMED)]), stack: vec![0, STARTED, 19, 20, 21, 0] };
    for ip in [0x10, 0x14, 0x18, 0x1c, 0x20] {
        let (frames, stop) = walk(&memory, registers(ip, STACK, CODE + 0x114));
        assert_eq!(
            (ips(&frames), stop),
            (vec![ip, 0x114, 0x810], Stop::NoUnwindInfo(VirtAddr::new(STARTED)))
        );
        assert_eq!((frames[1].found_by, frames[1].sp), (FoundBy::LinkRegister, VirtAddr::new(STACK)));
        assert_eq!((frames[2].found_by, frames[2].sp), (FoundBy::Code, VirtAddr::new(STACK + 48)));
        assert_eq!(frames[1].registers.get(AArch64::X19), Some(19));
    }
}

#[test]
fn every_place_of_a_function_with_a_record_leads_to_its_caller() {
    let record = |words: &[u64]| [&[0, STARTED][..], words].concat();
    // By place: the words on the stack, x29, the link. x19 to x21 are stored, or not yet, or not any more.
    let cases: [(u64, Vec<u64>, u64, u64); 7] = [
        (0x10, vec![], 0, STARTED),
        (0x14, record(&[9, 9, 9, 9]), 0, STARTED),
        (0x18, record(&[9, 9, 9, 9]), STACK, STARTED),
        (0x1c, record(&[19, 20, 9, 9]), STACK, STARTED),
        (0x24, record(&[19, 20, 21, 9]), STACK, CODE + 0x24),
        (0x2c, record(&[19, 20, 21, 9]), STACK, CODE + 0x24),
        (0x30, vec![], 0, STARTED),
    ];
    for (ip, stack, fp, link) in cases {
        let memory = Memory { code: code(&[(0x10, FRAMED)]), stack };
        let (frames, stop) = walk(&memory, registers(ip, fp, link));
        assert_eq!((ips(&frames)[..2].to_vec(), frames.len()), (vec![ip, 0x810], 2), "{ip:#x} {stop:?}");
        let size = if (0x14..0x30).contains(&ip) { 48 } else { 0 };
        assert_eq!(
            (frames[1].sp.get(), frames[1].registers.get(AArch64::X29)),
            (STACK + size, Some(0)),
            "{ip:#x}"
        );
        let saved: Vec<_> = (19..22).map(|number| frames[1].registers.get(Register(number))).collect();
        assert_eq!(saved, [Some(19), Some(20), Some(21)], "{ip:#x}");
    }
}

#[test]
fn signed_links_are_followed_too() {
    let signed = STARTED | 0x0012 << 48;
    for (ip, stack, fp, link) in [
        (0x10, vec![], 0, STARTED),
        (0x14, vec![], 0, signed),
        (0x1c, vec![0, signed], STACK, signed),
        (0x20, vec![0, signed], STACK, CODE + 0x20),
        (0x24, vec![], 0, signed),
        (0x28, vec![], 0, STARTED),
    ] {
        let memory = Memory { code: code(&[(0x10, SIGNED)]), stack };
        let (frames, _) = walk(&memory, registers(ip, fp, link));
        assert_eq!(ips(&frames), [ip, 0x810], "{ip:#x}");
    }
}

#[test]
fn functions_without_frame_pointer_and_stubs_are_followed() {
    // A stub was interrupted that leads on behalf of OMITS.
    for (ip, link) in [(0x100, CODE + 0x18), (0x104, CODE + 0x18), (0x10c, CODE + 0x18)] {
        let memory = Memory { code: code(&[(0x10, OMITS), (0x100, STUB)]), stack: vec![STARTED, 0] };
        let (frames, _) = walk(&memory, registers(ip, 0, link));
        assert_eq!(ips(&frames), [ip, 0x18, 0x810]);
    }
    // More than an immediate number is taken off the stack.
    let mut stack = vec![0; 0x1_1230 / 8];
    (stack[0], stack[1]) = (7, STARTED);
    let memory = Memory { code: code(&[(0x10, BIG)]), stack };
    let (frames, _) = walk(&memory, registers(0x24, 0, CODE + 0x24));
    assert_eq!((ips(&frames), frames[1].sp.get()), (vec![0x24, 0x810], STACK + 0x1_1230));
    // The same, if what it calls does not come back.
    let mut parts = code(&[(0x10, BIG)]);
    parts[0x24..0x38].fill(0);
    let (frames, _) = walk(&Memory { code: parts, ..memory }, registers(0x24, 0, CODE + 0x24));
    assert_eq!((ips(&frames), frames[1].sp.get()), (vec![0x24, 0x810], STACK + 0x1_1230));
    // Where it has begun to.
    let memory = Memory { code: code(&[(0x10, BIG)]), stack: vec![] };
    for (ip, taken) in [(0x10, 0), (0x14, 0), (0x18, 0)] {
        let mut start = registers(ip, 0, STARTED);
        start.set(Register(12), if ip == 0x18 { 0x1_1230 } else { 0x1230 });
        let (frames, _) = walk(&memory, start);
        assert_eq!((ips(&frames), frames[1].sp.get()), (vec![ip, 0x810], STACK + taken), "{ip:#x}");
    }
}

#[test]
fn functions_that_never_return_are_followed_from_their_start() {
    let memory = Memory { code: code(&[(0x10, ENDLESS)]), stack: vec![0, STARTED, 19, 0] };
    let (frames, _) = walk(&memory, registers(0x20, STACK, CODE + 0x20));
    assert_eq!((ips(&frames), frames[1].found_by), (vec![0x20, 0x810], FoundBy::FramePointer));
    assert_eq!((frames[1].sp.get(), frames[1].registers.get(AArch64::X19)), (STACK + 32, Some(19)));
    // Its link was stored, and x29 is somebody else's. The next function begins right behind.
    let mut parts = code(&[(0x10, EXITS), (0x1c, LEAF)]);
    for behind in [LEAF, FRAMED, SIGNED] {
        parts.splice(0x1c.., code(&[])[0x1c..].to_vec());
        for (place, word) in parts[0x1c..].chunks_mut(4).zip(behind) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let memory = Memory { code: parts.clone(), stack: vec![STARTED, 0, 19, 0] };
        let (frames, _) = walk(&memory, registers(0x1c - 4, 0x1234, CODE + 0x1c));
        assert_eq!((ips(&frames), frames[1].found_by), (vec![0x18, 0x810], FoundBy::Code));
        assert_eq!((frames[1].sp.get(), frames[1].registers.get(AArch64::X19)), (STACK + 32, Some(19)));
        assert_eq!(frames[1].registers.get(AArch64::X29), Some(0x1234));
    }
}

#[test]
fn where_there_is_no_caller_the_walk_ends() {
    // By the ABI: no frame pointer, and nowhere to return to.
    let memory = Memory { code: code(&[(0x10, FRAMED)]), stack: vec![0, 0, 19, 20, 21, 0] };
    let (frames, stop) = walk(&memory, registers(0x24, STACK, CODE + 0x24));
    assert_eq!((ips(&frames), stop), (vec![0x24], Stop::End));
    // A return to what was not called from, or is no code; a link that is not known.
    for (link, words) in [(CODE + 0x800, vec![]), (0x1234_5678, vec![]), (CODE + 0x10, vec![])] {
        let memory = Memory { code: code(&[(0x10, LEAF)]), stack: words };
        let (frames, stop) = walk(&memory, registers(0x10, STACK, link));
        assert_eq!((frames.len(), stop), (1, Stop::NoUnwindInfo(VirtAddr::new(CODE + 0x10))));
    }
    // A record that leads back to itself.
    let memory = Memory { code: code(&[(0x10, ENDLESS)]), stack: vec![STACK, CODE + 0x20, 19, 0] };
    let (frames, stop) = walk(&memory, registers(0x20, STACK, 0));
    assert_eq!((ips(&frames), stop), (vec![0x20, 0x20], Stop::NoUnwindInfo(VirtAddr::new(CODE + 0x20))));
}

#[test]
fn noise_is_walked_in_bounds() {
    let mut random = Random(0xa64_a64_a64);
    for _ in common::times(300) {
        let all = [FRAMED, SIGNED, OMITS, LEAF, ENDLESS, EXITS, STUB, BIG, START].concat();
        let bytes: Vec<u8> = (0..0x400)
            .flat_map(|_| {
                let word =
                    if random.below(8) == 0 { random.next() as u32 } else { all[random.below(all.len())] };
                word.to_le_bytes()
            })
            .collect();
        let mut word = |_| match random.below(3) {
            0 => CODE + 4 * random.below(0x400) as u64,
            1 => STACK + 8 * random.below(256) as u64,
            _ => random.next(),
        };
        let stack: Vec<u64> = (0..256).map(&mut word).collect();
        let mut start = registers(0, word(0), word(0));
        start.set(AArch64::PC, CODE + word(0) % 0x1000 / 4 * 4);
        let (frames, _) = walk(&Memory { code: bytes, stack }, start);
        assert!(!frames.is_empty() && frames.len() <= Limits::default().frames);
        // Up, or as low as a frame that has stored nothing.
        assert!(frames.windows(2).all(|two| two[0].interrupted_by_signal
            || two[0].sp <= two[1].sp
            || two[1].interrupted_by_signal));
    }
}

#[test]
fn guesses_lie_behind_calls() {
    let memory = Memory {
        code: code(&[(0x10, FRAMED)]),
        stack: vec![7, STARTED | 0x55 << 48, CODE + 0x24, CODE + 0x20, STACK, 0],
    };
    let range = VirtAddr::new(CODE)..VirtAddr::new(CODE + 0x1000);
    let modules = ModuleMap::new(vec![Module { range, bias: 0, table: None, index: 0 }]);
    let from = VirtAddr::new(STACK + 1);
    let frames = guess_callers_aarch64(&modules, &memory, from, &Limits::default(), Signature::default());
    let found: Vec<_> =
        frames.iter().map(|frame| (frame.address.address().get() - CODE, frame.sp.get() - STACK)).collect();
    assert_eq!(found, [(0x810, 16), (0x24, 24)]);
    assert!(frames.iter().all(|frame| frame.found_by == FoundBy::Scan && frame.address.is_return_address()));
}
