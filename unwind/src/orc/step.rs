//! One step: from a frame's registers to those of what called it, or of what it interrupted.

use vmc::{VirtAddr, VirtualMemory};

use super::entry::{OrcEntry, OrcKind, OrcRegister};
use super::saved::{Entered, SavedRegisters, read_cpu_frame};
use crate::x86_64::Registers;
use gimli::X86_64;

/// Where a step leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To the caller, whose registers these are.
    Caller(Registers),
    /// To what was interrupted.
    Interrupted(Entered),
    /// Nowhere: the frame is the outermost.
    End,
}

/// Why there is no step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoStep {
    /// The rule says that nothing is known.
    Undefined,
    /// The rule is none, or needs a register that is not known.
    Bad,
    /// Memory that it needs is not to be had.
    NotResident(VirtAddr),
}

/// What a step works with.
#[derive(Debug)]
pub(super) struct Stepper<'s, V: ?Sized> {
    pub(super) memory: &'s V,
    pub(super) saved: &'s SavedRegisters,
}

/// May this rule lead to another stack?
pub(super) const fn may_switch(entry: &OrcEntry) -> bool {
    matches!(entry.kind, OrcKind::Registers | OrcKind::PartialRegisters)
        || matches!(entry.sp, OrcRegister::SpIndirect | OrcRegister::BpIndirect)
}

impl<V: VirtualMemory + ?Sized> Stepper<'_, V> {
    /// The step that `entry` describes. `cfa` is set as soon as it is known.
    pub(super) fn by_entry(
        &self,
        entry: &OrcEntry,
        registers: &Registers,
        cfa: &mut Option<VirtAddr>,
    ) -> Result<Step, NoStep> {
        match entry.kind {
            OrcKind::Undefined => return Err(NoStep::Undefined),
            OrcKind::Unknown => return Err(NoStep::Bad),
            OrcKind::EndOfStack => return Ok(Step::End),
            OrcKind::Call | OrcKind::Registers | OrcKind::PartialRegisters => {}
        }
        let sp = self.stack_pointer(entry, registers)?;
        let mut step = match entry.kind {
            OrcKind::Call => {
                *cfa = Some(VirtAddr::new(sp));
                let ip = self.word(sp.wrapping_sub(8))?;
                let mut caller = Registers::new(VirtAddr::new(ip), VirtAddr::new(sp));
                if let Some(bp) = registers.get(X86_64::RBP) {
                    caller.set(X86_64::RBP, bp);
                }
                Step::Caller(caller)
            }
            OrcKind::Registers => Step::Interrupted(self.registers_at(sp)?),
            _ => {
                let entered = read_cpu_frame(self.memory, VirtAddr::new(sp), registers);
                Step::Interrupted(entered.map_err(|error| NoStep::NotResident(error.addr))?)
            }
        };
        let place = match entry.bp {
            OrcRegister::Undefined => None,
            OrcRegister::PreviousSp => Some(offset(sp, entry.bp_offset)),
            OrcRegister::Bp => Some(offset(registers.get(X86_64::RBP).ok_or(NoStep::Bad)?, entry.bp_offset)),
            _ => return Err(NoStep::Bad),
        };
        if let Some(place) = place {
            let bp = self.word(place)?;
            match &mut step {
                Step::Caller(caller) => caller.set(X86_64::RBP, bp),
                Step::Interrupted(entered) => entered.registers.set(X86_64::RBP, bp),
                Step::End => {}
            }
        }
        Ok(step)
    }

    fn stack_pointer(&self, entry: &OrcEntry, registers: &Registers) -> Result<u64, NoStep> {
        let known = |register| registers.get(register).ok_or(NoStep::Bad);
        let sp = registers.sp().get();
        match entry.sp {
            OrcRegister::Sp => Ok(offset(sp, entry.sp_offset)),
            OrcRegister::Bp => Ok(offset(known(X86_64::RBP)?, entry.sp_offset)),
            // The stack that was left stands in the first word of the new one.
            OrcRegister::SpIndirect => Ok(offset(self.word(sp)?, entry.sp_offset)),
            OrcRegister::BpIndirect => self.word(offset(known(X86_64::RBP)?, entry.sp_offset)),
            // Realigned stacks: the register is the stack pointer that was.
            OrcRegister::R10 => known(X86_64::R10),
            OrcRegister::R13 => known(X86_64::R13),
            OrcRegister::Di => known(X86_64::RDI),
            OrcRegister::Dx => known(X86_64::RDX),
            OrcRegister::Ax => known(X86_64::RAX),
            OrcRegister::Undefined | OrcRegister::PreviousSp | OrcRegister::Unknown => Err(NoStep::Bad),
        }
    }

    /// All registers, stored at `at`.
    pub(super) fn registers_at(&self, at: u64) -> Result<Entered, NoStep> {
        let entered = self.saved.read(self.memory, VirtAddr::new(at));
        entered.map_err(|error| NoStep::NotResident(error.addr))
    }

    /// The step by rbp: the caller's rbp lies where it points, the return address above.
    pub(super) fn by_frame_pointer(&self, bp: u64, cfa: &mut Option<VirtAddr>) -> Result<Step, NoStep> {
        let sp = bp.wrapping_add(16);
        *cfa = Some(VirtAddr::new(sp));
        let ip = self.word(bp.wrapping_add(8))?;
        let mut caller = Registers::new(VirtAddr::new(ip), VirtAddr::new(sp));
        caller.set(X86_64::RBP, self.word(bp)?);
        Ok(Step::Caller(caller))
    }

    fn word(&self, at: u64) -> Result<u64, NoStep> {
        self.memory.read_u64(VirtAddr::new(at)).map_err(|error| NoStep::NotResident(error.addr))
    }
}

const fn offset(base: u64, offset: i16) -> u64 {
    base.wrapping_add_signed(offset as i64)
}
