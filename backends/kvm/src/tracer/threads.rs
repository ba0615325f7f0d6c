//! Threads: traced, held, let go.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use vmc_process::guardian::Post;

use super::raw::{self, Report};
use super::{Thread, Tracer, status};
use crate::arch::{Arch, Host, is_one_of, vcpu_run};
use crate::options::Step;
use crate::wire::{Fault, Source};

/// The waits before a guest is held once more that was not in `KVM_RUN`.
const AGAIN: [Duration; 6] = [
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(4),
    Duration::from_millis(8),
    Duration::from_millis(16),
    Duration::from_millis(32),
];

/// The most reports that are answered in a row, and how long others have their turn then: whoever floods a thread with signals keeps
/// neither the child nor its processor.
const MOST_REPORTS: usize = 256;
const BREATH: Duration = Duration::from_millis(1);

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not traced: it has ended, or is none of ours.
    Free,
    /// It runs, or sleeps in a system call of its own.
    Running,
    /// It is held; `group`: its process is stopped as a whole.
    Held { group: bool },
}

impl Thread {
    /// Takes what the thread reported while it was to run. Every report stops it, so each is answered.
    fn settle(&mut self, report: Report) {
        let done = match report {
            Report::Ended => {
                self.state = State::Free;
                return;
            }
            // Its process is stopped: it stays so, but wakes for SIGCONT.
            Report::Held { group: true } => raw::listen(self.tid),
            Report::Signal(signal) => raw::go_on(self.tid, signal),
            Report::Held { group: false } | Report::SystemCall | Report::Other => raw::go_on(self.tid, 0),
        };
        if done == Err(Errno::ESRCH) {
            // Killed meanwhile; its end is reported too.
            self.state = State::Running;
        }
    }

    /// Takes what it reported while it is to stop.
    pub(super) fn stopping(&mut self, report: Report) {
        match report {
            Report::Held { group } => self.state = State::Held { group },
            Report::Signal(_) => {
                // Interrupted anew before it goes on, so that the interrupt is not lost and not doubled.
                let _ = raw::interrupt(self.tid);
                self.settle(report);
            }
            Report::Ended | Report::SystemCall | Report::Other => self.settle(report),
        }
    }

    /// Lets it go on where it is held.
    pub(super) fn let_go(&mut self) {
        if let State::Held { group } = self.state {
            let _ = if group { raw::listen(self.tid) } else { raw::go_on(self.tid, 0) };
            self.state = State::Running;
        }
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.state, State::Held { .. })
    }
}

impl Tracer {
    /// Traces the threads; they go on running.
    pub(super) fn seize(&mut self, post: &mut Post) -> Result<(), Fault> {
        for thread in &mut self.threads {
            match raw::seize(thread.tid) {
                Ok(()) => {
                    thread.state = State::Running;
                    // The number may be another's by now. Traced, it is no more given away; such a one is let go as the child ends.
                    if !status::is_of(self.pid, self.started, thread.tid) {
                        return Err(Fault::Gone);
                    }
                }
                // It has ended since.
                Err(Errno::ESRCH) => {}
                Err(errno) => return Err(Fault::Seize { tid: thread.tid, errno: errno as i32 }),
            }
        }
        self.alive()?;
        self.step(post, Step::Seized);
        // Without injection registers are those of an exit after the pages are set up, which is done to held vCPUs alone: held until
        // there was one, where the guest runs. Why a vCPU cannot be held is said when it is asked for.
        if !self.inject && self.hold_with_pages(post).is_ok() {
            self.release();
        }
        Ok(())
    }

    /// A thread by whose number the VMM's memory is reached: one that is traced, whose number is nobody else's even if it has ended.
    pub(super) fn traced(&self) -> Option<i32> {
        self.threads.iter().find(|thread| thread.state != State::Free).map(|thread| thread.tid)
    }

    fn alive(&self) -> Result<(), Fault> {
        if self.threads.iter().any(|thread| thread.state != State::Free) { Ok(()) } else { Err(Fault::Gone) }
    }

    /// Answers what running threads have reported, up to a limit.
    pub(super) fn settle(&mut self) {
        for _ in 0..MOST_REPORTS {
            let Some((tid, report)) = raw::report(-1) else { return };
            if let Some(thread) = self.threads.iter_mut().find(|thread| thread.tid == tid) {
                thread.settle(report);
            }
        }
        // The signal that tells of the rest has been taken with the first of them: it must not be waited for.
        self.more = true;
        std::thread::sleep(BREATH);
    }

    /// The same, but for one thread that is waited for by itself.
    pub(super) fn settle_others(&mut self, but: usize) {
        for (_, thread) in self.threads.iter_mut().enumerate().filter(|(index, _)| *index != but) {
            if thread.state == State::Running
                && let Some((_, report)) = raw::report(thread.tid)
            {
                thread.settle(report);
            }
        }
    }

    /// Holds all threads, and takes what the pages have. Without injection a vCPU that was between two `KVM_RUN` is tried again.
    pub(super) fn hold_with_pages(&mut self, post: &mut Post) -> Result<(), Fault> {
        if self.held {
            return Ok(());
        }
        self.hold(post)?;
        self.take_pages();
        if !self.inject {
            self.pages_on(post);
        }
        for wait in AGAIN {
            if self.inject
                || Instant::now() + wait >= self.deadline
                || self.vcpus.iter().all(|vcpu| vcpu.source != Source::None)
            {
                break;
            }
            self.release();
            let until = Instant::now() + wait;
            while raw::sleep_until(until) {
                self.settle();
            }
            self.hold(post)?;
            self.take_pages();
            self.pages_on(post);
        }
        Ok(())
    }

    /// Holds all threads, or none.
    fn hold(&mut self, post: &mut Post) -> Result<(), Fault> {
        self.settle();
        self.alive()?;
        for vcpu in &mut self.vcpus {
            vcpu.source = Source::None;
        }
        for thread in &mut self.threads {
            if thread.state == State::Running {
                let _ = raw::interrupt(thread.tid);
            }
        }
        self.step(post, Step::Interrupted);
        while let Some(late) = self.threads.iter().find(|thread| thread.state == State::Running) {
            let tid = late.tid;
            if Instant::now() >= self.deadline {
                self.release();
                return Err(Fault::Silent { tid });
            }
            if let Some((tid, report)) = raw::report(-1) {
                if let Some(thread) = self.threads.iter_mut().find(|thread| thread.tid == tid) {
                    thread.stopping(report);
                }
            } else {
                raw::sleep_until(self.deadline);
            }
        }
        self.alive()?;
        self.held = true;
        self.match_up();
        if let Some(vcpu) = self.vcpus.iter().position(|vcpu| self.has_ended(vcpu.tid)) {
            self.release();
            return Err(Fault::Unplugged { vcpu: i32::try_from(vcpu).unwrap_or(0) });
        }
        self.step(post, Step::Held);
        Ok(())
    }

    /// Has that thread, which ran a vCPU, ended? Whoever runs it now is not held.
    fn has_ended(&self, tid: Option<i32>) -> bool {
        tid.is_some_and(|tid| {
            self.threads.iter().any(|thread| thread.tid == tid && thread.state == State::Free)
        })
    }

    /// Which held thread runs which vCPU. Threads that are found to run none are let go for good.
    fn match_up(&mut self) {
        for thread in self.threads.iter_mut().filter(|thread| thread.is_held()) {
            let call = raw::frame(thread.tid).ok().and_then(|frame| Host::system_call(&frame));
            thread.in_run = call.and_then(vcpu_run);
            for vcpu in &mut self.vcpus {
                if thread.in_run.is_some_and(|fd| is_one_of(fd, &vcpu.fds)) {
                    vcpu.tid = Some(thread.tid);
                }
            }
        }
        if self.vcpus.iter().any(|vcpu| vcpu.tid.is_none()) {
            return;
        }
        let vcpus = &self.vcpus;
        for thread in &mut self.threads {
            if thread.is_held() && vcpus.iter().all(|vcpu| vcpu.tid != Some(thread.tid)) {
                let _ = raw::detach(thread.tid);
                thread.state = State::Free;
            }
        }
    }

    /// Lets all threads go on.
    pub(super) fn release(&mut self) {
        for thread in &mut self.threads {
            thread.let_go();
        }
        self.held = false;
    }

    /// Leaves the VMM as it was: nothing traced, nothing held, no page changed.
    pub(super) fn finish(&mut self) {
        self.settle();
        self.pages_off();
        for thread in &mut self.threads {
            if thread.is_held() {
                let _ = raw::detach(thread.tid);
                thread.state = State::Free;
            }
        }
        self.held = false;
        // Those that run are let go by the kernel when this process ends; only what they have reported is answered here.
        self.settle();
    }
}
