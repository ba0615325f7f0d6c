//! The time in which a guest stands still.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, raise};
use vmc::{LiveError, LiveGuest};

/// Who may stop the guest, and whether it stands: shared with the thread that takes signals.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Since when we hold the guest.
    since: Option<Instant>,
    /// The guest is not to be stopped again.
    closed: bool,
    /// Nothing is asked of the guest any more: neither we nor the backend hold it, not even for a moment.
    answered: bool,
    /// The terminal wants this program to stop.
    stops: bool,
}

/// Stops this program, all of it, until somebody has it go on.
pub(super) fn stop_this_program() {
    // To this thread: it goes no step further before all stand.
    let _ = raise(Signal::SIGSTOP);
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked with it has still left a state that says what holds.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the guest go, whoever holds it, and never holds it again; then does what ends this program. Until that has come about
    /// nobody passes the gate: what is read of the guest from here on is not taken for an answer.
    pub(super) fn close(&self, guest: &dyn LiveGuest, end: impl FnOnce()) {
        let mut state = self.state();
        state.closed = true;
        if state.since.take().is_some() {
            // There is nobody left to tell of a failure; the backend's guardian tries again.
            let _ = guest.resume();
        }
        end();
    }

    /// Stops this program as the terminal asks for it: at once if the guest is not asked any more, else as soon as that is so. A
    /// guest that is held by a program that does not go on would stand for ever.
    pub(super) fn stop_program(&self) {
        let mut state = self.state();
        if state.answered {
            stop_this_program();
        } else {
            state.stops = true;
        }
    }

    /// Everything is answered, and the guest let go.
    pub(super) fn answered(&self) {
        let mut state = self.state();
        state.answered = true;
        if std::mem::take(&mut state.stops) {
            stop_this_program();
        }
    }
}

/// A guest that stands still. It is let go when this ends, whatever ends it.
pub(crate) struct Pause<'g> {
    guest: &'g dyn LiveGuest,
    gate: &'g Gate,
    stood: Mutex<Option<Result<Duration, LiveError>>>,
}

impl std::fmt::Debug for Pause<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pause").field("stood", &self.stood).finish_non_exhaustive()
    }
}

impl<'g> Pause<'g> {
    /// Stops the guest. Where attaching has stopped it already, it stands `since` then.
    ///
    /// # Errors
    /// Why it cannot be stopped.
    pub(super) fn begin(
        guest: &'g dyn LiveGuest,
        gate: &'g Gate,
        since: Option<Instant>,
    ) -> Result<Self, LiveError> {
        let mut state = gate.state();
        if state.closed {
            return Err(LiveError::Stop { reason: "this program is ending".into() });
        }
        state.since = Some(since.unwrap_or_else(Instant::now));
        let stopped = guest.stop();
        if stopped.is_err() {
            state.since = None;
        }
        drop(state);
        stopped.map(|()| Self { guest, gate, stood: Mutex::new(None) })
    }

    /// Lets the guest go: everything is read. How long it stood; the first time counts.
    ///
    /// # Errors
    /// Why it could not be let go.
    pub(crate) fn end(&self) -> Result<Duration, LiveError> {
        let mut stood = self.stood.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = stood.get_or_insert_with(|| {
            let mut state = self.gate.state();
            // Where it is not held any more, a signal has let it go.
            let Some(since) = state.since else { return Ok(Duration::ZERO) };
            let resumed = self.guest.resume();
            state.since = None;
            resumed.map(|()| since.elapsed())
        });
        ended.clone()
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        // Who wanted to know whether it failed has ended it already.
        let _ = self.end();
    }
}
