//! A caller by following the code to the function's return, where nothing describes it.
//!
//! Whatever a function does, when it returns the stack pointer stands at its return address and the registers that it had
//! to preserve hold its caller's values. So the way there from where the frame stands tells what unwind information would:
//! what is taken off the stack, and which registers are loaded from it. Nothing is guessed: an instruction that cannot be
//! followed ends the attempt, and the word found has to lie behind a call.

use vmc::{VirtAddr, VirtualMemory};

use super::code::{Effect, call_before, instruction_at};
use super::registers::{RIP, RSP, Registers};
use super::signal::returns_from_signal;
use crate::module::Modules;

const RBP: u16 = 6;
/// rax, rdx, rcx, rsi, rdi, r8 to r11: what a call may change.
const SCRATCH: [u16; 9] = [0, 2, 1, 4, 5, 8, 9, 10, 11];
/// How many places a function's jumps lead to: each is gone to once.
const PLACES: usize = 48;

/// A caller, and how it was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Returned {
    pub(crate) registers: Registers,
    /// Did the stack pointer come from rbp?
    pub(crate) by_frame_pointer: bool,
}

/// Where the machine stands on one way through the code.
#[derive(Clone, Copy, Debug)]
struct State {
    ip: u64,
    registers: Registers,
    by_frame_pointer: bool,
    pushed: Pushed,
}

/// What the code has put onto the stack since the start, by address.
#[derive(Clone, Copy, Debug, Default)]
struct Pushed {
    words: [(u64, u64); 8],
    next: usize,
}

impl Pushed {
    fn put(&mut self, at: u64, value: u64) {
        if let Some(word) = self.words.get_mut(self.next) {
            *word = (at, value);
            self.next = (self.next + 1) % self.words.len();
        }
    }

    fn get(&self, at: u64) -> Option<u64> {
        // The newest first: a slot may have been used twice.
        let (newer, older) = self.words.split_at_checked(self.next)?;
        let found = newer.iter().rev().chain(older.iter().rev()).find(|(place, _)| *place == at && at != 0);
        found.map(|(_, value)| *value)
    }
}

/// Follows the code from `registers` on to a return, in at most `steps` instructions.
pub(crate) fn to_return<M: Modules + ?Sized, V: VirtualMemory + ?Sized>(
    modules: &M,
    memory: &V,
    registers: &Registers,
    steps: u32,
) -> Option<Returned> {
    let ip = registers.ip().get();
    let start = State { ip, registers: *registers, by_frame_pointer: false, pushed: Pushed::default() };
    let floor = registers.sp().get();
    let mut follower = Follower { modules, memory, start: ip, floor, left: steps, places: Places::default() };
    // The ways that were not taken at branches; one is tried when the way before it leads nowhere.
    let mut open = [start; PLACES];
    let mut count = 1;
    while let Some(next) = usize::checked_sub(count, 1) {
        count = next;
        let mut state = *open.get(count)?;
        loop {
            match follower.step(&mut state) {
                Next::On => {}
                Next::Fork(target) => {
                    if let Some(place) = open.get_mut(count)
                        && follower.places.is_new(target)
                    {
                        *place = State { ip: target, ..state };
                        count += 1;
                    }
                }
                Next::Returned(registers) => {
                    return Some(Returned { registers, by_frame_pointer: state.by_frame_pointer });
                }
                Next::Nowhere => break,
                Next::Spent => return None,
            }
        }
    }
    None
}

enum Next {
    On,
    Fork(u64),
    Returned(Registers),
    Nowhere,
    Spent,
}

/// Targets of jumps that were gone to.
struct Places {
    targets: [u64; PLACES],
    count: usize,
}

impl Default for Places {
    fn default() -> Self {
        Self { targets: [0; PLACES], count: 0 }
    }
}

impl Places {
    /// Remembers a target; says whether it is one not seen before, and there was room for it.
    fn is_new(&mut self, target: u64) -> bool {
        if self.targets.iter().take(self.count).any(|known| *known == target) {
            return false;
        }
        let Some(place) = self.targets.get_mut(self.count) else { return false };
        *place = target;
        self.count += 1;
        true
    }
}

struct Follower<'a, M: ?Sized, V: ?Sized> {
    modules: &'a M,
    memory: &'a V,
    /// Where the walk begins.
    start: u64,
    /// The stack pointer at the start: words below it are not what the code will have put there.
    floor: u64,
    left: u32,
    places: Places,
}

impl<M: Modules + ?Sized, V: VirtualMemory + ?Sized> Follower<'_, M, V> {
    fn step(&mut self, state: &mut State) -> Next {
        let Some(left) = self.left.checked_sub(1) else { return Next::Spent };
        self.left = left;
        let Some(code) = instruction_at(self.memory, VirtAddr::new(state.ip)) else { return Next::Nowhere };
        let next = state.ip.wrapping_add(u64::from(code.len));
        let first = state.ip == self.start;
        state.ip = next;
        let pushed = &mut state.pushed;
        let registers = &mut state.registers;
        let sp = registers.sp().get();
        match code.effect {
            Effect::None => {}
            Effect::Push(register) => {
                let at = sp.wrapping_sub(8);
                if let Some(value) = register.and_then(|register| registers.value(register)) {
                    pushed.put(at, value);
                }
                registers.put(RSP, at);
            }
            Effect::Pop(register) => {
                registers.put(RSP, sp.wrapping_add(8));
                self.load(registers, register, sp, pushed);
            }
            Effect::Drop => registers.put(RSP, sp.wrapping_add(8)),
            Effect::Set { to, from, plus } => match registers.value(from) {
                Some(value) => {
                    if to == RSP && from != RSP {
                        state.by_frame_pointer |= from == RBP;
                    }
                    registers.put(to, value.wrapping_add_signed(plus));
                }
                None if to == RSP => return Next::Nowhere,
                None => registers.forget(gimli::Register(to)),
            },
            Effect::Load { to, base, plus } => match registers.value(base) {
                Some(base) if to != RSP => self.load(registers, to, base.wrapping_add_signed(plus), pushed),
                _ if to == RSP => return Next::Nowhere,
                _ => registers.forget(gimli::Register(to)),
            },
            Effect::Write(one, other) => {
                if one == RSP || other == RSP {
                    return Next::Nowhere;
                }
                for register in [one, other, 0, 1] {
                    registers.forget(gimli::Register(register));
                }
            }
            Effect::Leave => {
                let Some(base) = registers.value(RBP) else { return Next::Nowhere };
                state.by_frame_pointer = true;
                registers.put(RSP, base.wrapping_add(8));
                self.load(registers, RBP, base, pushed);
            }
            Effect::Scratch | Effect::Call(_) | Effect::SystemCall => {
                for register in SCRATCH {
                    registers.forget(gimli::Register(register));
                }
            }
            Effect::Jump(target) => {
                if !self.places.is_new(target) {
                    return Next::Nowhere;
                }
                state.ip = target;
            }
            Effect::Branch(target) => return Next::Fork(target),
            Effect::Return(more) => {
                return self.returned(registers, more).map_or(Next::Nowhere, Next::Returned);
            }
            // Only where a walk begins may a function begin.
            Effect::Entry if first => {}
            Effect::Entry | Effect::JumpAway | Effect::Halt => return Next::Nowhere,
        }
        Next::On
    }

    /// A register becomes a word of memory; unknown, where that is not to be had.
    fn load(&self, registers: &mut Registers, number: u16, at: u64, pushed: &Pushed) {
        let value = match pushed.get(at) {
            Some(value) => Some(value),
            None if at >= self.floor => self.memory.read_u64(VirtAddr::new(at)).ok(),
            None => None,
        };
        match value {
            Some(value) => registers.put(number, value),
            None => registers.forget(gimli::Register(number)),
        }
    }

    /// The caller, if the word at the stack pointer is a return address.
    fn returned(&self, registers: &Registers, more: u16) -> Option<Registers> {
        let sp = registers.sp();
        if sp.get() < self.floor {
            return None;
        }
        let ip = VirtAddr::new(self.memory.read_u64(sp).ok()?);
        self.modules.find(ip.checked_sub(1)?)?;
        // A handler returns to where nothing was called from.
        if call_before(self.memory, ip).is_none() && !returns_from_signal(self.memory, ip) {
            return None;
        }
        let mut caller = *registers;
        caller.keep_callee_saved();
        caller.put(RIP, ip.get());
        caller.put(RSP, sp.get().checked_add(8 + u64::from(more))?);
        Some(caller)
    }
}
