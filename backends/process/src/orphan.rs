//! What is to be said on a socket when this process dies: one of the two places with `fork` (see also the guardian of traced
//! threads).
//!
//! A client that has stopped a guest over a socket and is then killed leaves the guest stopped for ever. So before it stops it, it
//! [spawns](Orphan::spawn) a small process in a session of its own that holds the same socket, and [arms](Orphan::arm) it with
//! the bytes that let the guest run again. When the client's end of their connection closes, however that came about, the bytes
//! are sent, an answer is awaited, and the process ends.
#![allow(
    unsafe_code,
    reason = "fork, and leaving the forked process, are unsafe by nature; see SAFETY below"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::SigSet;
use nix::unistd::{ForkResult, fork};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use rustix::process::{PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};

/// The most that an order may hold: what is sent and what is awaited.
pub const MAX_ORDER: usize = 1024;
/// How long the process tries to be heard once it is alone.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process that speaks on a socket when this one has died.
///
/// Dropping it ends the process; it stays silent then, unless it was armed: an armed one speaks.
#[derive(Debug)]
pub struct Orphan {
    control: OwnedFd,
    child: OwnedFd,
    armed: AtomicBool,
}

impl Orphan {
    /// Makes the process. It holds `socket`, which need not be connected yet, and says nothing until it is armed.
    ///
    /// # Errors
    /// What the system says: no more processes or descriptors, or a kernel before 5.3 (no pidfd).
    pub fn spawn(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let (control, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let (socket, theirs_raw) = (socket.as_raw_fd(), theirs.as_raw_fd());
        // No handler of ours may run in the child; all signals stay blocked there.
        let before = SigSet::all().thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_SETMASK)?;
        // SAFETY: the child runs `child` alone, which never returns, allocates nothing, takes no lock and calls nothing but
        // system calls, so it does not matter what other threads of this process held when it was made.
        let forked = unsafe { fork() };
        if let Ok(ForkResult::Child) = forked {
            child(socket, theirs_raw);
        }
        let restored = before.thread_set_mask();
        let Ok(ForkResult::Parent { child }) = forked else {
            return Err(forked.err().map_or_else(|| io::Error::other("fork"), io::Error::from));
        };
        restored?;
        let pid = rustix::process::Pid::from_raw(child.as_raw()).ok_or(Errno::SRCH)?;
        // It cannot be another's: a child that nobody has waited for keeps its number.
        let child = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { control, child, armed: AtomicBool::new(false) })
    }

    /// Has the process send `bytes` when this one dies, and then wait until `until` is in what comes back (empty: not at all).
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for more than [`MAX_ORDER`] bytes; what the system says where the process is gone.
    pub fn arm(&self, bytes: &[u8], until: &[u8]) -> io::Result<()> {
        let until_len = u8::try_from(until.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let message = [&[until_len], until, bytes].concat();
        if message.len() > MAX_ORDER {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.tell(&message)?;
        self.armed.store(true, Ordering::Release);
        Ok(())
    }

    /// Has the process say nothing when this one dies.
    ///
    /// # Errors
    /// What the system says where the process is gone.
    pub fn disarm(&self) -> io::Result<()> {
        self.tell(&[0])?;
        self.armed.store(false, Ordering::Release);
        Ok(())
    }

    fn tell(&self, message: &[u8]) -> io::Result<()> {
        Ok(rustix::io::retry_on_intr(|| send(&self.control, message, SendFlags::NOSIGNAL)).map(drop)?)
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        if self.armed.load(Ordering::Acquire) {
            return;
        }
        // Neither can fail in a way that anything could be done about: it has ended, or somebody has waited for it.
        let _ = pidfd_send_signal(&self.child, Signal::KILL);
        let _ =
            rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.child.as_fd()), WaitIdOptions::EXITED));
    }
}

/// What the forked process does.
fn child(socket: RawFd, control: RawFd) -> ! {
    // Ctrl-C goes to the group of the terminal; this is a group and session of its own.
    let _ = rustix::process::setsid();
    close_all_but(socket, control);
    // SAFETY: both are descriptors of the parent's that `fork` copied and that were kept open just now; nobody else uses or
    // closes them in this process, which ends below.
    let (socket, control) = unsafe { (BorrowedFd::borrow_raw(socket), BorrowedFd::borrow_raw(control)) };
    let mut order = [0; MAX_ORDER];
    let mut len = 0;
    let mut message = [0; MAX_ORDER];
    loop {
        match recv(control, &mut message, RecvFlags::empty()) {
            Ok((0, _)) => break,
            Ok((got, _)) => (order, len) = (message, got),
            Err(Errno::INTR) => {}
            Err(_) => break,
        }
    }
    if let Some((until, bytes)) = parted(order.get(..len).unwrap_or_default()) {
        speak(socket, bytes, until);
    }
    // SAFETY: ends the process without running what the parent registered for its own end.
    unsafe { libc::_exit(0) }
}

/// An order's parts: what is awaited, and what is sent.
fn parted(order: &[u8]) -> Option<(&[u8], &[u8])> {
    let (until_len, rest) = order.split_first()?;
    let (until, bytes) = rest.split_at_checked(usize::from(*until_len))?;
    (!bytes.is_empty()).then_some((until, bytes))
}

/// Closes every descriptor but two: of what else the parent had open, nothing is to be kept open by us.
fn close_all_but(one: RawFd, other: RawFd) {
    let (low, high) = (one.min(other), one.max(other));
    for (first, last) in [(0, low - 1), (low + 1, high - 1), (high + 1, RawFd::MAX)] {
        if first > last {
            continue;
        }
        let (from, to) = (first.cast_unsigned(), last.cast_unsigned());
        // SAFETY: closes descriptors of this process, of which it uses none.
        let done = unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) } == 0;
        // Kernels before 5.9 do not know it: then one by one, as many as a process has by custom.
        for descriptor in (first..=last.min(4096)).filter(|_| !done) {
            // SAFETY: as above.
            unsafe { libc::close(descriptor) };
        }
    }
}

/// Sends `bytes`, and waits until `until` has come back.
fn speak(socket: BorrowedFd<'_>, mut bytes: &[u8], until: &[u8]) {
    let end = Instant::now() + PATIENCE;
    while !bytes.is_empty() {
        if !ready(socket, PollFlags::OUT, end) {
            return;
        }
        match send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return,
        }
    }
    // The end of what came before is kept: the words may come in two pieces.
    let mut window = [0; 2 * MAX_ORDER];
    let mut kept = 0;
    while !until.is_empty() && ready(socket, PollFlags::IN, end) {
        let room = window.get_mut(kept..).unwrap_or_default();
        let got = match recv(socket, room, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return,
            Ok((got, _)) => got,
            Err(Errno::INTR | Errno::AGAIN) => continue,
            Err(_) => return,
        };
        let filled = kept + got;
        let seen = window.get(..filled).unwrap_or_default();
        if seen.windows(until.len()).any(|part| part == until) {
            return;
        }
        kept = filled.min(until.len() - 1);
        window.copy_within(filled - kept..filled, 0);
    }
}

/// Waits until the socket is ready for something, or at its end; false when time is up.
fn ready(socket: BorrowedFd<'_>, what: PollFlags, end: Instant) -> bool {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        // At most 10 seconds, which fits.
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::from_borrowed_fd(socket, what)], Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests;
