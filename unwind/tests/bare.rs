//! Walks through code that no table describes.

#![allow(clippy::indexing_slicing, reason = "a test may panic, and so may its helpers")]

mod common;

use common::Random;
use common::bare::{CODE, Memory, STACK};
use vmc::view::{FoundBy, Stop};
use vmc::{Limits, VirtAddr};
use vmc_unwind::gimli::X86_64;
use vmc_unwind::x86_64::Registers;
use vmc_unwind::{Cache, Found, Frame, Module, ModuleMap, Modules, NoTable, Unwinder};

fn walk(memory: &Memory, ip: u64, rbp: u64) -> (Vec<Frame>, Stop) {
    let range = VirtAddr::new(CODE)..VirtAddr::new(CODE + 0x1000);
    walk_in(&ModuleMap::new(vec![Module { range, bias: 0, table: None, index: 0 }]), memory, ip, rbp)
}

fn walk_in(modules: &impl Modules, memory: &Memory, ip: u64, rbp: u64) -> (Vec<Frame>, Stop) {
    let mut registers = Registers::new(VirtAddr::new(CODE + ip), VirtAddr::new(STACK));
    registers.set(X86_64::RBP, rbp);
    registers.set(X86_64::RBX, 3);
    let (mut cache, limits) = (Cache::new(), Limits::default());
    let mut walk = Unwinder::new(modules, memory, &limits).walk(registers, &mut cache);
    let frames = walk.by_ref().collect();
    (frames, walk.stop())
}

fn ips(frames: &[Frame]) -> Vec<u64> {
    frames.iter().map(|frame| frame.address.address().get().wrapping_sub(CODE)).collect()
}

/// Code at its places, `int3` between.
fn code(parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut code = vec![0xcc; 0x1000];
    for (at, part) in parts {
        code[*at..*at + part.len()].copy_from_slice(part);
    }
    code
}

/// `xor %ebp,%ebp; call *%rax; hlt`.
const START: (usize, &[u8]) = (0x800, &[0x31, 0xed, 0xff, 0xd0, 0xf4]);

#[test]
fn a_leaf_returns_from_where_it_stands() {
    // mov (%rdi),%rax; je +1; nop; add %rax,%rax; ret
    let leaf = [0x48, 0x8b, 0x07, 0x74, 0x01, 0x90, 0x48, 0x01, 0xc0, 0xc3];
    let memory = Memory { code: code(&[(0x10, &leaf), START]), stack: vec![CODE + 0x804] };
    for ip in [0x10, 0x13, 0x15, 0x16, 0x19] {
        // rbp is the caller's: zero, so the caller begins there.
        let (frames, stop) = walk(&memory, ip, 0);
        assert_eq!((ips(&frames), stop), (vec![ip, 0x804], Stop::End));
        assert_eq!(frames[1].found_by, FoundBy::Code);
        assert_eq!(frames[1].registers.get(X86_64::RBX), Some(3));
    }
}

/// push %rbp; mov %rsp,%rbp; push %rbx; sub $8,%rsp; call *%rax; mov -8(%rbp),%rbx; leave; ret
const FRAMED: &[u8] =
    &[0x55, 0x48, 0x89, 0xe5, 0x53, 0x48, 0x83, 0xec, 8, 0xff, 0xd0, 0x48, 0x8b, 0x5d, 0xf8, 0xc9, 0xc3];

#[test]
fn every_place_of_a_function_with_a_frame_pointer_leads_to_its_caller() {
    // By place: the words on the stack from rsp on, and rbp.
    let caller = CODE + 0x804;
    let cases: [(u64, Vec<u64>, u64); 6] = [
        (0x10, vec![caller], 0),
        (0x11, vec![0, caller], 0),
        (0x14, vec![0, caller], STACK),
        (0x15, vec![3, 0, caller], STACK + 8),
        (0x1b, vec![9, 3, 0, caller], STACK + 16),
        (0x20, vec![caller], 0),
    ];
    for (ip, stack, rbp) in cases {
        let memory = Memory { code: code(&[(0x10, FRAMED), START]), stack };
        let (frames, stop) = walk(&memory, ip, rbp);
        assert_eq!((ips(&frames), stop), (vec![ip, 0x804], Stop::End), "at {ip:#x}");
        assert_eq!(frames[1].registers.get(X86_64::RBP), Some(0));
        assert_eq!(frames[1].registers.get(X86_64::RBX), Some(3), "at {ip:#x}");
    }
}

#[test]
fn a_function_that_never_returns_needs_the_chain() {
    // push %rbp; mov %rsp,%rbp; push %rbx; sub $8,%rsp; 1: call *%rax; jmp 1b
    let endless = [0x55, 0x48, 0x89, 0xe5, 0x53, 0x48, 0x83, 0xec, 8, 0xff, 0xd0, 0xeb, 0xfc];
    let code = code(&[(0x10, &endless), START]);
    let memory = Memory { code: code.clone(), stack: vec![9, 7, 0, CODE + 0x804] };
    let (frames, stop) = walk(&memory, 0x1b, STACK + 16);
    assert_eq!((ips(&frames), stop), (vec![0x1b, 0x804], Stop::End));
    assert_eq!(frames[1].found_by, FoundBy::FramePointer);
    // What was pushed behind the frame pointer is known, what may have been moved elsewhere is not.
    assert_eq!(frames[1].registers.get(X86_64::RBX), Some(7));
    assert_eq!(frames[1].registers.get(X86_64::R12), None);
    // rbp below the stack pointer, not aligned, or without a return address above.
    for (rbp, stack) in [
        (STACK - 8, vec![9, 7, 0, 0x804]),
        (STACK + 12, vec![9, 7, 0, 0x804]),
        (STACK + 16, vec![9, 7, 1, CODE + 0x803]),
        (STACK + 16, vec![9, 7, 0, 0x1000]),
        (STACK + 16, vec![9, 7, 0]),
    ] {
        let memory = Memory { code: code.clone(), stack };
        let (frames, stop) = walk(&memory, 0x1b, rbp);
        assert_eq!((frames.len(), stop), (1, Stop::NoUnwindInfo(VirtAddr::new(CODE + 0x1b))));
    }
}

/// One module, whose table would be where no memory is.
struct NotThere;

const MISSING: VirtAddr = VirtAddr::new(0xbad0);

impl Modules for NotThere {
    fn find(&self, address: VirtAddr) -> Option<Found<'_>> {
        let range = VirtAddr::new(CODE)..VirtAddr::new(CODE + 0x1000);
        range.contains(&address).then_some(Found {
            range,
            bias: 0,
            table: Err(NoTable::NotResident(MISSING)),
        })
    }
}

#[test]
fn where_a_table_is_not_in_memory_the_code_tells_or_what_is_missing_is_named() {
    let memory = Memory { code: code(&[(0x10, FRAMED), START]), stack: vec![9, 3, 0, CODE + 0x804] };
    let (frames, stop) = walk_in(&NotThere, &memory, 0x1b, STACK + 16);
    assert_eq!((ips(&frames), stop), (vec![0x1b, 0x804], Stop::End));
    // It spins and has no frame pointer: nothing tells.
    let memory = Memory { code: code(&[(0x10, &[0x90, 0xeb, 0xfd])]), stack: vec![CODE + 0x804] };
    let (frames, stop) = walk_in(&NotThere, &memory, 0x11, 0);
    assert_eq!((frames.len(), stop), (1, Stop::NotResident(MISSING)));
}

#[test]
fn a_function_without_a_frame_pointer_is_not_skipped() {
    // A function with one returns before this one, which spins: rbp is its caller's.
    let code = code(&[(0x10, FRAMED), (0x21, &[0x90, 0xeb, 0xfd]), START]);
    let memory = Memory { code, stack: vec![CODE + 0x1b, 9, 3, 0, CODE + 0x804] };
    let (frames, stop) = walk(&memory, 0x22, STACK + 24);
    assert_eq!((frames.len(), stop), (1, Stop::NoUnwindInfo(VirtAddr::new(CODE + 0x22))));
}

#[test]
fn a_function_that_calls_what_never_returns_is_known_by_the_call_that_made_it() {
    // push %rbx; push %rbp; sub $8,%rsp; call -; and another function right behind.
    let dead_end = [0x53, 0x55, 0x48, 0x83, 0xec, 8, 0xe8, 0, 0, 0, 0, 0x55, 0xf4];
    // xor %ebp,%ebp; call 0x10 (or 0x12, where no function begins that takes as much).
    let direct = |to: u32| [&[0x31, 0xed, 0xe8][..], &to.wrapping_sub(0x807).to_le_bytes(), &[0xf4]].concat();
    let indirect = [0x31, 0xed, 0x90, 0x90, 0x90, 0xff, 0xd0, 0xf4].to_vec();
    for (start, found) in [(direct(0x10), true), (direct(0x12), false), (indirect, true)] {
        let code = code(&[(0x10, &dead_end), (0x800, &start)]);
        // A stale word that looks the same lies where it should not.
        for (stack, found) in [
            (vec![CODE + 0x807, 0, 0x66, CODE + 0x807], found),
            (vec![CODE + 0x807, 0, CODE + 0x807, 0], false),
        ] {
            let (frames, stop) = walk(&Memory { code: code.clone(), stack }, 0x1b, 5);
            if found {
                assert_eq!((ips(&frames), stop), (vec![0x1b, 0x807], Stop::End));
                assert_eq!(frames[1].registers.get(X86_64::RBX), Some(0x66));
            } else {
                assert_eq!((frames.len(), stop), (1, Stop::NoUnwindInfo(VirtAddr::new(CODE + 0x1b))));
            }
        }
    }
}

#[test]
fn signal_frames_are_recognised_by_their_code() {
    let restorer = [0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05];
    let mut stack = vec![CODE + 0x40];
    stack.extend([0; 5]);
    // sp and ip of what was interrupted: a leaf on the same stack, further up.
    let mut words = [0; 17];
    words[15] = STACK + 8 * 30;
    words[16] = CODE + 0x10;
    stack.extend(words);
    stack.resize(30, 0);
    stack.push(CODE + 0x804);
    // The handler is about to return.
    let code = code(&[(0x10, &[0xc3]), (0x20, &[0xc3]), (0x40, &restorer), START]);
    let memory = Memory { code: code.clone(), stack: stack.clone() };
    let (frames, stop) = walk(&memory, 0x20, 0);
    assert_eq!((ips(&frames), stop), (vec![0x20, 0x40, 0x10, 0x804], Stop::End));
    let how: Vec<_> = frames.iter().map(|frame| (frame.found_by, frame.interrupted_by_signal)).collect();
    let expected = [
        (FoundBy::Registers, false),
        (FoundBy::Code, false),
        (FoundBy::SignalFrame, true),
        (FoundBy::Code, false),
    ];
    assert_eq!(how, expected);
    assert_eq!(frames[2].sp, VirtAddr::new(STACK + 240));
    // A frame that leads to itself, and one whose registers are missing.
    stack[1 + 5 + 15] = STACK + 8;
    stack[1 + 5 + 16] = CODE + 0x40;
    let (frames, stop) = walk(&Memory { code: code.clone(), stack: stack.clone() }, 0x20, 0);
    assert_eq!((frames.len(), stop), (3, Stop::BadFrame(VirtAddr::new(CODE + 0x40))));
    stack.truncate(20);
    let (frames, stop) = walk(&Memory { code, stack }, 0x20, 0);
    assert_eq!((frames.len(), stop), (2, Stop::NotResident(VirtAddr::new(STACK + 160))));
}

#[test]
fn code_made_of_noise_ends() {
    let mut random = Random(0x1234_5678_9abc_def1);
    for _ in common::times(3000) {
        let mut code: Vec<u8> = (0..0x1000).map(|_| random.next() as u8).collect();
        for _ in 0..40 {
            let at = random.below(0xff0);
            let parts: [&[u8]; 6] = [FRAMED, &[0xc3], &[0xc9, 0xc3], &[0xff, 0xd0], &[0xeb, 0xfe], &[0x58]];
            let part = parts[random.below(parts.len())];
            code[at..at + part.len().min(16)].copy_from_slice(&part[..part.len().min(16)]);
        }
        let stack = (0..64).map(|_| {
            if random.below(2) == 0 { CODE + random.next() % 0x1000 } else { STACK + random.next() % 512 }
        });
        let memory = Memory { stack: stack.collect(), code };
        let (frames, _) = walk(&memory, random.next() % 0x1000, STACK + random.next() % 512 / 8 * 8);
        assert!(frames.len() <= Limits::default().frames);
        assert!(frames.windows(2).all(|pair| pair[0].sp < pair[1].sp || pair[1].interrupted_by_signal));
    }
}

#[test]
fn guesses_are_words_behind_calls() {
    let range = VirtAddr::new(CODE)..VirtAddr::new(CODE + 0x1000);
    let modules = ModuleMap::new(vec![Module { range, bias: 0, table: None, index: 0 }]);
    // Behind a call, in code but behind none, no code, null.
    let stack = vec![CODE + 0x804, CODE + 0x10, 0x1234, 0, CODE + 0x804];
    let memory = Memory { code: code(&[START]), stack };
    let guess = |from, limits: &Limits| {
        let frames = vmc_unwind::guess_callers(&modules, &memory, VirtAddr::new(from), limits);
        assert!(frames.iter().all(|frame| frame.found_by == FoundBy::Scan));
        frames.iter().map(|frame| frame.sp.get() - STACK).collect::<Vec<_>>()
    };
    let limits = Limits::default();
    assert_eq!(guess(STACK, &limits), [8, 40]);
    assert_eq!(guess(STACK + 1, &limits), [40]);
    assert_eq!(guess(u64::MAX - 3, &limits), [0u64; 0]);
    assert_eq!(guess(STACK, &Limits { scan_words: 4, ..Limits::default() }), [8]);
    assert_eq!(guess(STACK, &Limits { frames: 1, ..Limits::default() }), [8]);
}
