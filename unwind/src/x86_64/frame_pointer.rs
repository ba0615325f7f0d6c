//! A caller by the chain of frame pointers, where nothing describes the code.
//!
//! Source: System V ABI, x86_64: `push %rbp; mov %rsp,%rbp` at a function's start makes rbp point at the caller's rbp, above
//! which the return address lies. A function that does not do so leaves its caller's frame pointer alone, and then the
//! chain would skip a frame. So the function's start is looked for in its code first.

use core::ops::Range;

use vmc::{VirtAddr, VirtualMemory};

use super::code::{CallBefore, Effect, LONGEST, call_before, decode, instruction_at};
use super::registers::{CALLEE_SAVED, RIP, RSP, Registers};
use super::signal::returns_from_signal;
use crate::module::Modules;

const RBP: u16 = 6;
/// How far before an address the function's start is looked for.
const REACH: usize = 8192;
/// `push %rbp; mov %rsp,%rbp` in both encodings.
const PROLOGUES: [[u8; 4]; 2] = [[0x55, 0x48, 0x89, 0xe5], [0x55, 0x48, 0x8b, 0xec]];
/// How many places that look like a function's start are tried, the nearest first.
const TRIES: usize = 8;
/// Registers that are pushed right behind the frame pointer: five others have to be preserved.
const PUSHED: usize = 5;

/// A function's frame, as its first instructions make it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Frame {
    /// The registers that lie below the saved frame pointer, downwards.
    pushed: [Option<u16>; PUSHED],
}

/// The caller of the frame that stands at `at` (the address by which it is looked up) in code of `range`.
pub(crate) fn by_frame_pointer<M: Modules + ?Sized, V: VirtualMemory + ?Sized>(
    modules: &M,
    memory: &V,
    range: &Range<VirtAddr>,
    at: VirtAddr,
    registers: &Registers,
) -> Option<Registers> {
    let base = registers.value(RBP)?;
    if base < registers.sp().get() || !base.is_multiple_of(8) {
        return None;
    }
    let saved = memory.read_u64(VirtAddr::new(base)).ok()?;
    let ip = VirtAddr::new(memory.read_u64(VirtAddr::new(base.checked_add(8)?)).ok()?);
    modules.find(ip.checked_sub(1)?)?;
    // Where a stack begins, its maker may have put a return address that no call has.
    let call = call_before(memory, ip);
    if call.is_none() && saved != 0 && !returns_from_signal(memory, ip) {
        return None;
    }
    let called = match call {
        Some(CallBefore::Direct(function)) => called_at(memory, function, at),
        _ => None,
    };
    let frame = called.or_else(|| prologue_before(memory, range, at))?;
    let mut caller = *registers;
    caller.keep_callee_saved();
    for number in CALLEE_SAVED {
        let place = frame.pushed.iter().position(|pushed| *pushed == Some(number));
        let word = place
            .and_then(|place| memory.read_u64(VirtAddr::new(base.checked_sub(8 * (place as u64 + 1))?)).ok());
        match word {
            Some(word) => caller.put(number, word),
            None => caller.forget(gimli::Register(number)),
        }
    }
    caller.put(RBP, saved);
    caller.put(RIP, ip.get());
    caller.put(RSP, base.checked_add(16)?);
    Some(caller)
}

/// The frame of the function that was called, if `at` can be in it.
fn called_at<V: VirtualMemory + ?Sized>(memory: &V, function: VirtAddr, at: VirtAddr) -> Option<Frame> {
    let distance = at.offset_from(function).and_then(|distance| usize::try_from(distance).ok());
    let distance = distance.filter(|distance| *distance < REACH)?;
    let mut bytes = [0; REACH + LONGEST];
    let code = bytes.get_mut(..distance)?;
    memory.read(function, code).ok()?;
    let entry = if code.starts_with(&[0xf3, 0x0f, 0x1e, 0xfa]) { 4 } else { 0 };
    let code = code.get(entry..)?;
    let starts = code.first_chunk::<4>().is_some_and(|start| PROLOGUES.contains(start));
    if starts { leads_here(code, function.get().wrapping_add(entry as u64)) } else { None }
}

/// The frame of the nearest function before `at` that begins with a frame pointer and leads to `at`.
fn prologue_before<V: VirtualMemory + ?Sized>(
    memory: &V,
    range: &Range<VirtAddr>,
    at: VirtAddr,
) -> Option<Frame> {
    let mut bytes = [0; REACH];
    let mut start = range.start.max(VirtAddr::new(at.get().saturating_sub(REACH as u64)));
    let mut len = usize::try_from(at.offset_from(start)?).ok()?;
    if memory.read(start, bytes.get_mut(..len)?).is_err() {
        // A page is missing: no further than this one.
        start = range.start.max(VirtAddr::new(at.get() & !0xfff));
        len = usize::try_from(at.offset_from(start)?).ok()?;
        memory.read(start, bytes.get_mut(..len)?).ok()?;
    }
    let code = bytes.get(..len)?;
    let places = code.windows(4).enumerate().rev();
    let places = places.filter(|(_, window)| PROLOGUES.iter().any(|prologue| prologue == window));
    let found = places
        .take(TRIES)
        .find_map(|(place, _)| leads_here(code.get(place..)?, start.get().wrapping_add(place as u64)));
    found
}

/// Does the code, which begins with a function's first instructions and lies at `address`, lead to its own end? Where its flow ends
/// before, some jump has to lead beyond.
fn leads_here(code: &[u8], address: u64) -> Option<Frame> {
    let end = address.wrapping_add(code.len() as u64);
    let mut frame = Frame::default();
    let mut pushes = 0;
    let mut straight = true;
    let mut reach = 0;
    let mut at = 4;
    while at < code.len() {
        let ip = address.wrapping_add(at as u64);
        let found = decode(code.get(at..)?, ip)?;
        at += usize::from(found.len);
        let next = ip.wrapping_add(u64::from(found.len));
        match found.effect {
            Effect::Push(register) if straight => {
                if let Some(place) = frame.pushed.get_mut(pushes) {
                    *place = register;
                    pushes += 1;
                }
            }
            Effect::Branch(target) => reach = reach.max(if target <= end { target } else { 0 }),
            Effect::Jump(target) => {
                reach = reach.max(if target <= end { target } else { 0 });
                if reach < next {
                    return None;
                }
            }
            Effect::Return(_) | Effect::JumpAway | Effect::Halt | Effect::Entry if reach < next => {
                return None;
            }
            _ => {}
        }
        straight &= matches!(found.effect, Effect::Push(_));
    }
    Some(frame)
}

/// How far before an address a program's start is looked for.
const START: u64 = 48;

/// Is this the function that a program or a thread begins in? By the ABI it is the one that clears the frame pointer.
pub(crate) fn begins_here<V: VirtualMemory + ?Sized>(
    memory: &V,
    at: VirtAddr,
    registers: &Registers,
) -> bool {
    if registers.value(RBP) != Some(0) {
        return false;
    }
    (2..START).filter_map(|back| at.checked_sub(back)).any(|start| clears_and_leads(memory, start, at))
}

/// Is `xor %ebp,%ebp` at `start`, and does nothing but straight code lie between it and `at`?
fn clears_and_leads<V: VirtualMemory + ?Sized>(memory: &V, start: VirtAddr, at: VirtAddr) -> bool {
    let mut bytes = [0; 3];
    if memory.read(start, &mut bytes).is_err() {
        return false;
    }
    if !matches!(bytes, [0x31, 0xed, _] | [0x33, 0xed, _] | [0x48, 0x31, 0xed] | [0x48, 0x33, 0xed]) {
        return false;
    }
    let mut ip = start;
    while ip < at {
        let Some(code) = instruction_at(memory, ip) else { return false };
        let ends = matches!(
            code.effect,
            Effect::Return(_) | Effect::Jump(_) | Effect::JumpAway | Effect::Halt | Effect::Entry
        );
        if ends {
            return false;
        }
        ip = ip.wrapping_add(u64::from(code.len));
    }
    true
}
