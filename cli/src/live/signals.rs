//! Signals that would end or stop this program while it holds a guest: the guest is let go first.
//!
//! They are blocked in all threads, and one thread waits for them; no handler runs anywhere.

use std::sync::mpsc;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::{SigSet, Signal, raise};
use vmc::LiveGuest;

use super::Until;
use super::pause::{Gate, stop_this_program};

/// What ends the waiting thread itself: a signal that does nothing where nobody waits for it.
const END: Signal = Signal::SIGURG;
/// Signals that come within so long are one.
const ONE_AND_THE_SAME: Duration = Duration::from_millis(500);
/// What stops a program in the background that uses its terminal.
const OF_TERMINAL: [Signal; 2] = [Signal::SIGTTIN, Signal::SIGTTOU];

/// Signals, blocked until this is dropped.
#[derive(Debug)]
pub(crate) struct Blocked {
    before: SigSet,
    watched: SigSet,
}

/// The signals that are waited for: not those that whoever started us has us ignore (nohup, a shell's background).
fn watched() -> SigSet {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored =
        status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    let ignored = |signal: &Signal| ignored.unwrap_or(0) >> (*signal as i32 - 1) & 1 == 1;
    let ours = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP];
    ours.into_iter().filter(|signal| !ignored(signal)).chain([END]).collect()
}

impl Blocked {
    /// Blocks the signals in this thread and in those that it starts from now on: so it comes before the target is opened.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn new() -> Result<Self, Errno> {
        let before = SigSet::thread_get_mask()?;
        let watched = watched();
        let terminal: SigSet = OF_TERMINAL.into_iter().collect();
        let blocked: SigSet = watched.iter().chain(terminal.iter()).collect();
        blocked.thread_block()?;
        Ok(Self { before, watched })
    }

    /// From now on the terminal may stop this program in the background again: this thread does not use it while a guest is held.
    pub(crate) fn free_terminal(&self) {
        let free: SigSet = OF_TERMINAL.into_iter().filter(|signal| !self.before.contains(*signal)).collect();
        let _ = free.thread_unblock();
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let _ = self.before.thread_set_mask();
    }
}

/// The thread that waits for signals; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watch<'s> {
    thread: Option<Pthread>,
    /// As long as this is kept, `thread` is the thread's name and nobody else's.
    _handle: ScopedJoinHandle<'s, ()>,
}

impl<'s> Watch<'s> {
    /// Starts it; each signal is given to `take`.
    pub(super) fn start(
        scope: &'s Scope<'s, '_>,
        blocked: &'s Blocked,
        take: impl FnMut(Signal) + Send + 's,
    ) -> Self {
        let (tell, told) = mpsc::channel();
        let handle = scope.spawn(move || {
            let _ = tell.send(pthread_self());
            watch(&blocked.watched, take);
        });
        Self { thread: told.recv().ok(), _handle: handle }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some(thread) = self.thread {
            // The scope waits for the thread, so it is still there.
            let _ = pthread_kill(thread, END);
        }
    }
}

/// Waits for signals, until the one that ends it.
fn watch(watched: &SigSet, mut take: impl FnMut(Signal)) {
    loop {
        match watched.wait() {
            Ok(END) => return,
            Ok(signal) => take(signal),
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// Ends this program by a signal as if that had never been blocked: whoever waits for us sees which one it was.
fn end_by(signal: Signal) {
    let _ = SigSet::from(signal).thread_unblock();
    let _ = raise(signal);
}

/// For one question: a signal lets the guest go and ends the program.
pub(super) fn lets_go<'s>(gate: &'s Gate, guest: &'s dyn LiveGuest) -> impl FnMut(Signal) + Send + 's {
    move |signal| match signal {
        Signal::SIGTSTP => gate.stop_program(),
        _ => gate.close(guest, || end_by(signal)),
    }
}

/// For work that a first signal ends in good order; a second one ends the program. Where that comes while the guest stands, the
/// backend's guardian lets it go.
pub(super) fn ends_work(until: &Until) -> impl FnMut(Signal) + Send {
    let mut first: Option<Instant> = None;
    move |signal| match signal {
        Signal::SIGTSTP => {
            let _runs = until.standing();
            stop_this_program();
        }
        // timeout(1) sends its signal twice at once, to the process and to its group: that is one.
        _ if first.is_some_and(|first| first.elapsed() > ONE_AND_THE_SAME) => end_by(signal),
        _ => {
            first.get_or_insert_with(Instant::now);
            until.end();
        }
    }
}
