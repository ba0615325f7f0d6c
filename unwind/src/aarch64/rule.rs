//! [`Rule`]: the rules of an ordinary row, in 24 bytes.

use gimli::{AArch64, Register};
use vmc::VirtAddr;

use super::registers::{PC, SP, X19, X30};
use crate::cfi::words;

/// How many registers a rule has places for: x19 to x30.
pub(crate) const PLACES: usize = 12;

/// The CFA is a register and an offset; x19 to x30 lie at the CFA plus so many words, near one another, or keep their
/// values. Only signal frames and odd assembly are not like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Rule {
    /// What is added to the CFA register's value.
    pub(crate) cfa_offset: i32,
    /// In words from the CFA: below all that is stored.
    base: i16,
    /// Bit n: the register of place n is stored.
    stored: u16,
    /// The number of the CFA register.
    pub(crate) cfa_register: u8,
    /// Is the frame the outermost?
    pub(crate) outermost: bool,
    /// In words from the base.
    places: [u8; PLACES],
}

/// The bit of x30's place.
const LINK: u16 = 1 << (X30 - X19);

impl Rule {
    /// Where the return address is stored, if it is.
    #[inline]
    pub(crate) fn link(&self, cfa: u64) -> Option<VirtAddr> {
        if self.stored & LINK != 0 { Some(self.place(cfa, X30 - X19)) } else { None }
    }

    /// Those of x19 to x29 that are stored, and where.
    #[inline]
    pub(crate) fn saved(&self, cfa: u64) -> impl Iterator<Item = (u16, VirtAddr)> + '_ {
        let mut left = self.stored & !LINK;
        core::iter::from_fn(move || {
            let index = left.trailing_zeros() as u16;
            left &= left.checked_sub(1)?;
            Some((X19 + index, self.place(cfa, index)))
        })
    }

    #[inline]
    fn place(&self, cfa: u64, index: u16) -> VirtAddr {
        let place = self.places.get(usize::from(index)).copied().unwrap_or_default();
        VirtAddr::new(cfa.wrapping_add_signed((i64::from(self.base) + i64::from(place)) * 8))
    }
}

/// A rule in the making.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unfinished {
    cfa_offset: i64,
    cfa_register: u16,
    /// Is the return address' column the usual one, x30's?
    usual: bool,
    outermost: bool,
    /// In words from the CFA; zero: keeps its value.
    saved: [i16; PLACES],
}

impl Unfinished {
    #[inline]
    fn place(&mut self, register: Register) -> Option<&mut i16> {
        self.saved.get_mut(usize::from(register.0.checked_sub(X19)?))
    }
}

impl crate::cfi::Unfinished for Unfinished {
    type Rule = Rule;

    fn new(return_column: Register) -> Self {
        let usual = return_column.0 == X30;
        Self { cfa_offset: 0, cfa_register: 0, usual, outermost: false, saved: [0; PLACES] }
    }

    fn set_cfa_register(&mut self, register: Register) {
        self.cfa_register = register.0;
    }

    fn set_cfa_offset(&mut self, offset: i64) {
        self.cfa_offset = offset;
    }

    #[inline]
    fn save(&mut self, register: Register, offset: i64) -> Option<()> {
        if Self::is_ignored(register) {
            return Some(());
        }
        *self.place(register)? = words(offset)?;
        if register.0 == X30 {
            self.outermost = false;
        }
        Some(())
    }

    fn undefine(&mut self, register: Register) -> Option<()> {
        match register.0 {
            X30 => {
                self.outermost = true;
                Some(())
            }
            // Lost with the call in any case.
            0..X19 => Some(()),
            _ => Self::is_ignored(register).then_some(()),
        }
    }

    fn keep(&mut self, register: Register) -> Option<()> {
        if Self::is_ignored(register) {
            return Some(());
        }
        *self.place(register)? = 0;
        if register.0 == X30 {
            self.outermost = false;
        }
        Some(())
    }

    fn restore(&mut self, register: Register, initial: &Self) -> Option<()> {
        let mut initial = *initial;
        match initial.place(register) {
            Some(before) => *self.place(register)? = *before,
            None if Self::is_ignored(register) => {}
            None => return None,
        }
        if register.0 == X30 {
            self.outermost = initial.outermost;
        }
        Some(())
    }

    fn is_ignored(register: Register) -> bool {
        // The state of signing has an instruction of its own, and nothing else may be done to it.
        register.0 > PC && register != AArch64::RA_SIGN_STATE
    }

    fn finish(self) -> Option<Rule> {
        if !self.usual || self.cfa_register > SP {
            return None;
        }
        let stored = self.saved.into_iter().filter(|words| *words != 0);
        let base = stored.min().unwrap_or(0);
        let (mut places, mut stored) = ([0; PLACES], 0);
        for (index, (place, words)) in places.iter_mut().zip(self.saved).enumerate() {
            if words != 0 {
                *place = u8::try_from(words.checked_sub(base)?).ok()?;
                stored |= 1 << index;
            }
        }
        Some(Rule {
            cfa_offset: i32::try_from(self.cfa_offset).ok()?,
            base,
            stored,
            cfa_register: u8::try_from(self.cfa_register).ok()?,
            outermost: self.outermost,
            places,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cfi::Unfinished as _;

    #[test]
    fn a_rule_takes_24_bytes() {
        assert_eq!(size_of::<Rule>(), 24);
    }

    #[test]
    fn places_are_kept_where_they_lie_together() {
        let mut rule = Unfinished::new(Register(X30));
        rule.set_cfa_register(Register(SP));
        rule.set_cfa_offset(4096);
        for (number, offset) in [(29, -4096), (30, -4088), (19, -4080), (28, -2064), (72, -8)] {
            assert_eq!(rule.save(Register(number), offset), Some(()));
        }
        let finished = rule.finish().unwrap();
        let places: alloc::vec::Vec<_> = finished.saved(0x1_0000).collect();
        assert_eq!(places, [(19, 0xf010), (28, 0xf7f0), (29, 0xf000)].map(|(n, at)| (n, VirtAddr::new(at))));
        assert_eq!(finished.link(0x1_0000), Some(VirtAddr::new(0xf008)));
        // Too far from one another.
        rule.save(Register(20), -2048).unwrap();
        assert_eq!(rule.finish(), None);
        rule.keep(Register(20)).unwrap();
        assert!(rule.finish().is_some_and(|rule| !rule.outermost));
        rule.undefine(Register(X30)).unwrap();
        assert!(rule.finish().unwrap().outermost);
    }

    #[test]
    fn what_only_a_signal_frame_has_does_not_fit() {
        let mut rule = Unfinished::new(Register(X30));
        for number in [0, 18, 31, 32] {
            assert_eq!(rule.save(Register(number), -8), None);
        }
        assert_eq!((rule.undefine(Register(19)), rule.undefine(Register(3))), (None, Some(())));
        assert!(Unfinished::new(Register(32)).finish().is_none());
    }
}
