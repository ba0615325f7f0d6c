//! A caller by the chain of frame pointers, where nothing describes the code.
//!
//! Source: System V ABI, x86_64: `push %rbp; mov %rsp,%rbp` at a function's start makes rbp point at the caller's rbp, above
//! which the return address lies. A function that does not do so leaves its caller's frame pointer alone, and then the
//! chain would skip a frame. So the function's start is looked for in its code first.

use vmc::{VirtAddr, VirtualMemory};

use super::code::{CallBefore, Effect, call_before, instruction_at};
use super::reach::{Taken, Window};
use super::registers::{RIP, RSP, Registers};
use super::signal::returns_from_signal;
use crate::module::Modules;

const RBP: u16 = 6;
/// `push %rbp; mov %rsp,%rbp` in both encodings.
const PROLOGUES: [[u8; 4]; 2] = [[0x55, 0x48, 0x89, 0xe5], [0x55, 0x48, 0x8b, 0xec]];
const ENDBR: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
/// How many places that look like a function's start are tried, the nearest first.
const TRIES: usize = 8;

/// The caller of the frame that stands at the window's place.
pub(crate) fn by_frame_pointer<M: Modules + ?Sized, V: VirtualMemory + ?Sized>(
    modules: &M,
    memory: &V,
    window: &Window,
    registers: &Registers,
) -> Option<Registers> {
    let base = registers.value(RBP)?;
    if base < registers.sp().get() || !base.is_multiple_of(8) {
        return None;
    }
    let saved = memory.read_u64(VirtAddr::new(base)).ok()?;
    let slot = VirtAddr::new(base.checked_add(8)?);
    let ip = VirtAddr::new(memory.read_u64(slot).ok()?);
    modules.find(ip.checked_sub(1)?)?;
    // Where a stack begins, its maker may have put a return address that no call has.
    let call = call_before(memory, ip);
    if call.is_none() && saved != 0 && !returns_from_signal(memory, ip) {
        return None;
    }
    let called = match call {
        Some(CallBefore::Direct(function)) => called_at(window, function),
        _ => None,
    };
    let taken = called.or_else(|| prologue_before(window))?;
    let mut caller = *registers;
    taken.restore(memory, &mut caller, slot);
    caller.put(RBP, saved);
    caller.put(RIP, ip.get());
    caller.put(RSP, base.checked_add(16)?);
    Some(caller)
}

/// The function that was called, if it makes a frame pointer and reaches the window's place.
fn called_at(window: &Window, function: VirtAddr) -> Option<Taken> {
    let offset = usize::try_from(function.offset_from(window.start)?).ok()?;
    let code = window.before().get(offset..)?;
    let code = code.strip_prefix(&ENDBR).unwrap_or(code);
    let starts = code.first_chunk::<4>().is_some_and(|start| PROLOGUES.contains(start));
    if starts { window.reached_from(offset) } else { None }
}

/// The nearest function before the window's place that makes a frame pointer and reaches it.
fn prologue_before(window: &Window) -> Option<Taken> {
    let places = window.before().windows(4).enumerate().rev();
    let places = places.filter(|(_, window)| PROLOGUES.iter().any(|prologue| prologue == window));
    let mut found = places.take(TRIES).filter_map(|(place, _)| window.reached_from(place));
    found.next()
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
