//! The quick way from an FDE to a compact rule: what compilers write, folded into one small state.
//!
//! gimli decodes the instructions here too, but its rows are maps that hold any rule of any register. Where an instruction
//! comes up that a compact rule cannot hold, this gives up and the row is evaluated in full.

use gimli::{BaseAddresses, CallFrameInstruction, CallFrameInstructionIter, UnwindSection};

use super::compact::Unfinished;
use super::table::{Bytes, Fde};

/// How deep states are remembered: compilers write one.
const REMEMBERED: usize = 4;

/// The rule for `address`, which the FDE covers. Nothing where it is not that simple.
pub(super) fn quick_rule<'t, U: Unfinished, S: UnwindSection<Bytes<'t>>>(
    fde: &Fde<'t>,
    section: &S,
    bases: &BaseAddresses,
    address: u64,
) -> Option<U::Rule> {
    let cie = fde.cie();
    if fde.is_signal_trampoline() {
        return None;
    }
    let mut machine = Machine {
        state: U::new(cie.return_address_register()),
        initial: None,
        remembered: [U::new(cie.return_address_register()); REMEMBERED],
        depth: 0,
        code_factor: cie.code_alignment_factor(),
        data_factor: cie.data_alignment_factor(),
        at: 0,
    };
    // A CIE's instructions have no addresses: any advance is one too many.
    machine.run(cie.instructions(section, bases), 0)?;
    if machine.depth > 0 || machine.at > 0 {
        return None;
    }
    machine.initial = Some(machine.state);
    machine.at = fde.initial_address();
    machine.run(fde.instructions(section, bases), address)?;
    machine.state.finish()
}

struct Machine<U> {
    state: U,
    /// What the CIE says, to which registers are restored.
    initial: Option<U>,
    remembered: [U; REMEMBERED],
    depth: usize,
    code_factor: u64,
    data_factor: i64,
    /// The address from which on the state holds.
    at: u64,
}

impl<U: Unfinished> Machine<U> {
    /// Runs until the state holds for `address`.
    #[inline]
    fn run(&mut self, mut instructions: CallFrameInstructionIter<'_, Bytes<'_>>, address: u64) -> Option<()> {
        while let Some(instruction) = instructions.next().ok()? {
            match instruction {
                CallFrameInstruction::AdvanceLoc { delta } => {
                    let next = self.at.checked_add(u64::from(delta).checked_mul(self.code_factor)?)?;
                    if address < next {
                        return Some(());
                    }
                    self.at = next;
                }
                CallFrameInstruction::DefCfa { register, offset } => {
                    self.state.set_cfa_register(register);
                    self.state.set_cfa_offset(offset.cast_signed());
                }
                CallFrameInstruction::DefCfaRegister { register } => self.state.set_cfa_register(register),
                CallFrameInstruction::DefCfaOffset { offset } => {
                    self.state.set_cfa_offset(offset.cast_signed())
                }
                CallFrameInstruction::Offset { register, factored_offset } => {
                    let offset = factored_offset.cast_signed().checked_mul(self.data_factor)?;
                    self.state.save(register, offset)?;
                }
                CallFrameInstruction::OffsetExtendedSf { register, factored_offset } => {
                    self.state.save(register, factored_offset.checked_mul(self.data_factor)?)?;
                }
                CallFrameInstruction::Undefined { register } => self.state.undefine(register)?,
                CallFrameInstruction::Restore { register } => {
                    let initial = self.initial.as_ref()?;
                    self.state.restore(register, initial)?;
                }
                CallFrameInstruction::RememberState => {
                    *self.remembered.get_mut(self.depth)? = self.state;
                    self.depth += 1;
                }
                CallFrameInstruction::RestoreState => {
                    self.depth = self.depth.checked_sub(1)?;
                    self.state = *self.remembered.get(self.depth)?;
                }
                CallFrameInstruction::Nop | CallFrameInstruction::ArgsSize { .. } => {}
                // Signatures are taken off return addresses wherever they are.
                CallFrameInstruction::NegateRaState => {}
                _ => return None,
            }
        }
        Some(())
    }
}
