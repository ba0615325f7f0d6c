//! [`Unfinished`]: what an architecture's compact rules are made of, step by step.

use gimli::Register;

use super::table::RawRow;

/// A compact rule in the making. Where something does not fit, `None` says so, and the row is evaluated in full.
pub(crate) trait Unfinished: Copy {
    /// What becomes of it.
    type Rule: Copy;

    fn new(return_column: Register) -> Self;
    fn set_cfa_register(&mut self, register: Register);
    fn set_cfa_offset(&mut self, offset: i64);
    /// The register is stored at the CFA plus `offset`.
    fn save(&mut self, register: Register, offset: i64) -> Option<()>;
    /// The register cannot be recovered.
    fn undefine(&mut self, register: Register) -> Option<()>;
    /// The register keeps its value.
    fn keep(&mut self, register: Register) -> Option<()>;
    /// The register's rule becomes what it is in `initial`.
    fn restore(&mut self, register: Register, initial: &Self) -> Option<()>;
    /// Are its rules nobody's here (vector registers, state that is no register)?
    fn is_ignored(register: Register) -> bool;
    fn finish(self) -> Option<Self::Rule>;
}

/// The row as a compact rule, if it fits.
#[inline]
pub(crate) fn from_row<U: Unfinished>(row: &RawRow, return_column: Register) -> Option<U::Rule> {
    let gimli::CfaRule::RegisterAndOffset { register, offset } = *row.cfa() else { return None };
    let mut rule = U::new(return_column);
    rule.set_cfa_register(register);
    rule.set_cfa_offset(offset);
    for (register, how) in row.registers() {
        match how {
            gimli::RegisterRule::Offset(offset) => rule.save(*register, *offset)?,
            gimli::RegisterRule::Undefined => rule.undefine(*register)?,
            gimli::RegisterRule::SameValue => rule.keep(*register)?,
            // The state of signing: signatures are taken off wherever they are.
            gimli::RegisterRule::Constant(_) => {}
            _ if U::is_ignored(*register) => {}
            _ => return None,
        }
    }
    rule.finish()
}

/// An offset in words; zero means something else in a rule, so it does not fit.
pub(crate) fn words(offset: i64) -> Option<i16> {
    if offset % 8 != 0 || offset == 0 { None } else { i16::try_from(offset / 8).ok() }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn only_whole_words_fit() {
        assert_eq!(
            [-8, -16, 8, 0, -4, -262_144, -262_152].map(words),
            [Some(-1), Some(-2), Some(1), None, None, Some(i16::MIN), None]
        );
    }
}
