//! What happens to the guest when this process is killed: a guardian on the same socket lets it go.
//!
//! The guardian is there before the socket is connected, so that there is no moment at which a guest is stopped and nobody knows. It
//! is told in a byte what is to be done; as long as it was told nothing it finds out by itself whether the guest had run, as the
//! stub's first packet says: that is looked at here before it is taken.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use vmc_process::guardian::{Event, Guardian, Post};

/// Nothing is known yet.
const UNKNOWN: u8 = 0;
/// The guest is stopped by us and is to run.
const RUN: u8 = 1;
/// QEMU's stub reads physical addresses by our wish, and did not before.
const PHYSICAL: u8 = 2;
/// Something is known: always told, and without more nothing is to be done.
const KNOWN: u8 = 4;
/// `D` is being sent.
const LEAVING: u8 = 8;

/// What ends a packet of which a killed process sent a part, acknowledges what it did not, and is nothing to a stub that
/// waits for a packet.
const FINISH: &[u8] = b"+#00";
const QUESTION: &[u8] = b"$qC#b4";
const VIRTUAL: &[u8] = b"$Qqemu.PhyMemMode:0#76";
const DETACH: &[u8] = b"$D#44";
/// What stubs want for `D` where several processes were agreed on.
const DETACH_FIRST: &[u8] = b"$D;1#b0";

/// How long a stub may take to answer once it has begun.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer is waited for where it is not known whether there was a question.
const PERHAPS: Duration = Duration::from_secs(3);
/// What is silent for so long after an answer has no more to say.
const QUIET: Duration = Duration::from_millis(150);

/// Our end of it.
#[derive(Debug)]
pub(crate) struct Guard {
    guardian: Option<Guardian>,
    /// What it was told last.
    word: u8,
}

impl Guard {
    /// Starts the guardian of a socket that is not connected yet. It waits for a stub that says nothing as long as we do.
    pub(crate) fn spawn(socket: BorrowedFd<'_>, patience: Duration) -> Self {
        let guardian = Guardian::spawn(&[socket.as_fd()], |post| stand(post, socket, patience)).ok();
        Self { guardian, word: KNOWN }
    }

    /// None: where there is no guardian.
    pub(crate) const fn none() -> Self {
        Self { guardian: None, word: KNOWN }
    }

    pub(crate) const fn is_there(&self) -> bool {
        self.guardian.is_some()
    }

    /// Is the guest to be let run?
    pub(crate) fn run(&mut self, run: bool) {
        self.tell(RUN, run);
    }

    /// Is the stub's mode to be put back?
    pub(crate) fn physical(&mut self, physical: bool) {
        self.tell(PHYSICAL, physical);
    }

    /// The guest is let go now: a second time is only for where the stub does not answer the first, of which no answer may be
    /// taken before [`done`](Self::done).
    pub(crate) fn leaving(&mut self) {
        self.tell(LEAVING, true);
    }

    /// Nothing is to be done any more.
    pub(crate) fn done(&mut self) {
        self.tell(RUN | PHYSICAL | LEAVING, false);
    }

    /// Tells what else is to be done, or no longer is.
    fn tell(&mut self, bits: u8, set: bool) {
        self.word = if set { self.word | bits } else { self.word & !bits };
        if let Some(guardian) = &self.guardian {
            // One that is gone cannot be told, and does nothing.
            let _ = guardian.line().write_all(&[self.word]);
        }
    }

    /// Leaves the rest to it: it goes on when we are gone, and nobody waits for it.
    pub(crate) fn leave(&mut self) {
        if let Some(guardian) = self.guardian.take() {
            // To drop it is to wait for it, which may take seconds.
            let _ = std::thread::Builder::new().spawn(move || drop(guardian));
        }
    }
}

/// The guardian's duty. Nothing here allocates.
fn stand(post: &mut Post, socket: BorrowedFd<'_>, patience: Duration) {
    let mut word = [UNKNOWN];
    loop {
        match post.wait(None) {
            Event::Line if post.receive(&mut word) => {}
            Event::Line => break,
            Event::ParentGone => {
                while post.pending() && post.receive(&mut word) {}
                break;
            }
            Event::Child | Event::Nothing => {}
        }
    }
    let [mut word] = word;
    if word == UNKNOWN {
        // The killed one may have asked nothing yet. Where the socket was not even connected, nothing can be sent.
        if !say(socket, FINISH) || !say(socket, QUESTION) {
            return;
        }
        match listen(socket, patience, true) {
            Some(b'T' | b'S') => word = RUN,
            Some(_) => return,
            None => {
                // A stub that serves somebody else takes us up when that one goes, and stops the guest for us: what it finds then
                // lets the guest go.
                let _ = say(socket, FINISH) && say(socket, DETACH);
                return;
            }
        }
    }
    // QEMU's stub follows a null pointer at a second `D`, and any byte stops the guest that the first let go.
    if word & LEAVING != 0 && listen(socket, PERHAPS, false) == Some(b'O') {
        return;
    }
    if word & (RUN | PHYSICAL) == 0 || !say(socket, FINISH) {
        return;
    }
    if word & PHYSICAL != 0 && !say(socket, VIRTUAL) {
        return;
    }
    if word & RUN != 0 && !say(socket, DETACH) {
        return;
    }
    if listen(socket, PATIENCE, false) == Some(b'E') && word & RUN != 0 && say(socket, DETACH_FIRST) {
        listen(socket, PATIENCE, false);
    }
}

/// Sends bytes, which are few; false where that fails.
fn say(socket: BorrowedFd<'_>, mut bytes: &[u8]) -> bool {
    let end = Instant::now() + PATIENCE;
    while !bytes.is_empty() {
        match send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // The stub takes nothing as long as nobody takes what it has to say.
            Err(Errno::AGAIN) => {
                let mut sink = [0; 4096];
                let _ = recv(socket, sink.as_mut_slice(), RecvFlags::DONTWAIT);
                wait(socket, Duration::from_millis(10));
            }
            Err(_) => return false,
        }
        if Instant::now() > end {
            return false;
        }
    }
    true
}

/// Takes what comes until it is quiet after a packet, or `most` has passed: the first byte of the last packet, or, where it is
/// the `first` that is asked for, of the first.
fn listen(socket: BorrowedFd<'_>, most: Duration, first: bool) -> Option<u8> {
    let end = Instant::now() + most;
    let (mut found, mut begins) = (None, false);
    let mut bytes = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || !wait(socket, if found.is_some() { QUIET.min(left) } else { left }) {
            return found;
        }
        match recv(socket, bytes.as_mut_slice(), RecvFlags::DONTWAIT) {
            Ok((0, _)) => return found,
            Ok((got, _)) => {
                for &byte in bytes.get(..got).unwrap_or_default() {
                    if begins {
                        found = Some(byte);
                        if first {
                            return found;
                        }
                    }
                    begins = byte == b'$';
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return found,
        }
    }
}

/// Waits until something comes; false where nothing did.
fn wait(socket: BorrowedFd<'_>, most: Duration) -> bool {
    let end = Instant::now() + most;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        // A time of waiting fits.
        let time = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::from_borrowed_fd(socket, PollFlags::IN)], Some(&time)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(Errno::INTR) if !left.is_zero() => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    /// What a guardian says that was told by `tell`, to a stub that answers with `answers`, one at each packet's end.
    fn said(tell: impl FnOnce(&mut Guard), greeting: &[u8], answers: &[&[u8]]) -> String {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut guard = Guard::spawn(ours.as_fd(), Duration::from_millis(500));
        tell(&mut guard);
        drop(ours);
        theirs.write_all(greeting).unwrap();
        let dropped = std::thread::spawn(move || drop(guard));
        let (mut all, mut answers) = (Vec::new(), answers.iter());
        let mut byte = [0];
        while theirs.read(&mut byte).unwrap() > 0 {
            all.push(byte[0]);
            if all.len() > 3 && all[all.len() - 3] == b'#' && all[..all.len() - 3].contains(&b'$') {
                let _ = theirs.write_all(answers.next().unwrap_or(&b"".as_slice()));
            }
        }
        dropped.join().unwrap();
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn the_packets_are_packets() {
        for packet in [QUESTION, VIRTUAL, DETACH, DETACH_FIRST] {
            let mut out = Vec::new();
            let data = packet.get(1..packet.len() - 3).unwrap();
            crate::packet::encode(data, &mut out);
            assert_eq!(out, packet, "{}", String::from_utf8_lossy(packet));
        }
    }

    #[test]
    fn what_was_told_is_done() {
        assert_eq!(said(|guard| guard.run(false), b"", &[]), "");
        assert_eq!(said(|guard| guard.run(true), b"", &[b"$OK#9a"]), "+#00$D#44");
        assert_eq!(said(|guard| guard.run(true), b"$0102#", &[b"$E22#a9", b"$OK#9a"]), "+#00$D#44$D;1#b0");
        let both = |guard: &mut Guard| {
            guard.run(true);
            guard.physical(true);
        };
        assert_eq!(said(both, b"", &[b"$OK#9a"]), "+#00$Qqemu.PhyMemMode:0#76$D#44");
        let leaving = |guard: &mut Guard| {
            guard.run(true);
            guard.leaving();
        };
        // `D` was sent and answered, was refused, or was not sent.
        assert_eq!(said(leaving, b"$OK#9a", &[]), "");
        assert_eq!(said(leaving, b"$E22#a9", &[b"$E22#a9", b"$OK#9a"]), "+#00$D#44$D;1#b0");
        assert_eq!(said(leaving, b"", &[b"$OK#9a"]), "+#00$D#44");
        let done = |guard: &mut Guard| {
            guard.run(true);
            guard.done();
        };
        assert_eq!(said(done, b"", &[]), "");
    }

    #[test]
    fn who_was_told_nothing_finds_out() {
        // A guest that ran: its stop comes first.
        assert_eq!(said(|_| (), b"$T02thread:01;#04", &[b"$QC01#f5", b"$OK#9a"]), "+#00$qC#b4+#00$D#44");
        // A stub that serves somebody else: what it finds in the end lets the guest go.
        let start = Instant::now();
        assert_eq!(said(|_| (), b"", &[]), "+#00$qC#b4+#00$D#44");
        assert!((500..3000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        // One that did not.
        assert_eq!(said(|_| (), b"+$QC01#f5", &[]), "+#00$qC#b4");
    }
}
