//! A caller by the call that made the frame, where nothing describes the code and it does not lead to a return (it calls what
//! never comes back).
//!
//! A word on the stack is taken for the return address only if everything agrees: a call lies before it; that call's function
//! (or, for an indirect call, a function that begins right behind the end of another) leads to where the frame stands;
//! and what it has taken off the stack pointer on the way there is exactly the distance from the frame to the word.

use vmc::{VirtAddr, VirtualMemory};

use super::code::{CallBefore, Effect, call_before, decode};
use super::reach::{Taken, Window};
use super::registers::{RIP, RSP, Registers};
use crate::module::Modules;

/// How many words of the stack are looked at.
const WORDS: u64 = 512;
/// How many functions are followed for one frame.
const TRIES: usize = 24;

/// The caller of the frame that stands at the window's place.
pub(crate) fn by_call<M: Modules + ?Sized, V: VirtualMemory + ?Sized>(
    modules: &M,
    memory: &V,
    window: &Window,
    registers: &Registers,
) -> Option<Registers> {
    let sp = registers.sp();
    let mut tries = TRIES;
    let mut behind_others: Option<[Option<Taken>; TRIES]> = None;
    for index in 0..WORDS {
        let slot = sp.checked_add(index * 8)?;
        let ip = VirtAddr::new(memory.read_u64(slot).ok()?);
        if ip.is_null() || modules.find(VirtAddr::new(ip.get().wrapping_sub(1))).is_none() {
            continue;
        }
        let fits = |taken: &Taken| taken.depth == Some(index * 8);
        let taken = match call_before(memory, ip) {
            Some(CallBefore::Direct(function)) => {
                let offset =
                    function.offset_from(window.start).and_then(|offset| usize::try_from(offset).ok());
                match offset.filter(|offset| *offset < window.before().len()) {
                    Some(offset) => {
                        tries = tries.checked_sub(1)?;
                        window.reached_from(offset)
                    }
                    None => None,
                }
            }
            // The ABI has the stack aligned where a call is made.
            Some(CallBefore::Indirect) if slot.get() % 16 == 8 => {
                let all = behind_others.get_or_insert_with(|| functions_behind_others(window));
                all.iter().flatten().find(|taken| fits(taken)).copied()
            }
            _ => None,
        };
        if let Some(taken) = taken.filter(fits) {
            let mut caller = *registers;
            taken.restore(memory, &mut caller, slot);
            caller.put(RSP, slot.get().wrapping_add(8));
            caller.put(RIP, ip.get());
            return Some(caller);
        }
    }
    None
}

/// The functions that begin right behind another one's end and take words off the stack at once, the nearest first, as far as
/// they lead to the window's place.
fn functions_behind_others(window: &Window) -> [Option<Taken>; TRIES] {
    let code = window.before();
    let mut found = [None; TRIES];
    let ends_before = |at: usize| {
        let byte = |back: usize| at.checked_sub(back).and_then(|at| code.get(at)).copied();
        matches!(byte(1), Some(0xc3 | 0xcc | 0x90 | 0xf4))
            || matches!(byte(5), Some(0xe9 | 0xe8))
            || byte(2) == Some(0xeb)
            || (byte(2), byte(1)) == (Some(0x0f), Some(0x0b))
    };
    let takes = |at: usize| {
        let first = code.get(at..).and_then(|code| decode(code, 0));
        matches!(
            first.map(|first| first.effect),
            Some(Effect::Push(Some(_)) | Effect::Entry | Effect::Set { to: RSP, from: RSP, plus: ..0 })
        )
    };
    let starts = (1..code.len()).rev().filter(|at| ends_before(*at) && takes(*at));
    for (place, start) in found.iter_mut().zip(starts) {
        *place = window.reached_from(start);
    }
    found
}
