//! A caller by following the code to the function's return, where nothing describes it. What it returns to has to lie behind a
//! call.

use vmc::{VirtAddr, VirtualMemory};

use super::bare::is_returned_to;
use super::code::{Access, Effect, instruction_at};
use super::registers::{Registers, SP, X19, X29, X30};
use crate::follow::{self, Next, Places, Pushed, Returned, State};
use crate::module::Modules;
use crate::row_step::RegisterFile;

/// x0 to x18, and the link: what a call may change.
const SCRATCH: u32 = 0x7_ffff | 1 << X30;
/// Stubs that lead to another module's function jump by this one; it keeps nothing across calls.
const STUBS: u16 = 17;

/// Follows the code from `registers` on to a return, in at most `steps` instructions.
pub(super) fn to_return<M: Modules + ?Sized, V: VirtualMemory + ?Sized>(
    modules: &M,
    memory: &V,
    registers: &Registers,
    steps: u32,
) -> Option<Returned<Registers>> {
    let follower = Follower { modules, memory, start: registers.ip().get() };
    let mut start = *registers;
    // What a callee has returned to is not where its caller will.
    if registers.link().is_none() {
        start.forget(gimli::Register(X30));
    }
    follow::to_return(&start, steps, |state, places| follower.step(state, places))
}

struct Follower<'a, M: ?Sized, V: ?Sized> {
    modules: &'a M,
    memory: &'a V,
    /// Where the walk begins.
    start: u64,
}

impl<M: Modules + ?Sized, V: VirtualMemory + ?Sized> Follower<'_, M, V> {
    fn step(&self, state: &mut State<Registers>, places: &mut Places) -> Next<Registers> {
        let at = state.ip;
        let Some(effect) = instruction_at(self.memory, VirtAddr::new(at)) else { return Next::Nowhere };
        state.ip = at.wrapping_add(4);
        let registers = &mut state.registers;
        match effect {
            Effect::None => {}
            Effect::Write(lost) => return forget(registers, lost),
            Effect::Set { to, from, plus } => {
                state.by_frame_pointer |= (to, from) == (SP, X29);
                let value = registers.value(from).map(|value| value.wrapping_add_signed(plus));
                return set(registers, to, value);
            }
            Effect::Sum { to, from, other, minus } => {
                let value = registers.value(from).zip(registers.value(other));
                let value = value.map(|(from, other)| match minus {
                    true => from.wrapping_sub(other),
                    false => from.wrapping_add(other),
                });
                return set(registers, to, value);
            }
            Effect::Number { to, value } => return set(registers, to, Some(value)),
            Effect::Part { to, value, shift } => {
                let before = registers.value(to);
                let value = before.map(|before| before & !(0xffff << shift) | value << shift);
                return set(registers, to, value);
            }
            Effect::Access(access) => return self.access(registers, &mut state.pushed, &access),
            Effect::Call | Effect::SystemCall => {
                // A system call changes less, but what it does to these is not followed either.
                let keeps_link = effect == Effect::SystemCall;
                return forget(registers, if keeps_link { SCRATCH & !(1 << X30) } else { SCRATCH });
            }
            Effect::Jump(target) => {
                if !places.is_new(target) {
                    return Next::Nowhere;
                }
                state.ip = target;
                // It goes on as another function.
                if self.begins_at(target) {
                    state.ip = target.wrapping_add(4);
                }
            }
            Effect::Branch(target) => return Next::Fork(target),
            Effect::Return(number) => return self.returned(registers, &state.pushed, number),
            Effect::JumpAway(STUBS) => return self.returned(registers, &state.pushed, X30),
            // Only where a walk begins, or where a jump led, may a function begin.
            Effect::Entry if at == self.start => {}
            Effect::Entry | Effect::JumpAway(_) | Effect::Halt => return Next::Nowhere,
        }
        Next::On
    }

    fn begins_at(&self, at: u64) -> bool {
        instruction_at(self.memory, VirtAddr::new(at)) == Some(Effect::Entry)
    }

    fn access(&self, registers: &mut Registers, pushed: &mut Pushed, access: &Access) -> Next<Registers> {
        let base = registers.value(access.base);
        let place = base.map(|base| base.wrapping_add_signed(access.plus));
        for (number, offset) in access.words.into_iter().zip([0, 8]) {
            let Some(number) = number else { continue };
            match (access.load, place) {
                (true, Some(place)) => {
                    pushed.load(self.memory, registers, number, place.wrapping_add(offset));
                }
                (true, None) => registers.forget(gimli::Register(number)),
                (false, Some(place)) => {
                    let place = place.wrapping_add(offset);
                    // Only of these what was there before comes back.
                    match registers.value(number).filter(|_| number >= X19) {
                        Some(value) => pushed.put(place, value),
                        None => pushed.lose(place),
                    }
                }
                (false, None) => {}
            }
        }
        if access.moved != 0 {
            let moved = base.map(|base| base.wrapping_add_signed(access.moved));
            if let next @ Next::Nowhere = set(registers, access.base, moved) {
                return next;
            }
        }
        forget(registers, access.lost)
    }

    /// The caller, if `number` holds a return address.
    fn returned(&self, registers: &Registers, pushed: &Pushed, number: u16) -> Next<Registers> {
        let found = || {
            let mut caller = *registers;
            let ip = registers.value(number)?;
            if pushed.is_below_start(registers.sp().get()) {
                return None;
            }
            caller.keep_callee_saved();
            caller.return_to(ip);
            is_returned_to(self.modules, self.memory, &caller).then_some(caller)
        };
        found().map_or(Next::Nowhere, Next::Returned)
    }
}

/// The registers get what is not followed: without the stack pointer there is no way on.
fn forget(registers: &mut Registers, lost: u32) -> Next<Registers> {
    if lost >> SP & 1 == 1 {
        return Next::Nowhere;
    }
    for number in (0..SP).filter(|number| lost >> number & 1 == 1) {
        registers.forget(gimli::Register(number));
    }
    Next::On
}

fn set(registers: &mut Registers, number: u16, value: Option<u64>) -> Next<Registers> {
    match value {
        Some(value) => {
            registers.put(number, value);
            Next::On
        }
        None => forget(registers, 1 << number),
    }
}
