//! What a row lacks, and why.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::limits::Limits;

/// Why parts of a row are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowErrors {
    /// What was missing and why, at most [`Limits::row_errors`] of them.
    pub messages: Vec<String>,
    /// How many more there were.
    pub more: usize,
}

impl RowErrors {
    /// Remembers that `what` could not be read, and why.
    pub fn push(&mut self, limits: &Limits, what: &str, why: &dyn fmt::Display) {
        self.keep_message(limits, alloc::format!("{what}: {why}"));
    }

    /// The value, or nothing and a remembered error.
    pub fn keep<T, E: fmt::Display>(
        &mut self,
        limits: &Limits,
        what: &str,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|why| self.push(limits, what, &why)).ok()
    }

    /// Takes over what another part of the row lacks, within the same bound.
    pub fn append(&mut self, limits: &Limits, other: Self) {
        self.more = self.more.saturating_add(other.more);
        for message in other.messages {
            self.keep_message(limits, message);
        }
    }

    fn keep_message(&mut self, limits: &Limits, message: String) {
        if self.messages.len() < limits.row_errors {
            self.messages.push(message);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// Is nothing missing?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn errors_of_a_row_are_bounded_and_counted() {
        let limits = Limits { row_errors: 1, ..Limits::default() };
        let mut errors = RowErrors::default();
        assert!(errors.is_empty());
        assert_eq!(errors.keep::<u8, _>(&limits, "uid", Err("not mapped")), None);
        assert_eq!(errors.keep::<u8, &str>(&limits, "gid", Ok(3)), Some(3));
        errors.push(&limits, "exe", &"loop");
        assert_eq!((errors.messages.as_slice(), errors.more), (&["uid: not mapped".to_string()][..], 1));
        let mut row = RowErrors::default();
        row.append(&limits, errors.clone());
        assert_eq!(row, errors);
        row.append(&limits, errors);
        assert_eq!((row.messages.len(), row.more), (1, 3));
    }
}
