//! Values that are made when they are first asked for, and kept.

use alloc::boxed::Box;
use core::fmt;

use once_cell::race::OnceBox;

/// A value or the reason why there is none. Two threads that ask at once may both make it; one is kept.
pub(crate) struct Lazy<T, E>(OnceBox<Result<T, E>>);

impl<T, E: Clone> Lazy<T, E> {
    pub(crate) const fn new() -> Self {
        Self(OnceBox::new())
    }

    pub(crate) fn get(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        self.0.get_or_init(|| Box::new(make())).as_ref().map_err(Clone::clone)
    }

    /// Forgets a value that `vain` says nothing was gained by, and a reason why there is none: it is looked for again.
    pub(crate) fn forget_if(&mut self, vain: impl FnOnce(&T) -> bool) {
        if self.0.get().is_some_and(|made| made.as_ref().map_or(true, vain)) {
            self.0 = OnceBox::new();
        }
    }
}

impl<T, E: Clone> Default for Lazy<T, E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, E> fmt::Debug for Lazy<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "made" } else { "not made yet" })
    }
}
