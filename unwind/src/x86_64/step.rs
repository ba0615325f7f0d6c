//! From a frame's registers to its caller's, by a compact rule or by a whole row.

use gimli::Register;
use vmc::{VirtAddr, VirtualMemory};

use super::registers::{CALLEE_SAVED, RIP, RSP, Registers};
use super::rule::Rule;
use crate::cfi::{CfaRule, ExpressionAt, RegisterRule, Row, UnwindTable};
use crate::expression::{ExpressionError, evaluate};

/// Why there is no caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoCaller {
    /// The frame is the outermost.
    Outermost,
    /// Memory that its rules need is not to be had.
    NotResident(VirtAddr),
    /// A register that its rules need is not known.
    UnknownRegister,
    /// Its rules or the stack contradict themselves.
    Contradiction,
}

/// What a step leaves behind besides registers.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// The frame's CFA, as soon as it is known.
    pub(crate) cfa: Option<VirtAddr>,
    /// Where a saved register could not be read first: it became unknown, and may be missed later.
    pub(crate) unread: Option<VirtAddr>,
    /// The caller is further down: on another stack.
    pub(crate) switched: bool,
}

/// A CFA out of a register that is this far below the stack pointer is on another stack (a coroutine's caller): nothing that a
/// frame has taken off its own.
const OTHER_STACK: u64 = 64 << 10;

/// Can `cfa`, which is not above the stack pointer, be on another stack? `register`: it is computed from this one.
#[cold]
fn on_other_stack<V: VirtualMemory + ?Sized>(memory: &V, cfa: u64, sp: VirtAddr, register: u16) -> bool {
    register != RSP
        && sp.get().saturating_sub(cfa) >= OTHER_STACK
        && cfa.checked_sub(8).is_some_and(|word| memory.read_u64(VirtAddr::new(word)).is_ok())
}

/// Makes the registers of a frame those of its caller.
#[inline]
pub(crate) fn by_rule<V: VirtualMemory + ?Sized>(
    rule: &Rule,
    registers: &mut Registers,
    memory: &V,
    notes: &mut Notes,
) -> Result<(), NoCaller> {
    let base = registers.value(u16::from(rule.cfa_register)).ok_or(NoCaller::UnknownRegister)?;
    let cfa = base.wrapping_add_signed(i64::from(rule.cfa_offset));
    notes.cfa = Some(VirtAddr::new(cfa));
    if rule.return_address == 0 {
        return Err(NoCaller::Outermost);
    }
    if cfa <= registers.sp().get() {
        if !on_other_stack(memory, cfa, registers.sp(), u16::from(rule.cfa_register)) {
            return Err(NoCaller::Contradiction);
        }
        notes.switched = true;
    }
    let word = |words: i16| VirtAddr::new(cfa.wrapping_add_signed(i64::from(words) * 8));
    let ip = memory.read_u64(word(rule.return_address)).map_err(|error| NoCaller::NotResident(error.addr))?;
    registers.keep_callee_saved();
    if rule.saves {
        for (number, words) in CALLEE_SAVED.into_iter().zip(rule.saved) {
            if words != 0 {
                restore(memory.read_u64(word(words)), number, registers, notes);
            }
        }
    }
    registers.put(RSP, cfa);
    registers.put(RIP, ip);
    Ok(())
}

#[inline]
fn restore(read: Result<u64, vmc::ReadError>, number: u16, registers: &mut Registers, notes: &mut Notes) {
    match read {
        Ok(value) => registers.put(number, value),
        Err(error) => {
            notes.unread = notes.unread.or(Some(error.addr));
            registers.forget(Register(number));
        }
    }
}

/// What a row's rules are evaluated with.
pub(crate) struct RowStep<'r, V: ?Sized> {
    pub(crate) table: &'r UnwindTable,
    pub(crate) memory: &'r V,
    /// How many operations an expression may take.
    pub(crate) steps: u32,
}

impl<V: VirtualMemory + ?Sized> RowStep<'_, V> {
    /// Makes the registers of a frame those of its caller.
    pub(crate) fn by_row(
        &self,
        row: &Row,
        registers: &mut Registers,
        notes: &mut Notes,
    ) -> Result<(), NoCaller> {
        let cfa = match row.cfa {
            CfaRule::RegisterAndOffset { register, offset } => {
                registers.get(register).ok_or(NoCaller::UnknownRegister)?.wrapping_add_signed(offset)
            }
            CfaRule::Expression(at) => self.expression(at, None, registers)?,
        };
        notes.cfa = Some(VirtAddr::new(cfa));
        let ip = match row.return_address {
            RegisterRule::Undefined => return Err(NoCaller::Outermost),
            // A return address that stays where it is leads back here.
            RegisterRule::Unspecified | RegisterRule::SameValue => return Err(NoCaller::Contradiction),
            rule => self.value(rule, RIP, cfa, registers)?,
        };
        let mut caller = *registers;
        caller.keep_callee_saved();
        caller.put(RSP, cfa);
        for (register, rule) in row.registers() {
            if register.0 == RIP {
                continue;
            }
            match self.value(rule, register.0, cfa, registers) {
                Ok(value) => caller.put(register.0, value),
                Err(NoCaller::NotResident(at)) if register.0 != RSP => {
                    notes.unread = notes.unread.or(Some(at));
                    caller.forget(register);
                }
                Err(NoCaller::UnknownRegister | NoCaller::Outermost) => caller.forget(register),
                Err(why) => return Err(why),
            }
        }
        caller.put(RIP, ip);
        // Only a signal may have come in on another stack. A function that has moved its return address to a register
        // (vfork) has taken it off the stack: its caller's stack pointer may be its own.
        let kept_in_register =
            matches!(row.return_address, RegisterRule::Register(_)) && ip != registers.ip().get();
        let goes_up = caller.sp() > registers.sp() || (kept_in_register && caller.sp() == registers.sp());
        if !row.signal_frame && !goes_up {
            let switches = match row.cfa {
                CfaRule::RegisterAndOffset { register, .. } => {
                    on_other_stack(self.memory, cfa, registers.sp(), register.0)
                }
                CfaRule::Expression(_) => caller.sp() != registers.sp(),
            };
            if !switches {
                return Err(NoCaller::Contradiction);
            }
            notes.switched = true;
        }
        *registers = caller;
        Ok(())
    }

    /// What a rule says; `Outermost` where it says that there is nothing.
    fn value(
        &self,
        rule: RegisterRule,
        number: u16,
        cfa: u64,
        registers: &Registers,
    ) -> Result<u64, NoCaller> {
        let known = |number| registers.value(number).ok_or(NoCaller::UnknownRegister);
        match rule {
            RegisterRule::Unspecified | RegisterRule::SameValue => known(number),
            RegisterRule::Undefined => Err(NoCaller::Outermost),
            RegisterRule::Offset(offset) => self.read(cfa.wrapping_add_signed(offset)),
            RegisterRule::ValOffset(offset) => Ok(cfa.wrapping_add_signed(offset)),
            RegisterRule::Register(other) => known(other.0),
            RegisterRule::Expression(at) => self.read(self.expression(at, Some(cfa), registers)?),
            RegisterRule::ValExpression(at) => self.expression(at, Some(cfa), registers),
        }
    }

    fn read(&self, at: u64) -> Result<u64, NoCaller> {
        self.memory.read_u64(VirtAddr::new(at)).map_err(|error| NoCaller::NotResident(error.addr))
    }

    fn expression(&self, at: ExpressionAt, cfa: Option<u64>, registers: &Registers) -> Result<u64, NoCaller> {
        let bytes = self.table.expression(at).ok_or(NoCaller::Contradiction)?;
        let value = evaluate(bytes, cfa, |register| registers.get(register), self.memory, self.steps);
        value.map_err(|error| match error {
            ExpressionError::NotResident(at) => NoCaller::NotResident(at),
            ExpressionError::UnknownRegister(_) => NoCaller::UnknownRegister,
            ExpressionError::Malformed(_) | ExpressionError::Unsupported => NoCaller::Contradiction,
        })
    }
}
