//! A caller by following the code to the function's return, where nothing describes it. The word found has to lie behind a call.

use vmc::{VirtAddr, VirtualMemory};

use super::code::{Effect, call_before, instruction_at};
use super::registers::{RIP, RSP, Registers};
use super::signal::returns_from_signal;
use crate::follow::{self, Next, Places, Pushed, Returned, State};
use crate::module::Modules;

const RBP: u16 = 6;
/// rax, rdx, rcx, rsi, rdi, r8 to r11: what a call may change.
const SCRATCH: [u16; 9] = [0, 2, 1, 4, 5, 8, 9, 10, 11];
/// Follows the code from `registers` on to a return, in at most `steps` instructions.
pub(crate) fn to_return<M: Modules + ?Sized, V: VirtualMemory + ?Sized>(
    modules: &M,
    memory: &V,
    registers: &Registers,
    steps: u32,
) -> Option<Returned<Registers>> {
    let follower = Follower { modules, memory, start: registers.ip().get() };
    follow::to_return(registers, steps, |state, places| follower.step(state, places))
}

struct Follower<'a, M: ?Sized, V: ?Sized> {
    modules: &'a M,
    memory: &'a V,
    /// Where the walk begins.
    start: u64,
}

impl<M: Modules + ?Sized, V: VirtualMemory + ?Sized> Follower<'_, M, V> {
    fn step(&self, state: &mut State<Registers>, places: &mut Places) -> Next<Registers> {
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
                pushed.load(self.memory, registers, register, sp);
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
                Some(base) if to != RSP => {
                    pushed.load(self.memory, registers, to, base.wrapping_add_signed(plus))
                }
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
                pushed.load(self.memory, registers, RBP, base);
            }
            Effect::Scratch | Effect::Call(_) | Effect::SystemCall => {
                for register in SCRATCH {
                    registers.forget(gimli::Register(register));
                }
            }
            Effect::Jump(target) => {
                if !places.is_new(target) {
                    return Next::Nowhere;
                }
                state.ip = target;
            }
            Effect::Branch(target) => return Next::Fork(target),
            Effect::Return(more) => {
                return self.returned(registers, pushed, more).map_or(Next::Nowhere, Next::Returned);
            }
            // Only where a walk begins may a function begin.
            Effect::Entry if first => {}
            Effect::Entry | Effect::JumpAway | Effect::Halt => return Next::Nowhere,
        }
        Next::On
    }

    /// The caller, if the word at the stack pointer is a return address.
    fn returned(&self, registers: &Registers, pushed: &Pushed, more: u16) -> Option<Registers> {
        let sp = registers.sp();
        if pushed.is_below_start(sp.get()) {
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
