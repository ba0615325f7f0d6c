//! From a frame's registers to its caller's, by a compact rule.

use vmc::{VirtAddr, VirtualMemory};

use super::registers::{Registers, SP};
use super::rule::{Rule, Unfinished};
use crate::cache::{Cache, Rules};
use crate::machine::Machine;
use crate::row_step::{NoCaller, Notes, RegisterFile, on_other_stack};

impl Machine for Registers {
    type Unfinished = Unfinished;

    #[inline]
    fn rules(cache: &mut Cache) -> &mut Rules<Rule> {
        &mut cache.aarch64
    }

    #[inline]
    fn by_rule<V: VirtualMemory + ?Sized>(
        &mut self,
        rule: &Rule,
        memory: &V,
        notes: &mut Notes,
    ) -> Result<(), NoCaller> {
        let cfa_register = u16::from(rule.cfa_register);
        let base = self.value(cfa_register).ok_or(NoCaller::UnknownRegister)?;
        let cfa = base.wrapping_add_signed(i64::from(rule.cfa_offset));
        notes.cfa = Some(VirtAddr::new(cfa));
        if rule.outermost {
            return Err(NoCaller::Outermost);
        }
        let stored = rule.link(cfa);
        let link = match stored {
            Some(at) => memory.read_u64(at).map_err(|error| NoCaller::NotResident(error.addr))?,
            None => self.link().ok_or(NoCaller::Contradiction)?,
        };
        // Only a frame that has stored nothing may be as low as its caller's.
        let sp = self.sp().get();
        if cfa < sp || (cfa == sp && stored.is_some()) {
            if !on_other_stack::<Self, V>(memory, cfa, self.sp(), cfa_register) {
                return Err(NoCaller::Contradiction);
            }
            notes.switched = true;
        }
        self.keep_callee_saved();
        for (number, at) in rule.saved(cfa) {
            match memory.read_u64(at) {
                Ok(value) => self.put(number, value),
                Err(error) => {
                    notes.unread = notes.unread.or(Some(error.addr));
                    self.forget(gimli::Register(number));
                }
            }
        }
        self.put(SP, cfa);
        self.return_to(link);
        Ok(())
    }
}
