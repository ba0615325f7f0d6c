//! From a frame's registers to its caller's, by a whole row: the same on every architecture.

use gimli::Register;
use vmc::{ReadError, VirtAddr, VirtualMemory};

use crate::cfi::{AddressSize, CfaRule, ExpressionAt, RegisterRule, Row, UnwindTable};
use crate::expression::{ExpressionError, evaluate};

/// The registers of a frame of one architecture, by their DWARF numbers.
pub(crate) trait RegisterFile: Copy {
    /// The stack pointer's number.
    const SP: u16;
    /// The instruction pointer's number: by the ABI the return address' column.
    const IP: u16;
    /// How long a word of the stack is.
    const WORD: AddressSize;

    fn ip(&self) -> VirtAddr;
    fn sp(&self) -> VirtAddr;
    /// A register's value, if it is known.
    fn value(&self, number: u16) -> Option<u64>;
    /// Sets a register. Those that are not tracked are ignored.
    fn put(&mut self, number: u16, value: u64);
    /// Makes a register unknown. Stack and instruction pointer stay.
    fn forget(&mut self, number: u16);
    /// What a caller's frame knows of its callee's registers, before the callee's rules are applied.
    fn keep_callee_saved(&mut self);
    /// The frame is one that was returned to, at `ip`.
    #[inline]
    fn return_to(&mut self, ip: u64) {
        self.put(Self::IP, ip);
    }
    /// Where the frame will return to as long as it has stored no return address, if that is in a register and can be told.
    #[inline]
    fn link(&self) -> Option<u64> {
        None
    }

    /// Is there a call right before `ip`? Then that may be a return address.
    fn is_called_before<V: VirtualMemory + ?Sized>(memory: &V, ip: VirtAddr) -> bool;

    /// An address that was computed: it wraps where the architecture's do.
    #[inline]
    fn wrap(address: u64) -> u64 {
        match Self::WORD {
            AddressSize::Four => address & 0xffff_ffff,
            AddressSize::Eight => address,
        }
    }

    /// A word of memory.
    #[inline]
    fn read<V: VirtualMemory + ?Sized>(memory: &V, at: u64) -> Result<u64, ReadError> {
        match Self::WORD {
            AddressSize::Four => {
                let mut bytes = [0; 4];
                memory.read(VirtAddr::new(at), &mut bytes)?;
                Ok(u32::from_le_bytes(bytes).into())
            }
            AddressSize::Eight => memory.read_u64(VirtAddr::new(at)),
        }
    }
}

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
pub(crate) fn on_other_stack<R: RegisterFile, V: VirtualMemory + ?Sized>(
    memory: &V,
    cfa: u64,
    sp: VirtAddr,
    register: u16,
) -> bool {
    register != R::SP
        && sp.get().saturating_sub(cfa) >= OTHER_STACK
        && cfa.checked_sub(u64::from(R::WORD.bytes())).is_some_and(|word| R::read(memory, word).is_ok())
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
    pub(crate) fn by_row<R: RegisterFile>(
        &self,
        row: &Row,
        registers: &mut R,
        notes: &mut Notes,
    ) -> Result<(), NoCaller> {
        let cfa = match row.cfa {
            CfaRule::RegisterAndOffset { register, offset } => {
                let base = registers.value(register.0).ok_or(NoCaller::UnknownRegister)?;
                R::wrap(base.wrapping_add_signed(offset))
            }
            CfaRule::Expression(at) => self.expression(at, None, registers)?,
        };
        notes.cfa = Some(VirtAddr::new(cfa));
        let ip = match row.return_address {
            RegisterRule::Undefined => return Err(NoCaller::Outermost),
            // Where calls store it, a return address that stays where it is leads back here.
            RegisterRule::Unspecified | RegisterRule::SameValue => {
                registers.link().ok_or(NoCaller::Contradiction)?
            }
            rule => self.value(rule, R::IP, cfa, registers)?,
        };
        let mut caller = *registers;
        caller.keep_callee_saved();
        caller.put(R::SP, cfa);
        for (Register(number), rule) in row.registers() {
            if number == R::IP {
                continue;
            }
            match self.value(rule, number, cfa, registers) {
                Ok(value) => caller.put(number, value),
                Err(NoCaller::NotResident(at)) if number != R::SP => {
                    notes.unread = notes.unread.or(Some(at));
                    caller.forget(number);
                }
                Err(NoCaller::UnknownRegister | NoCaller::Outermost) => caller.forget(number),
                Err(why) => return Err(why),
            }
        }
        if row.signal_frame {
            caller.put(R::IP, ip);
        } else {
            caller.return_to(ip);
        }
        // Only a signal may have come in on another stack. A function that has moved its return address to a register
        // (vfork) has taken it off the stack: its caller's stack pointer may be its own.
        let in_register = matches!(
            row.return_address,
            RegisterRule::Register(_) | RegisterRule::Unspecified | RegisterRule::SameValue
        );
        let kept_in_register = in_register && caller.ip() != registers.ip();
        let goes_up = caller.sp() > registers.sp() || (kept_in_register && caller.sp() == registers.sp());
        if !row.signal_frame && !goes_up {
            let switches = match row.cfa {
                CfaRule::RegisterAndOffset { register, .. } => {
                    on_other_stack::<R, V>(self.memory, cfa, registers.sp(), register.0)
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
    fn value<R: RegisterFile>(
        &self,
        rule: RegisterRule,
        number: u16,
        cfa: u64,
        registers: &R,
    ) -> Result<u64, NoCaller> {
        let known = |number| registers.value(number).ok_or(NoCaller::UnknownRegister);
        let from_cfa = |offset| R::wrap(cfa.wrapping_add_signed(offset));
        match rule {
            RegisterRule::Unspecified | RegisterRule::SameValue => known(number),
            RegisterRule::Undefined => Err(NoCaller::Outermost),
            RegisterRule::Offset(offset) => self.read::<R>(from_cfa(offset)),
            RegisterRule::ValOffset(offset) => Ok(from_cfa(offset)),
            RegisterRule::Register(other) => known(other.0),
            RegisterRule::Expression(at) => self.read::<R>(self.expression(at, Some(cfa), registers)?),
            RegisterRule::ValExpression(at) => self.expression(at, Some(cfa), registers),
        }
    }

    fn read<R: RegisterFile>(&self, at: u64) -> Result<u64, NoCaller> {
        R::read(self.memory, at).map_err(|error| NoCaller::NotResident(error.addr))
    }

    fn expression<R: RegisterFile>(
        &self,
        at: ExpressionAt,
        cfa: Option<u64>,
        registers: &R,
    ) -> Result<u64, NoCaller> {
        let bytes = self.table.expression(at).ok_or(NoCaller::Contradiction)?;
        let register = |register: Register| registers.value(register.0);
        let value = evaluate(bytes, R::WORD, cfa, register, self.memory, self.steps);
        value.map(R::wrap).map_err(|error| match error {
            ExpressionError::NotResident(at) => NoCaller::NotResident(at),
            ExpressionError::UnknownRegister(_) => NoCaller::UnknownRegister,
            ExpressionError::Malformed(_) | ExpressionError::Unsupported => NoCaller::Contradiction,
        })
    }
}
