//! [`Rule`]: the rules of an ordinary row, in 20 bytes.

use gimli::Register;

use super::registers::RIP;
use crate::cfi::words;

/// The CFA is a register and an offset; return address and callee-saved registers lie at the CFA plus so many words, or
/// keep their values. All but PLT stubs, signal frames and odd assembly are like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Rule {
    /// What is added to the CFA register's value.
    pub(crate) cfa_offset: i32,
    /// In words from the CFA; zero: undefined, the outermost frame.
    pub(crate) return_address: i16,
    /// In words from the CFA, in the order of `CALLEE_SAVED`; zero: keeps its value.
    pub(crate) saved: [i16; 6],
    /// The number of the CFA register.
    pub(crate) cfa_register: u8,
    /// Is any of `saved` not zero?
    pub(crate) saves: bool,
}

/// A rule in the making.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unfinished {
    cfa_offset: i64,
    cfa_register: u16,
    return_column: u16,
    /// In words; zero: undefined. Nothing: no rule.
    return_address: Option<i16>,
    saved: [i16; 6],
}

impl crate::cfi::Unfinished for Unfinished {
    type Rule = Rule;

    fn new(return_column: Register) -> Self {
        Self {
            cfa_offset: 0,
            cfa_register: 0,
            return_column: return_column.0,
            return_address: None,
            saved: [0; 6],
        }
    }

    fn set_cfa_register(&mut self, register: Register) {
        self.cfa_register = register.0;
    }

    fn set_cfa_offset(&mut self, offset: i64) {
        self.cfa_offset = offset;
    }

    #[inline]
    fn save(&mut self, register: Register, offset: i64) -> Option<()> {
        if register.0 == self.return_column {
            self.return_address = Some(words(offset)?);
        } else if let Some(place) = self.place(register) {
            *place = words(offset)?;
        } else if register.0 <= RIP {
            return None;
        }
        Some(())
    }

    fn undefine(&mut self, register: Register) -> Option<()> {
        match register.0 {
            number if number == self.return_column => self.return_address = Some(0),
            // Lost with the call in any case, or not tracked at all.
            0..=2 | 4 | 5 | 8..=11 | 17.. => {}
            _ => return None,
        }
        Some(())
    }

    fn keep(&mut self, register: Register) -> Option<()> {
        if register.0 == self.return_column {
            return None;
        }
        match self.place(register) {
            Some(place) => *place = 0,
            None if register.0 > RIP => {}
            None => return None,
        }
        Some(())
    }

    fn restore(&mut self, register: Register, initial: &Self) -> Option<()> {
        let mut initial = *initial;
        if register.0 == self.return_column {
            self.return_address = initial.return_address;
        } else if let Some(before) = initial.place(register) {
            *self.place(register)? = *before;
        } else if register.0 <= RIP {
            return None;
        }
        Some(())
    }

    fn is_ignored(register: Register) -> bool {
        register.0 > RIP
    }

    fn finish(self) -> Option<Rule> {
        if self.cfa_register >= RIP {
            return None;
        }
        let saves = self.saved.iter().any(|words| *words != 0);
        Some(Rule {
            cfa_offset: i32::try_from(self.cfa_offset).ok()?,
            return_address: self.return_address?,
            saved: self.saved,
            cfa_register: u8::try_from(self.cfa_register).ok()?,
            saves,
        })
    }
}

impl Unfinished {
    #[inline]
    fn place(&mut self, register: Register) -> Option<&mut i16> {
        let [rbx, rbp, r12, r13, r14, r15] = &mut self.saved;
        Some(match register.0 {
            3 => rbx,
            6 => rbp,
            12 => r12,
            13 => r13,
            14 => r14,
            15 => r15,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_takes_20_bytes() {
        assert_eq!(size_of::<Rule>(), 20);
    }
}
