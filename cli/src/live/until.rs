//! The end of work that goes on until it is told to end, as by Ctrl-C.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Whether it is time to end, and somebody to wait for that with.
#[derive(Debug, Default)]
pub(crate) struct Until {
    ended: Mutex<bool>,
    changed: Condvar,
    /// Whoever has it may have stopped the guest.
    standing: Mutex<()>,
}

impl Until {
    fn ended(&self) -> MutexGuard<'_, bool> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is time to end.
    pub(crate) fn end(&self) {
        *self.ended() = true;
        self.changed.notify_all();
    }

    /// Keeps this program from being stopped by the terminal while it is kept: the guest may stand.
    pub(crate) fn standing(&self) -> MutexGuard<'_, ()> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is it time?
    pub(crate) fn over(&self) -> bool {
        *self.ended()
    }

    /// Waits until `deadline`, or until it is time to end; true then.
    pub(crate) fn wait(&self, deadline: Instant) -> bool {
        let mut ended = self.ended();
        while !*ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            ended = match self.changed.wait_timeout(ended, left) {
                Ok((ended, _)) => ended,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        true
    }
}
