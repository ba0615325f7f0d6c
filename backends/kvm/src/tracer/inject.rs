//! System calls on borrowed registers: a held thread asks KVM for the registers of all vCPUs, and never knows.
//!
//! No code is written: an instruction that is there already makes the call. What is borrowed is the thread's registers, its set of
//! blocked signals and a few bytes of its stack that are not in use. A thread that was held in a system call of its own goes
//! through one more stop before it runs, in which the kernel sorts out whether that call is to be made again.

use std::time::{Duration, Instant};

use nix::libc::{SIGSTOP, SIGSYS};
use vmc_process::guardian::Post;

use super::raw::{self, Report};
use super::threads::State;
use super::{Tracer, memory, status};
use crate::arch::{Arch, Ask, Frame, Host, KVM_CAP_SYNC_REGS, KVM_CHECK_EXTENSION, SCRATCH};
use crate::options::Step;
use crate::wire::{Fault, Source};

/// How long the end of a system call that does not end is waited for at a time.
const LONG: Duration = Duration::from_secs(1);

/// The most calls for a vCPU.
const MOST_CALLS: usize = 64;

/// A thread whose registers are borrowed.
struct Borrowed {
    index: usize,
    tid: i32,
    /// As it was.
    frame: Frame,
    mask: u64,
    /// No seccomp filter applies to it for now.
    unjailed: bool,
    /// Where the borrowed bytes lie, and what they were.
    at: u64,
    saved: [u8; SCRATCH],
    instruction: u64,
    /// It is inside a call of ours.
    inside: bool,
    /// It runs, on its way to a stop that has not come.
    away: bool,
    /// The bytes that KVM writes to.
    scratch: [u8; SCRATCH],
}

fn trace(tid: i32) -> impl Fn(nix::errno::Errno) -> Fault {
    move |errno| Fault::Trace { tid, errno: errno as i32 }
}

fn no_scratch(tid: i32) -> impl Fn(nix::errno::Errno) -> Fault {
    move |errno| Fault::NoScratch { tid, errno: errno as i32 }
}

impl Tracer {
    /// Asks for the registers of every vCPU that has none.
    pub(super) fn inject(&mut self, post: &mut Post) -> Result<(), Fault> {
        let mut borrowed = self.borrow(post)?;
        let asked = self.ask_all(post, &mut borrowed);
        self.give_back(&mut borrowed);
        self.step(post, Step::Restored);
        asked?;
        self.injections += 1;
        Ok(())
    }

    /// The thread that lends its registers: one that was in `KVM_RUN`, else one that runs a vCPU where that is known. A thread that
    /// was in its program's code may have been in a restartable sequence, which the kernel would take for interrupted at our call.
    fn lender(&self) -> Result<usize, Fault> {
        if let Some(index) =
            self.threads.iter().position(|thread| thread.is_held() && thread.in_run.is_some())
        {
            return Ok(index);
        }
        let held = |tid: Option<i32>| {
            self.threads.iter().position(|thread| thread.is_held() && tid.is_none_or(|tid| tid == thread.tid))
        };
        let known = self.vcpus.iter().filter_map(|vcpu| vcpu.tid).find_map(|tid| held(Some(tid)));
        known.or_else(|| held(None)).ok_or(Fault::Gone)
    }

    fn borrow(&mut self, post: &mut Post) -> Result<Borrowed, Fault> {
        let index = self.lender()?;
        let tid = self.threads.get(index).ok_or(Fault::Gone)?.tid;
        let frame = raw::frame(tid).map_err(trace(tid))?;
        let instruction = self.find_instruction(tid, &frame).ok_or(Fault::NoInstruction { tid })?;
        let at = Host::sp(&frame).wrapping_sub(Host::RED_ZONE + SCRATCH as u64) & !63;
        let mut saved = [0; SCRATCH];
        memory::read(tid, at, &mut saved).map_err(no_scratch(tid))?;
        let mask = raw::mask(tid).map_err(trace(tid))?;
        // Whatever it has now: a filter may be put on it by another thread while its registers are borrowed.
        let suspended = raw::suspend_seccomp(tid, true);
        if let Err(errno) = suspended
            && status::jailed(self.pid, tid)
        {
            return Err(Fault::Jailed { tid, errno: errno as i32 });
        }
        let unjailed = suspended.is_ok();
        let borrowed = Borrowed {
            index,
            tid,
            frame,
            mask,
            unjailed,
            at,
            saved,
            instruction,
            inside: false,
            away: false,
            scratch: [0; SCRATCH],
        };
        if let Err(errno) = raw::set_mask(tid, raw::ALL_BUT_FORCED) {
            if unjailed {
                let _ = raw::suspend_seccomp(tid, false);
            }
            return Err(trace(tid)(errno));
        }
        self.step(post, Step::SignalsBlocked);
        Ok(borrowed)
    }

    /// The instruction that brought the thread into the system call in which it was held, or the one found before.
    fn find_instruction(&self, tid: i32, frame: &Frame) -> Option<u64> {
        let just_made = Host::pc(frame).wrapping_sub(Host::SYSTEM_CALL.len() as u64);
        [Some(just_made), self.instruction].into_iter().flatten().find(|at| {
            let mut bytes = [0; 4];
            let Some(bytes) = bytes.get_mut(..Host::SYSTEM_CALL.len()) else { return false };
            memory::read(tid, *at, bytes).is_ok() && bytes == Host::SYSTEM_CALL
        })
    }

    fn ask_all(&mut self, post: &mut Post, borrowed: &mut Borrowed) -> Result<(), Fault> {
        // Of use to whoever asks again, and only to them.
        if self.injections > 0 && self.pages_allowed.is_none() && Host::SYNC_WANTED != 0 {
            self.pages_allowed = Some(self.kvm_stores_registers(post, borrowed)?);
        }
        for index in 0..self.vcpus.len() {
            let Some(vcpu) = self.vcpus.get(index) else { break };
            let Some(fd) = vcpu.fds.first().copied().filter(|_| vcpu.source == Source::None) else {
                continue;
            };
            let mut block = vcpu.block;
            let mut state = 0;
            for step in 0..MOST_CALLS {
                let Some(ask) = Host::ask(step, &mut state, borrowed.at, &mut borrowed.scratch) else {
                    break;
                };
                let result = self.ask(post, borrowed, fd, ask)?;
                Host::answer(step, &mut state, result, &borrowed.scratch, &mut block)
                    .map_err(|errno| Fault::Refused { vcpu: i32::try_from(index).unwrap_or(0), errno })?;
            }
            if let Some(vcpu) = self.vcpus.get_mut(index) {
                vcpu.block = block;
                vcpu.source = Source::Injected;
            }
        }
        Ok(())
    }

    /// Does KVM store this guest's registers in the pages? It does not where the guest's state is secret.
    fn kvm_stores_registers(&mut self, post: &mut Post, borrowed: &mut Borrowed) -> Result<bool, Fault> {
        let Some(vm) = self.vm else { return Ok(false) };
        let arguments = [i64::from(vm).cast_unsigned(), KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS];
        let fields = self.system_call(post, borrowed, arguments)?;
        Ok(fields > 0 && fields.cast_unsigned() & Host::SYNC_WANTED == Host::SYNC_WANTED)
    }

    fn ask(&mut self, post: &mut Post, borrowed: &mut Borrowed, fd: i32, ask: Ask) -> Result<i64, Fault> {
        let tid = borrowed.tid;
        if let Some(input) = borrowed.scratch.get(..ask.put).filter(|input| !input.is_empty()) {
            memory::write(tid, borrowed.at, input).map_err(no_scratch(tid))?;
        }
        let result =
            self.system_call(post, borrowed, [i64::from(fd).cast_unsigned(), ask.request, borrowed.at])?;
        if let Some(output) = borrowed.scratch.get_mut(..ask.take) {
            memory::read(tid, borrowed.at, output).map_err(no_scratch(tid))?;
        }
        Ok(result)
    }

    /// Makes an `ioctl`.
    fn system_call(
        &mut self,
        post: &mut Post,
        borrowed: &mut Borrowed,
        arguments: [u64; 3],
    ) -> Result<i64, Fault> {
        let tid = borrowed.tid;
        let mut frame = borrowed.frame;
        Host::call(&mut frame, borrowed.instruction, Host::IOCTL, arguments);
        raw::set_frame(tid, &frame).map_err(trace(tid))?;
        self.step(post, Step::Borrowed);
        self.run_to_stop(borrowed, self.deadline)?;
        borrowed.inside = true;
        self.step(post, Step::InSystemCall);
        self.run_to_stop(borrowed, self.deadline)?;
        borrowed.inside = false;
        self.step(post, Step::SystemCallDone);
        Ok(Host::result(&raw::frame(tid).map_err(trace(tid))?))
    }

    /// Runs the thread to where it enters or leaves a system call.
    fn run_to_stop(&mut self, borrowed: &mut Borrowed, deadline: Instant) -> Result<(), Fault> {
        let tid = borrowed.tid;
        raw::to_system_call(tid, 0).map_err(trace(tid))?;
        borrowed.away = true;
        self.await_stop(borrowed, deadline)
    }

    fn await_stop(&mut self, borrowed: &mut Borrowed, deadline: Instant) -> Result<(), Fault> {
        let tid = borrowed.tid;
        loop {
            match raw::report(tid) {
                Some((_, Report::SystemCall)) => {
                    borrowed.away = false;
                    return Ok(());
                }
                Some((_, Report::Ended)) => {
                    if let Some(thread) = self.threads.get_mut(borrowed.index) {
                        thread.state = State::Free;
                    }
                    return Err(Fault::Gone);
                }
                // All signals are blocked, but SIGSTOP comes through: it stops the process, and this thread when we are done.
                Some((_, Report::Signal(signal))) if signal == SIGSTOP => {
                    raw::to_system_call(tid, signal).map_err(trace(tid))?;
                }
                // What our call brought about is not the program's to see. It is on its way out of the kernel.
                Some((_, Report::Signal(signal))) => {
                    borrowed.away = false;
                    borrowed.inside = false;
                    return Err(Fault::Signal { tid, signal });
                }
                Some((_, Report::Held { .. } | Report::Other)) => {
                    raw::to_system_call(tid, 0).map_err(trace(tid))?
                }
                None => {
                    raw::sleep_until(deadline);
                }
            }
            if Instant::now() >= deadline {
                return Err(Fault::Silent { tid });
            }
        }
    }

    /// Gives everything back. Where a call of ours hangs, that takes until it ends: whoever it waits for runs meanwhile.
    fn give_back(&mut self, borrowed: &mut Borrowed) {
        let tid = borrowed.tid;
        if borrowed.away {
            for (index, thread) in self.threads.iter_mut().enumerate() {
                if index != borrowed.index {
                    thread.let_go();
                }
            }
            self.held = false;
        }
        while borrowed.away || borrowed.inside {
            let deadline = Instant::now() + LONG;
            let waited = if borrowed.away {
                self.await_stop(borrowed, deadline)
            } else {
                self.run_to_stop(borrowed, deadline)
            };
            match waited {
                Ok(()) => borrowed.inside = !borrowed.inside,
                Err(Fault::Silent { .. }) => self.settle_others(borrowed.index),
                Err(_) => break,
            }
        }
        if self.threads.get(borrowed.index).is_none_or(|thread| thread.state == State::Free) {
            return;
        }
        let _ = memory::write(tid, borrowed.at, &borrowed.saved);
        let _ = raw::set_frame(tid, &borrowed.frame);
        let _ = raw::set_mask(tid, borrowed.mask);
        if borrowed.unjailed {
            let _ = raw::suspend_seccomp(tid, false);
        }
        // From here the kernel would go straight back to the program, which would see what only the kernel may see of a call that
        // is to be made again. An interrupt leads through the place where that is sorted out.
        let _ = raw::interrupt(tid);
        let _ = raw::go_on(tid, 0);
        if !self.await_held(borrowed.index) || !self.held {
            self.release();
        }
    }

    /// Waits for the stop by an interrupt that is certain to come, or the end of the thread. False where neither came.
    fn await_held(&mut self, index: usize) -> bool {
        let Some(thread) = self.threads.get_mut(index) else { return false };
        thread.state = State::Running;
        let deadline = Instant::now() + LONG;
        while thread.state == State::Running {
            match raw::report(thread.tid) {
                // Its own calls cannot have brought that about: it has made none.
                Some((_, Report::Signal(signal))) if signal == SIGSYS => {
                    let _ = raw::interrupt(thread.tid);
                    let _ = raw::go_on(thread.tid, 0);
                }
                Some((_, report)) => thread.stopping(report),
                None => {
                    raw::sleep_until(deadline);
                }
            }
            if Instant::now() >= deadline {
                return thread.state != State::Running;
            }
        }
        true
    }
}
