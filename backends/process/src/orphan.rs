//! What is to be said on a socket when this process dies: one of the two places with `fork` (see also the guardian of traced
//! threads).
//!
//! A client that has stopped a guest over a socket and is then killed leaves the guest stopped for ever. So before it stops it, it
//! [spawns](Orphan::spawn) a small process in a session of its own that holds the same socket, and [arms](Orphan::arm) it with
//! the bytes that let the guest run again. When the client's end of their connection closes, however that came about, the bytes
//! are sent, an answer is awaited, and the process ends. Where it depends on something whether the guest may run, that is
//! [asked](Question) first.
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
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked before anything is said, in a protocol of lines.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What is sent.
    pub bytes: &'a [u8],
    /// What is in the line that answers it, and in no other.
    pub mark: &'a [u8],
    /// What has to be in that line too; else nothing more is said.
    pub needs: &'a [u8],
}

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
        self.arm_asking(Question { bytes: b"", mark: b"", needs: b"" }, bytes, until)
    }

    /// As [`arm`](Self::arm), but `bytes` are sent only where the answer to the question allows it.
    ///
    /// # Errors
    /// As [`arm`](Self::arm).
    pub fn arm_asking(&self, question: Question<'_>, bytes: &[u8], until: &[u8]) -> io::Result<()> {
        let mut message = Vec::new();
        for part in [until, question.mark, question.needs, question.bytes] {
            message.push(u8::try_from(part.len()).map_err(|_| io::ErrorKind::InvalidInput)?);
            message.extend_from_slice(part);
        }
        message.extend_from_slice(bytes);
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
    if let Some((until, question, bytes)) = parted(order.get(..len).unwrap_or_default()) {
        let end = Instant::now() + PATIENCE;
        if question.bytes.is_empty() || ask(socket, question, end) {
            speak(socket, bytes, until, end);
        }
    }
    // SAFETY: ends the process without running what the parent registered for its own end.
    unsafe { libc::_exit(0) }
}

/// An order's parts: what is awaited, what is asked first, and what is sent.
fn parted(order: &[u8]) -> Option<(&[u8], Question<'_>, &[u8])> {
    let mut rest = order;
    let mut parts = [b"".as_slice(); 4];
    for slot in &mut parts {
        let (len, behind) = rest.split_first()?;
        (*slot, rest) = behind.split_at_checked(usize::from(*len))?;
    }
    let [until, mark, needs, bytes] = parts;
    (!rest.is_empty()).then_some((until, Question { bytes, mark, needs }, rest))
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

/// Sends `bytes`; false where that fails.
fn send_all(socket: BorrowedFd<'_>, mut bytes: &[u8], end: Instant) -> bool {
    while !bytes.is_empty() {
        if !ready(socket, PollFlags::OUT, end) {
            return false;
        }
        match send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return false,
        }
    }
    true
}

/// Asks, and waits for the line that answers: does it allow to go on?
fn ask(socket: BorrowedFd<'_>, question: Question<'_>, end: Instant) -> bool {
    if !send_all(socket, question.bytes, end) {
        return false;
    }
    let has = |line: &[u8], what: &[u8]| what.is_empty() || line.windows(what.len()).any(|part| part == what);
    // Of lines that are longer, which are others, the end is kept.
    let mut line = [0; MAX_ORDER];
    let mut len = 0;
    let mut came = [0; MAX_ORDER];
    while ready(socket, PollFlags::IN, end) {
        let got = match recv(socket, came.as_mut_slice(), RecvFlags::DONTWAIT) {
            Ok((0, _)) => return false,
            Ok((got, _)) => got,
            Err(Errno::INTR | Errno::AGAIN) => continue,
            Err(_) => return false,
        };
        for &byte in came.get(..got).unwrap_or_default() {
            if byte == b'\n' {
                let whole = line.get(..len).unwrap_or_default();
                if has(whole, question.mark) {
                    return has(whole, question.needs);
                }
                len = 0;
                continue;
            }
            if len == line.len() {
                line.copy_within(MAX_ORDER / 2.., 0);
                len = MAX_ORDER - MAX_ORDER / 2;
            }
            if let Some(slot) = line.get_mut(len) {
                *slot = byte;
            }
            len += 1;
        }
    }
    false
}

/// Sends `bytes`, and waits until `until` has come back.
fn speak(socket: BorrowedFd<'_>, bytes: &[u8], until: &[u8], end: Instant) {
    if !send_all(socket, bytes, end) {
        return;
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
        // At most a minute, which fits.
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
