//! Walks over stacks made by hand.

mod common;

use common::{Cfi, DEF_CFA_OFFSET, NO_CALLER, Words};
use vmc::view::{FoundBy, Stop};
use vmc::{Limits, VirtAddr};
use vmc_unwind::gimli::X86_64;
use vmc_unwind::x86_64::Registers;
use vmc_unwind::{Cache, CodeAddress, Frame, ModuleMap, Unwinder};

const BIAS: u64 = 0x7f00_0000_0000;
const STACK: u64 = 0x7ffc_0000_0000;

/// 0x1000: pushed rbx and rbp. 0x2000: outermost. 0x3000: nothing pushed. 0x4000: a PLT stub. 0x5000: a signal return.
/// 0x6000: CFA by rbp. 0x7000: the return address is kept. 0x8000: the CFA is rsp.
fn cfi() -> Cfi {
    let mut cfi = Cfi::default();
    let cie = cfi.cie("zR", &[]);
    cfi.fde(cie, 0x1000, 0x1000, &[DEF_CFA_OFFSET, 24, 0x83, 3, 0x86, 2]);
    cfi.fde(cie, 0x2000, 0x100, &NO_CALLER);
    cfi.fde(cie, 0x3000, 0x100, &[]);
    // CFA = rsp + 8 + ((rip & 15) >= 11) * 8, as ld writes it.
    let plt = [0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
    cfi.fde(cie, 0x4000, 0x100, &plt);
    let signal = cfi.cie("zRS", &[]);
    // From rsp on, in words: rip, rsp, rbp, rax.
    let restore =
        [[0x10, 16, 2, 0x77, 0], [0x10, 7, 2, 0x77, 8], [0x10, 6, 2, 0x77, 16], [0x10, 0, 2, 0x77, 24]];
    // The CFA is the interrupted stack pointer; the table begins a byte before, as glibc's does.
    let body = [&[0x0f, 3, 0x77, 8, 0x06][..], &restore.concat()].concat();
    cfi.fde(signal, 0x4fff, 0x10, &body);
    cfi.fde(cie, 0x6000, 0x100, &[0x0c, 6, 16, 0x86, 2]);
    cfi.fde(cie, 0x7000, 0x100, &[0x08, 16]);
    cfi.fde(cie, 0x8000, 0x100, &[DEF_CFA_OFFSET, 0]);
    // A coroutine's first function: the CFA lies at rsp, and the return address 8 below that.
    cfi.fde(cie, 0x9000, 0x100, &[0x0f, 3, 0x77, 0, 0x06]);
    cfi
}

struct Walked {
    frames: Vec<Frame>,
    stop: Stop,
}

fn walk_with(modules: &ModuleMap, ip: u64, words: &[u64], limits: &Limits, cache: &mut Cache) -> Walked {
    let mut registers = Registers::new(VirtAddr::new(ip), VirtAddr::new(STACK));
    for register in [X86_64::RBX, X86_64::RBP, X86_64::R12, X86_64::RAX] {
        registers.set(register, u64::from(register.0));
    }
    let memory = Words(STACK, words.to_vec());
    let mut walk = Unwinder::new(modules, &memory, limits).walk(registers, cache);
    let frames = walk.by_ref().collect();
    assert_eq!(walk.next(), None);
    Walked { frames, stop: walk.stop() }
}

/// The walk from `ip` (a link-time address), by an empty cache and by one that is filled: the same.
fn walk(ip: u64, words: &[u64]) -> Walked {
    let modules = cfi().module(BIAS);
    let mut cache = Cache::new();
    let cold = walk_with(&modules, BIAS + ip, words, &Limits::default(), &mut cache);
    let warm = walk_with(&modules, BIAS + ip, words, &Limits::default(), &mut cache);
    assert_eq!((cold.frames, cold.stop), (warm.frames.clone(), warm.stop));
    warm
}

fn addresses(walked: &Walked) -> Vec<u64> {
    walked.frames.iter().map(|frame| frame.address.address().get().wrapping_sub(BIAS)).collect()
}

#[test]
fn callee_saved_registers_go_up_the_stack() {
    let walked = walk(0x1004, &[0xb, 0xbb, BIAS + 0x3004, BIAS + 0x2004]);
    assert_eq!((addresses(&walked), walked.stop), (vec![0x1004, 0x3004, 0x2004], Stop::End));
    let [first, second, third] = &walked.frames[..] else { panic!() };
    assert_eq!(first.address, CodeAddress::InstructionPointer(VirtAddr::new(BIAS + 0x1004)));
    assert_eq!(
        (first.found_by, first.sp, first.cfa),
        (FoundBy::Registers, VirtAddr::new(STACK), Some(second.sp))
    );
    assert_eq!(second.address, CodeAddress::ReturnAddress(VirtAddr::new(BIAS + 0x3004)));
    assert_eq!((second.found_by, second.sp), (FoundBy::Cfi, VirtAddr::new(STACK + 24)));
    for frame in [second, third] {
        let value = |register| frame.registers.get(register);
        assert_eq!((value(X86_64::RBX), value(X86_64::RBP)), (Some(0xb), Some(0xbb)));
        assert_eq!((value(X86_64::R12), value(X86_64::R13), value(X86_64::RAX)), (Some(12), None, None));
        assert_eq!(value(X86_64::RSP), Some(frame.sp.get()));
        assert_eq!(value(X86_64::RA), Some(frame.address.address().get()));
    }
    assert_eq!((third.cfa, third.interrupted_by_signal), (Some(VirtAddr::new(STACK + 40)), false));
}

#[test]
fn a_call_as_the_last_instruction_belongs_to_its_function() {
    // 0x2000 is the end of the function at 0x1000, and the start of the outermost one.
    let walked = walk(0x3000, &[BIAS + 0x2000, 0xb, 0xbb, BIAS + 0x3004, 0]);
    assert_eq!((addresses(&walked), walked.stop), (vec![0x3000, 0x2000, 0x3004], Stop::End));
}

#[test]
fn plt_stubs_have_their_cfa_by_expression() {
    for (ip, words) in [(0x400a, &[BIAS + 0x2004][..]), (0x400b, &[9, BIAS + 0x2004])] {
        let walked = walk(ip, words);
        assert_eq!((addresses(&walked), walked.stop), (vec![ip, 0x2004], Stop::End));
        assert_eq!(walked.frames[1].registers.get(X86_64::RBX), Some(3));
    }
}

#[test]
fn a_signal_frame_gives_all_registers_and_another_stack() {
    // The handler returns to the restorer at 0x5000; the interrupted function stood at its first byte, on a stack below.
    let below = STACK + 64;
    let mut words = vec![BIAS + 0x5000, BIAS + 0x1000, below, 0x66, 0x77];
    words.resize(8, 0);
    words.extend([0xb, 0xbb, BIAS + 0x2004]);
    let walked = walk(0x3004, &words);
    assert_eq!((addresses(&walked), walked.stop), (vec![0x3004, 0x5000, 0x1000, 0x2004], Stop::End));
    let interrupted = &walked.frames[2];
    assert_eq!(interrupted.address, CodeAddress::InstructionPointer(VirtAddr::new(BIAS + 0x1000)));
    assert_eq!((interrupted.found_by, interrupted.interrupted_by_signal), (FoundBy::SignalFrame, true));
    assert_eq!((interrupted.sp, walked.frames[1].cfa), (VirtAddr::new(below), Some(VirtAddr::new(below))));
    assert_eq!(interrupted.registers.get(X86_64::RAX), Some(0x77));
    assert_eq!(interrupted.registers.get(X86_64::RBP), Some(0x66));
    assert_eq!((walked.frames[3].found_by, walked.frames[3].interrupted_by_signal), (FoundBy::Cfi, false));
    assert_eq!(walked.frames[3].registers.get(X86_64::RAX), None);
}

#[test]
fn circles_through_a_signal_frame_end() {
    // The interrupted stack pointer is the handler's own: round and round.
    let walked = walk(0x3004, &[BIAS + 0x5000, BIAS + 0x3004, STACK, 0, 0]);
    assert_eq!(addresses(&walked), [0x3004, 0x5000, 0x3004, 0x5000]);
    assert_eq!(walked.stop, Stop::BadFrame(VirtAddr::new(BIAS + 0x5000)));
    assert!(walked.frames[2].interrupted_by_signal);
}

#[test]
fn a_null_call_under_a_handler_is_a_frame() {
    let walked = walk(0x3004, &[BIAS + 0x5000, 0, STACK + 8, 0, 0]);
    assert_eq!(walked.frames[2].address, CodeAddress::InstructionPointer(VirtAddr::new(0)));
    assert_eq!((walked.frames.len(), walked.stop), (3, Stop::NoUnwindInfo(VirtAddr::new(0))));
}

#[test]
fn walks_that_do_not_get_on_are_bad_frames() {
    for (ip, words) in [
        // CFA = rbp + 16, and rbp is 6: below the stack.
        (0x6000, &[0, 0, 0][..]),
        // The return address stays where it is.
        (0x7000, &[0, 0]),
        // The CFA is the stack pointer.
        (0x8000, &[0, 0]),
    ] {
        let walked = walk(ip, words);
        assert_eq!((walked.frames.len(), walked.stop), (1, Stop::BadFrame(VirtAddr::new(BIAS + ip))));
    }
}

#[test]
fn a_return_address_in_a_register_leaves_the_stack_as_it_is() {
    // vfork takes its return address off the stack: CFA = rsp, rip in rbx (rdi there).
    let mut cfi = cfi();
    cfi.fde(0, 0x9000, 0x100, &[DEF_CFA_OFFSET, 0, 0x09, 16, 3]);
    let modules = cfi.module(BIAS);
    let run = |value: u64, words: &[u64]| {
        let mut registers = Registers::new(VirtAddr::new(BIAS + 0x9000), VirtAddr::new(STACK));
        registers.set(X86_64::RBX, value);
        let (memory, limits) = (Words(STACK, words.to_vec()), Limits::default());
        let mut cache = Cache::new();
        let mut walk = Unwinder::new(&modules, &memory, &limits).walk(registers, &mut cache);
        let frames = walk.by_ref().map(|frame| frame.address.address().get().wrapping_sub(BIAS));
        let addresses: Vec<u64> = frames.collect();
        (addresses, walk.stop())
    };
    let (addresses, stop) = run(BIAS + 0x3004, &[BIAS + 0x2004]);
    assert_eq!((addresses, stop), (vec![0x9000, 0x3004, 0x2004], Stop::End));
    // A register that holds the place itself leads nowhere.
    let (addresses, stop) = run(BIAS + 0x9000, &[0]);
    assert_eq!((addresses, stop), (vec![0x9000], Stop::BadFrame(VirtAddr::new(BIAS + 0x9000))));
}

#[test]
fn a_chain_of_frame_pointers_in_a_circle_ends() {
    // rbx's slot at 0x1000's frame restores rbp to an address below.
    let walked = walk(0x1000, &[0, STACK - 8, BIAS + 0x6004, 0, 0]);
    assert_eq!(addresses(&walked), [0x1000, 0x6004]);
    assert_eq!(walked.stop, Stop::BadFrame(VirtAddr::new(BIAS + 0x6004)));
}

#[test]
fn an_unreadable_stack_is_named() {
    let walked = walk(0x1000, &[1, 2]);
    assert_eq!(walked.stop, Stop::NotResident(VirtAddr::new(STACK + 16)));
    assert_eq!(walked.frames[0].cfa, Some(VirtAddr::new(STACK + 24)));
    let walked = walk(0x4000, &[]);
    assert_eq!(walked.stop, Stop::NotResident(VirtAddr::new(STACK)));
}

#[test]
fn a_lost_register_is_only_missed_where_it_is_needed() {
    let mut cfi = cfi();
    // rbp at CFA - 0x1000: not readable.
    cfi.fde(0, 0x9000, 0x100, &[0x86, 0x80, 0x04]);
    let modules = cfi.module(BIAS);
    let run =
        |words: &[u64]| walk_with(&modules, BIAS + 0x9000, words, &Limits::default(), &mut Cache::new());
    let walked = run(&[BIAS + 0x2004]);
    assert_eq!((walked.stop, walked.frames[1].registers.get(X86_64::RBP)), (Stop::End, None));
    let walked = run(&[BIAS + 0x6004]);
    assert_eq!(walked.stop, Stop::NotResident(VirtAddr::new(STACK + 8 - 0x1000)));
    assert_eq!(walked.frames[1].cfa, None);
}

#[test]
fn unknown_code_is_a_frame_and_the_end() {
    for outside in [BIAS + 0x2f00, 0xdead_beef] {
        let walked = walk(0x3000, &[outside]);
        assert_eq!((walked.frames.len(), walked.stop), (2, Stop::NoUnwindInfo(VirtAddr::new(outside))));
        assert_eq!(walked.frames[1].cfa, None);
    }
}

#[test]
fn the_bound_on_frames_holds() {
    let modules = cfi().module(BIAS);
    let words = vec![BIAS + 0x3004; 100];
    let limits = Limits { frames: 7, ..Limits::default() };
    let mut cache = Cache::new();
    let walked = walk_with(&modules, BIAS + 0x3004, &words, &limits, &mut cache);
    assert_eq!((walked.frames.len(), walked.stop), (7, Stop::Limit));
    // Two addresses: the instruction pointer and the return address.
    assert_eq!((cache.misses(), cache.hits()), (2, 5));
    let none = Limits { frames: 0, ..Limits::default() };
    assert_eq!(walk_with(&modules, BIAS, &words, &none, &mut cache).frames, []);
}

#[test]
fn a_cache_serves_several_processes_and_tells_tables_apart() {
    let first = cfi();
    let shared = std::sync::Arc::new(first.table());
    let mut cache = Cache::new();
    for bias in [BIAS, BIAS + 0x5000_0000] {
        let range = VirtAddr::new(bias)..VirtAddr::new(bias + 0x10_0000);
        let module = vmc_unwind::Module { range, bias, table: Some(shared.clone()), index: 0 };
        let walked = walk_with(
            &ModuleMap::new(vec![module]),
            bias + 0x3000,
            &[bias + 0x2004],
            &Limits::default(),
            &mut cache,
        );
        assert_eq!((walked.frames.len(), walked.stop), (2, Stop::End));
    }
    assert_eq!((cache.hits(), cache.misses()), (2, 2));
    // Another file with other rules at the same addresses.
    let mut other = Cfi::default();
    let cie = other.cie("zR", &[]);
    other.fde(cie, 0x3000, 0x100, &NO_CALLER);
    let modules = other.module(BIAS);
    let walked = walk_with(&modules, BIAS + 0x3000, &[BIAS + 0x2004], &Limits::default(), &mut cache);
    assert_eq!((walked.frames.len(), walked.stop), (1, Stop::End));
}

#[test]
fn what_threads_share_is_sync() {
    fn is_sync<T: Sync + Send>() {}
    is_sync::<vmc_unwind::UnwindTable>();
    is_sync::<ModuleMap>();
    is_sync::<Cache>();
}

#[test]
fn a_walk_goes_on_on_another_stack_where_cfi_says_so() {
    // The stack pointer is on the coroutine's stack, at words 8 and on; its caller's is below.
    let modules = cfi().module(BIAS);
    let run = |words: &[u64], limits: &Limits| {
        let registers = Registers::new(VirtAddr::new(BIAS + 0x9004), VirtAddr::new(STACK + 64));
        let memory = Words(STACK, words.to_vec());
        let mut cache = Cache::new();
        let mut walk = Unwinder::new(&modules, &memory, limits).walk(registers, &mut cache);
        let frames: Vec<Frame> = walk.by_ref().collect();
        (frames.len(), walk.stop())
    };
    let limits = Limits::default();
    let mut words = vec![0; 16];
    (words[0], words[8]) = (BIAS + 0x2004, STACK + 8);
    assert_eq!(run(&words, &limits), (2, Stop::End));
    // Onto itself.
    words[8] = STACK + 64;
    words[7] = BIAS + 0x9004;
    assert_eq!(run(&words, &limits), (1, Stop::BadFrame(VirtAddr::new(BIAS + 0x9004))));
    // In a circle: 64 -> 8 -> 64.
    (words[0], words[8], words[1]) = (BIAS + 0x9004, STACK + 8, STACK + 64);
    let (frames, stop) = run(&words, &limits);
    assert_eq!((frames, stop), (limits.stack_switches * 2 + 1, Stop::Limit));
}
