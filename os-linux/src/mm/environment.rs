//! A process' environment, as `/proc/PID/environ` shows it.
//!
//! Source: `environ_read()` in `fs/proc/base.c`: what lies between `env_start` and `env_end` now; programs may change it.

use alloc::string::String;
use alloc::vec::Vec;

use vmc::text::lossless;
use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::mm::AddressSpaceOf;

impl AddressSpaceOf<'_, '_> {
    /// Its environment: names and values; nothing for the value of a word without an equals sign.
    ///
    /// # Errors
    /// [`LinuxError`] where it cannot be read.
    pub fn environment(&self) -> Result<Vec<(String, Option<String>)>, LinuxError> {
        let fields = self.linux.mm()?;
        let number = |field: vmc::layout::Field<u64>| {
            field.read(self.linux.space(), self.mm).map_err(LinuxError::read("mm_struct"))
        };
        let (start, end) = (VirtAddr::new(number(fields.env_start)?), VirtAddr::new(number(fields.env_end)?));
        let broken =
            LinuxError::Broken { what: "the environment", at: start, reason: "it ends before it begins" };
        let len = end.offset_from(start).ok_or(broken)?;
        let limit = self.linux.limits().command_line_bytes;
        let bytes = self.read_vec(start, len, limit).map_err(LinuxError::read("the environment"))?;
        Ok(bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty()).map(variable).collect())
    }
}

/// A word at its first equals sign.
fn variable(word: &[u8]) -> (String, Option<String>) {
    match memchr::memchr(b'=', word).and_then(|at| word.split_at_checked(at)) {
        Some((name, value)) => (lossless(name), Some(lossless(value.get(1..).unwrap_or_default()))),
        None => (lossless(word), None),
    }
}

#[cfg(test)]
mod tests {
    use super::variable;

    #[test]
    fn words_are_split_at_the_first_equals_sign() {
        assert_eq!(variable(b"A=b=c"), ("A".into(), Some("b=c".into())));
        assert_eq!(variable(b"A="), ("A".into(), Some("".into())));
        assert_eq!(variable(b"A\xff"), ("A\\xff".into(), None));
    }
}
