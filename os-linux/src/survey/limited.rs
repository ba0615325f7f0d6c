//! How much all walks of a survey together may look at.

/// Counts down to nothing: many short lists must not make up for a bound that one long list has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left(pub(super) usize);

impl Left {
    /// Takes one; `false` when nothing is left.
    pub(super) fn take(&mut self) -> bool {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}
