//! `ptrace` and waiting for what it brings about, as calls that do not allocate. Real-time signals pass through them as any other,
//! which is why they take and give plain numbers.
//!
//! Source: ptrace(2), `include/uapi/linux/ptrace.h`.
#![allow(unsafe_code, reason = "ptrace takes pointers by request; see SAFETY below")]

use std::ptr;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;

use crate::arch::{Arch, Frame, Host};

const CONT: i32 = 7;
const DETACH: i32 = 17;
const SYSCALL: i32 = 24;
const SETOPTIONS: i32 = 0x4200;
const GETREGSET: i32 = 0x4204;
const SETREGSET: i32 = 0x4205;
const SEIZE: i32 = 0x4206;
const INTERRUPT: i32 = 0x4207;
const LISTEN: i32 = 0x4208;
const GETSIGMASK: i32 = 0x420a;
const SETSIGMASK: i32 = 0x420b;
const NT_PRSTATUS: usize = 1;

/// Stops at system calls are told from SIGTRAP.
const TRACESYSGOOD: usize = 1;
/// No seccomp filter applies while the thread is traced.
const SUSPEND_SECCOMP: usize = 1 << 21;

/// What a thread reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// It has ended.
    Ended,
    /// It is held by an interrupt; `group`: all of the process is stopped (SIGSTOP).
    Held { group: bool },
    /// It enters or leaves a system call.
    SystemCall,
    /// This signal is about to be delivered.
    Signal(i32),
    /// Something that nobody asked for.
    Other,
}

fn call(request: i32, tid: i32, addr: usize, data: usize) -> Result<(), Errno> {
    // SAFETY: the callers below pass numbers, or pointers to objects that outlive the call and have the size that the request
    // reads or writes.
    let done =
        unsafe { libc::ptrace(request as _, tid, addr as *mut libc::c_void, data as *mut libc::c_void) };
    Errno::result(done).map(drop)
}

pub(super) fn seize(tid: i32) -> Result<(), Errno> {
    call(SEIZE, tid, 0, TRACESYSGOOD)
}

pub(super) fn suspend_seccomp(tid: i32, yes: bool) -> Result<(), Errno> {
    call(SETOPTIONS, tid, 0, TRACESYSGOOD | if yes { SUSPEND_SECCOMP } else { 0 })
}

/// The mask that blocks all signals but the one that a seccomp filter forces on a thread: where that is blocked, the kernel takes
/// the program's handler away before it delivers it.
pub(super) const ALL_BUT_FORCED: u64 = !(1 << (libc::SIGSYS - 1));

pub(super) fn interrupt(tid: i32) -> Result<(), Errno> {
    call(INTERRUPT, tid, 0, 0)
}

pub(super) fn go_on(tid: i32, signal: i32) -> Result<(), Errno> {
    call(CONT, tid, 0, usize::try_from(signal).unwrap_or(0))
}

pub(super) fn to_system_call(tid: i32, signal: i32) -> Result<(), Errno> {
    call(SYSCALL, tid, 0, usize::try_from(signal).unwrap_or(0))
}

pub(super) fn listen(tid: i32) -> Result<(), Errno> {
    call(LISTEN, tid, 0, 0)
}

pub(super) fn detach(tid: i32) -> Result<(), Errno> {
    call(DETACH, tid, 0, 0)
}

/// The thread's registers; `ENOEXEC` where they are not those of a program of 64 bits.
pub(super) fn frame(tid: i32) -> Result<Frame, Errno> {
    let mut frame: Frame = [0; crate::arch::WORDS];
    let mut place = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: 8 * Host::WORDS };
    call(GETREGSET, tid, NT_PRSTATUS, ptr::from_mut(&mut place).addr_exposed())?;
    // The kernel says how much it has written.
    if place.iov_len == 8 * Host::WORDS { Ok(frame) } else { Err(Errno::ENOEXEC) }
}

pub(super) fn set_frame(tid: i32, frame: &Frame) -> Result<(), Errno> {
    let mut copy = *frame;
    let mut place = libc::iovec { iov_base: copy.as_mut_ptr().cast(), iov_len: 8 * Host::WORDS };
    call(SETREGSET, tid, NT_PRSTATUS, ptr::from_mut(&mut place).addr_exposed())
}

/// The signals that the thread blocks.
pub(super) fn mask(tid: i32) -> Result<u64, Errno> {
    let mut mask = 0u64;
    call(GETSIGMASK, tid, 8, ptr::from_mut(&mut mask).addr_exposed())?;
    Ok(mask)
}

pub(super) fn set_mask(tid: i32, mask: u64) -> Result<(), Errno> {
    let mut mask = mask;
    call(SETSIGMASK, tid, 8, ptr::from_mut(&mut mask).addr_exposed())
}

/// Pointers as `ptrace` takes them.
trait Exposed {
    fn addr_exposed(self) -> usize;
}

impl<T> Exposed for *mut T {
    fn addr_exposed(self) -> usize {
        self.expose_provenance()
    }
}

/// The next report of `tid`, or of any thread where that is -1. Does not wait; None where there is none.
pub(super) fn report(tid: i32) -> Option<(i32, Report)> {
    let mut status = 0;
    // SAFETY: the pointer is that of a number that outlives the call.
    let who = unsafe { libc::waitpid(tid, &raw mut status, libc::WNOHANG | libc::__WALL) };
    (who > 0).then(|| (who, understand(status)))
}

/// Source of the format: wait(2), ptrace(2).
fn understand(status: i32) -> Report {
    if status & 0xff != 0x7f {
        return Report::Ended;
    }
    let (signal, event) = (status >> 8 & 0xff, status >> 16);
    match (event, signal) {
        (libc::PTRACE_EVENT_STOP, libc::SIGTRAP) => Report::Held { group: false },
        (libc::PTRACE_EVENT_STOP, _) => Report::Held { group: true },
        (0, signal) if signal == libc::SIGTRAP | 0x80 => Report::SystemCall,
        (0, signal) => Report::Signal(signal),
        _ => Report::Other,
    }
}

/// Sleeps until a thread has something to report, or until then. False where it is past that.
pub(super) fn sleep_until(deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    if left == Duration::ZERO {
        return false;
    }
    let time = libc::timespec {
        tv_sec: left.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: left.subsec_nanos().into(),
    };
    // SAFETY: the set is initialised by `sigemptyset` before it is read, and all pointers outlive the calls.
    unsafe {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        libc::sigtimedwait(set.as_ptr(), ptr::null_mut(), &raw const time);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_told_apart() {
        let stopped = |signal: i32, event: i32| understand(event << 16 | signal << 8 | 0x7f);
        assert_eq!(stopped(libc::SIGTRAP, 128), Report::Held { group: false });
        assert_eq!(stopped(libc::SIGSTOP, 128), Report::Held { group: true });
        assert_eq!(stopped(libc::SIGTRAP | 0x80, 0), Report::SystemCall);
        assert_eq!(stopped(34, 0), Report::Signal(34));
        assert_eq!(stopped(libc::SIGTRAP, 3), Report::Other);
        assert_eq!((understand(0), understand(9)), (Report::Ended, Report::Ended));
    }
}
