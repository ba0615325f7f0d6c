//! A child process that outlives a killed parent and puts right what the parent left: the one place with `fork`.
//!
//! The child has a session of its own, blocks every signal, and holds no descriptor of the parent's but its end of a line and those
//! that it was given. It learns of the parent's end by the line's end and by the parent's pidfd, also from SIGKILL.
//!
//! # What a duty may do
//! It runs after a `fork` out of a program that may have threads: another thread may have held the lock of the allocator at that
//! moment, for ever. So it allocates nothing and frees nothing, prints nothing and does not panic: all that it needs is made before.
#![allow(unsafe_code, reason = "fork, and what belongs to it, is unsafe by nature; see SAFETY below")]

use std::io::{self, ErrorKind, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};
use nix::sys::time::TimeSpec;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid, gettid, setsid};

/// How long the end of a child is waited for that has been told to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the end of a child is looked out for without giving the processor away.
const LOOK_OUT: Duration = Duration::from_micros(500);

/// The most descriptors that are closed one by one where the kernel has no `close_range` (before 5.9).
const MOST_DESCRIPTORS: RawFd = 65_536;

/// Has the system run the calling thread before others until this is dropped, and for good what it forks meanwhile: for moments in
/// which somebody is held up. Where that is not permitted, or the thread has a policy of its own, nothing is different.
///
/// Without it a thread that is woken where all processors are busy, with vCPUs above all, waits for the next tick of the clock.
#[derive(Debug)]
pub struct Haste {
    /// The thread; None where nothing is changed.
    thread: Option<libc::pid_t>,
}

impl Haste {
    /// From now on.
    #[must_use]
    pub fn new() -> Self {
        let hasty = libc::sched_param { sched_priority: 1 };
        // SAFETY: the calls read no more than the number that is passed, and concern the calling thread alone.
        let changed = unsafe {
            libc::sched_getscheduler(0) == libc::SCHED_OTHER
                && libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const hasty) == 0
        };
        Self { thread: changed.then(|| gettid().as_raw()) }
    }

    /// The thread that runs before others; None where it does not.
    #[must_use]
    pub const fn thread(&self) -> Option<i32> {
        self.thread
    }

    /// Ends the haste of a thread, which may be another process': for one that takes too long over it.
    pub fn end(thread: i32) {
        let usual = libc::sched_param { sched_priority: 0 };
        // SAFETY: the call reads no more than the number that is passed.
        unsafe { libc::sched_setscheduler(thread, libc::SCHED_OTHER, &raw const usual) };
    }
}

impl Default for Haste {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Haste {
    fn drop(&mut self) {
        if let Some(thread) = self.thread {
            Self::end(thread);
        }
    }
}

/// The parent's end. Dropping it tells the child to finish, and waits until it has.
#[derive(Debug)]
pub struct Guardian {
    child: Pid,
    line: UnixStream,
}

impl Guardian {
    /// Starts a child that does `duty` and ends. `keep`: descriptors of the parent's that it needs.
    ///
    /// What a duty may do stands [above](self).
    ///
    /// # Errors
    /// What the system says where it makes no line or no process.
    pub fn spawn(keep: &[BorrowedFd<'_>], duty: impl FnOnce(&mut Post)) -> io::Result<Self> {
        let (line, theirs) = UnixStream::pair()?;
        let parent = getpid();
        let mut kept: Vec<RawFd> = keep.iter().map(AsRawFd::as_raw_fd).collect();
        kept.push(theirs.as_raw_fd());
        kept.sort_unstable();
        // No handler of the parent's may run in the child.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        // SAFETY: the child runs `stand_guard` alone, which keeps to what a child of a process with threads may do, and never
        // comes back here.
        let forked = unsafe { fork() };
        if matches!(forked, Ok(ForkResult::Child)) {
            stand_guard(parent, theirs, &kept, duty);
        }
        let restored = mask.thread_set_mask();
        let ForkResult::Parent { child } = forked? else { return Err(io::Error::from(ErrorKind::Other)) };
        let guardian = Self { child, line };
        restored?;
        Ok(guardian)
    }

    /// The line to the child: a stream of bytes.
    #[must_use]
    pub const fn line(&self) -> &UnixStream {
        &self.line
    }

    /// Waits for something to read on the line without giving the processor away to those who have less haste, but not long: a
    /// child that is quick answers before others would have had their turn.
    pub fn look_out(&self) {
        look_out(&self.line, LOOK_OUT);
    }

    /// The child's process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_raw().unsigned_abs()
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        let _haste = Haste::new();
        let _ = self.line.shutdown(std::net::Shutdown::Write);
        let _ = self.line.set_read_timeout(Some(PATIENCE));
        self.look_out();
        let mut rest = [0; 256];
        let ended = loop {
            match self.line.read(&mut rest) {
                Ok(0) => break true,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break false,
            }
        };
        let until = Instant::now() + LOOK_OUT;
        while ended && Instant::now() < until {
            if waitpid(self.child, Some(WaitPidFlag::WNOHANG)) != Ok(WaitStatus::StillAlive) {
                return;
            }
            std::thread::yield_now();
        }
        // A child that is not done within that time goes on by itself; nobody waits for it.
        while ended && waitpid(self.child, None) == Err(Errno::EINTR) {}
    }
}

/// What woke the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The parent wrote something, or closed its end: [`Post::receive`] says which.
    Line,
    /// The parent has ended.
    ParentGone,
    /// A child of the child, or a process that it traces, changed its state.
    Child,
    /// Nothing, for as long as was to be waited.
    Nothing,
}

/// The child's end.
#[derive(Debug)]
pub struct Post {
    line: ManuallyDrop<UnixStream>,
    parent: Option<ManuallyDrop<OwnedFd>>,
}

impl Post {
    /// Waits for the parent, for the state of a traced process, or for so long; without a limit where there is `None`.
    #[must_use]
    pub fn wait(&self, most: Option<Duration>) -> Event {
        let mut unblocked = SigSet::all();
        unblocked.remove(Signal::SIGCHLD);
        let line = PollFd::new(self.line.as_fd(), PollFlags::POLLIN);
        let time = most.map(TimeSpec::from);
        let (found, line, parent) = if let Some(parent) = &self.parent {
            let mut both = [line, PollFd::new(parent.as_fd(), PollFlags::POLLIN)];
            let found = ppoll(&mut both, time, Some(unblocked));
            let [line, parent] = both;
            (found, line.any(), parent.any())
        } else {
            let mut one = [line];
            let found = ppoll(&mut one, time, Some(unblocked));
            let [line] = one;
            (found, line.any(), Some(false))
        };
        match found {
            Err(Errno::EINTR) => Event::Child,
            Ok(0) => Event::Nothing,
            Ok(_) if line == Some(true) => Event::Line,
            Ok(_) if parent == Some(true) => Event::ParentGone,
            // A line that cannot be polled is as good as none.
            Ok(_) | Err(_) => Event::ParentGone,
        }
    }

    /// Fills `buf` with what the parent wrote. False where the parent closed its end, or is no more.
    pub fn receive(&mut self, buf: &mut [u8]) -> bool {
        self.line.read_exact(buf).is_ok()
    }

    /// Waits for something to [receive](Self::receive) without giving the processor away, but not longer than that.
    pub fn look_out(&self, most: Duration) {
        look_out(&self.line, most);
    }

    /// Is there something to [receive](Self::receive) now? Does not wait.
    #[must_use]
    pub fn pending(&self) -> bool {
        let mut line = [PollFd::new(self.line.as_fd(), PollFlags::POLLIN)];
        matches!(ppoll(&mut line, Some(TimeSpec::from(Duration::ZERO)), None), Ok(1..))
    }

    /// Tells the parent. False where it is no more.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.line.write_all(bytes).is_ok()
    }
}

/// Polls the line. Allocates nothing.
fn look_out(line: &UnixStream, most: Duration) {
    let until = Instant::now() + most;
    let mut line = [PollFd::new(line.as_fd(), PollFlags::POLLIN)];
    while matches!(ppoll(&mut line, Some(TimeSpec::from(Duration::ZERO)), None), Ok(0))
        && Instant::now() < until
    {
        std::thread::yield_now();
    }
}

/// Ends the process whatever happens, so that no child returns into the parent's program.
struct NeverReturn;

impl Drop for NeverReturn {
    fn drop(&mut self) {
        // SAFETY: `_exit` runs no handler and frees nothing.
        unsafe { libc::_exit(0) }
    }
}

/// The child, from the fork to its end.
fn stand_guard(parent: Pid, line: UnixStream, kept: &[RawFd], duty: impl FnOnce(&mut Post)) -> ! {
    let _end = NeverReturn;
    let _ = setsid();
    let handler = SigAction::new(SigHandler::Handler(woken), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing; the signal is blocked but while `ppoll` waits, which it ends.
    let _ = unsafe { sigaction(Signal::SIGCHLD, &handler) };
    close_all_but(kept);
    // SAFETY: the name is a string with its end; the call reads no more than 16 bytes of it.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"vmc-guardian".as_ptr()) };
    let parent_end = pidfd(parent);
    let mut post = Post { line: ManuallyDrop::new(line), parent: parent_end.map(ManuallyDrop::new) };
    // The parent may have ended before its pidfd was there: then that is somebody else's.
    if getppid() == parent {
        let _ = post.line.set_write_timeout(Some(PATIENCE));
    } else {
        post.parent = None;
        let _ = post.line.shutdown(std::net::Shutdown::Both);
    }
    duty(&mut post);
    // SAFETY: `_exit` runs no handler and frees nothing.
    unsafe { libc::_exit(0) }
}

extern "C" fn woken(_: libc::c_int) {}

/// A descriptor that says when that process ends; None before Linux 5.3.
fn pidfd(of: Pid) -> Option<OwnedFd> {
    // SAFETY: the call takes numbers alone.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, of.as_raw(), 0) };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just made the descriptor, nobody else has it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes every descriptor but those, which ascend.
fn close_all_but(kept: &[RawFd]) {
    let mut first = 0;
    for &keep in kept {
        if first < keep {
            close_from_to(first, keep - 1);
        }
        first = keep + 1;
    }
    close_from_to(first, RawFd::MAX);
}

fn close_from_to(first: RawFd, last: RawFd) {
    // SAFETY: the call takes numbers alone. The descriptors are copies of the parent's, which this process never uses: the
    // objects of the parent's program that own them are never touched here.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if closed != 0 {
        for fd in first..=last.min(MOST_DESCRIPTORS) {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends back what it gets, increased by one.
    fn echo(post: &mut Post) {
        let mut byte = [0];
        while post.wait(None) == Event::Line && post.receive(&mut byte) {
            if !post.send(&[byte[0].wrapping_add(1)]) {
                break;
            }
        }
    }

    #[test]
    fn a_child_answers_and_leaves_nothing_behind() {
        let guardian = Guardian::spawn(&[], echo).unwrap();
        let pid = guardian.pid();
        let mut byte = [7];
        guardian.line().write_all(&byte).unwrap();
        guardian.line().read_exact(&mut byte).unwrap();
        assert_eq!(byte, [8]);
        // stat's sixth field is the session, which the child leads.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let session: u32 =
            stat.rsplit(')').next().unwrap().split_ascii_whitespace().nth(3).unwrap().parse().unwrap();
        assert_eq!(session, pid);
        // The line, and its parent's pidfd: no descriptor more.
        assert_eq!(std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(), 2);
        drop(guardian);
        assert!(!std::fs::exists(format!("/proc/{pid}")).unwrap(), "a zombie is left");
    }

    #[test]
    fn several_do_not_hold_each_others_lines() {
        let first = Guardian::spawn(&[], echo).unwrap();
        let second = Guardian::spawn(&[], echo).unwrap();
        let start = Instant::now();
        drop(first);
        drop(second);
        assert!(start.elapsed() < PATIENCE, "the end of a line was not seen");
    }

    #[test]
    fn waits_end_by_time() {
        let guardian = Guardian::spawn(&[], |post| {
            let event = post.wait(Some(Duration::from_millis(20)));
            post.send(&[u8::from(event == Event::Nothing)]);
            let _ = post.wait(None);
        })
        .unwrap();
        let mut byte = [0];
        guardian.line().read_exact(&mut byte).unwrap();
        assert_eq!(byte, [1]);
    }

    #[test]
    fn a_kept_descriptor_stays_open() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let guardian = Guardian::spawn(&[theirs.as_fd()], |post| {
            let _ = (&theirs).write_all(b"here");
            let _ = post.wait(None);
        })
        .unwrap();
        let mut word = [0; 4];
        ours.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"here");
        drop(guardian);
    }
}
