//! From a frame's registers to its caller's, by a compact rule.

use gimli::Register;
use vmc::{VirtAddr, VirtualMemory};

use super::code::call_before;
use super::registers::{CALLEE_SAVED, RIP, RSP, Registers};
use super::rule::Rule;
use super::rule::Unfinished;
use crate::cache::{Cache, Rules};
use crate::cfi::AddressSize;
use crate::machine::Machine;
use crate::row_step::{NoCaller, Notes, RegisterFile, on_other_stack};

impl Machine for Registers {
    type Unfinished = Unfinished;

    #[inline]
    fn rules(cache: &mut Cache) -> &mut Rules<Rule> {
        &mut cache.x86_64
    }

    #[inline]
    fn by_rule<V: VirtualMemory + ?Sized>(
        &mut self,
        rule: &Rule,
        memory: &V,
        notes: &mut Notes,
    ) -> Result<(), NoCaller> {
        let registers = self;
        let base = registers.value(u16::from(rule.cfa_register)).ok_or(NoCaller::UnknownRegister)?;
        let cfa = base.wrapping_add_signed(i64::from(rule.cfa_offset));
        notes.cfa = Some(VirtAddr::new(cfa));
        if rule.return_address == 0 {
            return Err(NoCaller::Outermost);
        }
        if cfa <= registers.sp().get() {
            if !on_other_stack::<Registers, V>(memory, cfa, registers.sp(), u16::from(rule.cfa_register)) {
                return Err(NoCaller::Contradiction);
            }
            notes.switched = true;
        }
        let word = |words: i16| VirtAddr::new(cfa.wrapping_add_signed(i64::from(words) * 8));
        let ip =
            memory.read_u64(word(rule.return_address)).map_err(|error| NoCaller::NotResident(error.addr))?;
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

impl RegisterFile for Registers {
    const SP: u16 = RSP;
    const IP: u16 = RIP;
    const WORD: AddressSize = AddressSize::Eight;

    fn ip(&self) -> VirtAddr {
        self.ip()
    }

    fn sp(&self) -> VirtAddr {
        self.sp()
    }

    fn value(&self, number: u16) -> Option<u64> {
        self.value(number)
    }

    fn put(&mut self, number: u16, value: u64) {
        self.put(number, value);
    }

    fn forget(&mut self, number: u16) {
        self.forget(Register(number));
    }

    fn keep_callee_saved(&mut self) {
        self.keep_callee_saved();
    }

    fn is_called_before<V: VirtualMemory + ?Sized>(memory: &V, ip: VirtAddr) -> bool {
        call_before(memory, ip).is_some()
    }
}
