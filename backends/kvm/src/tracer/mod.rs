//! The child: holds vCPU threads, reads registers, and puts everything right when the parent says so or is no more.
//!
//! Nothing here allocates: see [`vmc_process::guardian`].

mod inject;
pub(crate) mod memory;
mod page;
mod raw;
mod status;
mod threads;

use std::time::{Duration, Instant};

use vmc_process::guardian::{Event, Haste, Post};

use crate::arch::BLOCK;
use crate::find::Found;
use crate::options::{AttachOptions, Step};
use crate::wire::{COMMAND, Command, Fault, HEAD, Head, Source, VCPU};
pub(crate) use page::Page;
pub(crate) use status::start_time;
pub(crate) use threads::State;

/// How long the child waits for the parent to go on after a step.
const STEP_PATIENCE: Duration = Duration::from_secs(60);

/// How long the parent runs before others while it holds a guest. Who holds it longer gains little by that.
const HASTE: Duration = Duration::from_millis(100);

/// How long the child looks out for what comes next while a guest is held, before it sleeps.
const LOOK_OUT: Duration = Duration::from_micros(200);

/// A thread of the VMM.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) tid: i32,
    pub(crate) state: State,
    /// The descriptor of the vCPU that it was about to run when it was held.
    pub(crate) in_run: Option<u64>,
}

/// A vCPU.
#[derive(Debug)]
pub(crate) struct Vcpu {
    /// Its descriptors in the VMM.
    pub(crate) fds: Vec<i32>,
    /// The thread that runs it, once that is known.
    pub(crate) tid: Option<i32>,
    pub(crate) page: Option<Page>,
    pub(crate) source: Source,
    pub(crate) block: [u8; BLOCK],
}

/// All that the child needs, made before the fork.
#[derive(Debug)]
pub(crate) struct Tracer {
    pub(crate) pid: i32,
    /// When the process was started, in ticks of the clock since the host was.
    pub(crate) started: u64,
    pub(crate) threads: Vec<Thread>,
    pub(crate) vcpus: Vec<Vcpu>,
    /// The virtual machine's descriptor in the VMM.
    pub(crate) vm: Option<i32>,
    /// Where there is an instruction that makes a system call.
    pub(crate) instruction: Option<u64>,
    pub(crate) inject: bool,
    pub(crate) patience: Duration,
    pub(crate) steps: bool,
    pub(crate) reply: Vec<u8>,
    pub(crate) held: bool,
    /// By when what the parent has asked for is to be done.
    pub(crate) deadline: Instant,
    /// The parent's thread that runs before others, as long as it does.
    pub(crate) hasty: Option<i32>,
    /// How often registers were injected for.
    pub(crate) injections: u64,
    /// May the pages be used? None: not asked yet.
    pub(crate) pages_allowed: Option<bool>,
    pub(crate) orphan: bool,
    /// Have threads more to report than was answered?
    pub(crate) more: bool,
}

impl Tracer {
    /// What the child needs, made while memory can still be had.
    pub(crate) fn new(pid: u32, found: &Found, options: &AttachOptions) -> Self {
        let threads = found.threads.iter().map(|tid| Thread { tid: *tid, state: State::Free, in_run: None });
        let vcpus = found.vcpus.iter().map(|vcpu| Vcpu {
            fds: vcpu.fds.clone(),
            tid: vcpu.tid,
            page: vcpu.page.map(Page::new),
            source: Source::None,
            block: [0; BLOCK],
        });
        Self {
            pid: i32::try_from(pid).unwrap_or(0),
            started: found.started,
            threads: threads.collect(),
            vcpus: vcpus.collect(),
            vm: found.vm,
            instruction: found.instruction,
            inject: !options.no_inject,
            patience: options.patience,
            steps: options.watcher.is_some(),
            reply: vec![0; HEAD + VCPU * found.vcpus.len()],
            held: false,
            deadline: Instant::now() + options.patience,
            hasty: None,
            injections: 0,
            pages_allowed: None,
            orphan: false,
            more: false,
        }
    }

    /// Serves the parent until its end.
    pub(crate) fn serve(&mut self, post: &mut Post) {
        let seized = self.seize(post);
        let begun = seized.is_ok();
        self.answer(post, seized.map(|()| false));
        while begun && !self.orphan {
            if self.held {
                post.look_out(LOOK_OUT);
            }
            let wait =
                if std::mem::take(&mut self.more) { Some(Duration::ZERO) } else { self.hasty.map(|_| HASTE) };
            match post.wait(wait) {
                Event::Line => {
                    let mut command = [0; COMMAND];
                    if !post.receive(&mut command) {
                        break;
                    }
                    if !self.obey(post, Command::decode(command)) {
                        break;
                    }
                }
                Event::ParentGone => break,
                Event::Nothing => {
                    if let Some(thread) = self.hasty.take() {
                        Haste::end(thread);
                    }
                }
                Event::Child => {}
            }
            self.settle();
        }
        self.finish();
        self.answer(post, Ok(false));
    }

    /// False where that was the last command.
    fn obey(&mut self, post: &mut Post, command: Option<(Command, i32)>) -> bool {
        let (command, thread) = command.unzip();
        self.hasty = None;
        self.deadline = Instant::now() + self.patience;
        let done = match command {
            Some(Command::Stop) => self.hold_with_pages(post).and_then(|()| {
                // Whoever holds a guest wants its registers. Where they are not to be had, that is said when they are asked for;
                // but that they are no longer held has to be said now.
                let filled = self.fill(post);
                if !self.held {
                    return Err(filled.err().unwrap_or(Fault::NotHeld));
                }
                self.hasty = thread.filter(|thread| *thread > 0);
                Ok(true)
            }),
            Some(Command::Registers) if !self.held => Err(Fault::NotHeld),
            Some(Command::Registers) => self.fill(post).map(|()| true),
            Some(Command::Resume) => {
                self.release();
                self.step(post, Step::Resumed);
                Ok(false)
            }
            Some(Command::Sample) => {
                let held = self.held;
                let done = self.hold_with_pages(post).and_then(|()| self.fill(post));
                if !held {
                    self.release();
                    self.step(post, Step::Resumed);
                }
                done.map(|()| true)
            }
            Some(Command::GoOn) => return true,
            None => return false,
        };
        self.answer(post, done);
        true
    }

    /// Registers of held vCPUs, in whatever way is left.
    fn fill(&mut self, post: &mut Post) -> Result<(), Fault> {
        self.take_pages();
        let Some(missing) = self.vcpus.iter().position(|vcpu| vcpu.source == Source::None) else {
            return Ok(());
        };
        if !self.inject {
            return Err(Fault::Stale { vcpu: i32::try_from(missing).unwrap_or(0) });
        }
        self.inject(post)?;
        // Whoever asks a second time is likely to ask again: from then on KVM leaves the registers where they cost nothing.
        if self.injections > 1 && self.pages_allowed == Some(true) {
            self.pages_on(post);
        }
        Ok(())
    }

    /// Says how it went; with what is known of the vCPUs where `vcpus` is true.
    fn answer(&mut self, post: &mut Post, done: Result<bool, Fault>) {
        let count = if done == Ok(true) { self.vcpus.len() } else { 0 };
        let head = match done {
            Ok(_) => Head::Done { vcpus: count },
            Err(fault) => Head::Failed { fault, held: self.held },
        };
        let Some((front, rest)) = self.reply.split_at_mut_checked(HEAD) else { return };
        head.encode(front);
        for (vcpu, place) in self.vcpus.iter().take(count).zip(rest.chunks_exact_mut(VCPU)) {
            crate::arch::put(place, 0, &[vcpu.source.encode()]);
            crate::arch::put(place, 4, &vcpu.tid.unwrap_or(0).to_le_bytes());
            crate::arch::put(place, VCPU - BLOCK, &vcpu.block);
        }
        let whole = self.reply.get(..HEAD + count * VCPU).unwrap_or_default();
        if !self.orphan && !post.send(whole) {
            self.orphan = true;
        }
    }

    /// Tells the parent of a step where it wants to know, and waits for it.
    fn step(&mut self, post: &mut Post, step: Step) {
        if !self.steps || self.orphan {
            return;
        }
        let mut bytes = [0; HEAD];
        Head::At(step).encode(&mut bytes);
        if !post.send(&bytes) {
            self.orphan = true;
            return;
        }
        let begin = Instant::now();
        self.await_parent(post, begin + STEP_PATIENCE);
        self.deadline += begin.elapsed();
    }

    fn await_parent(&mut self, post: &mut Post, until: Instant) {
        loop {
            match post.wait(Some(until.saturating_duration_since(Instant::now()))) {
                Event::Line => {
                    let mut command = [0; COMMAND];
                    self.orphan = !post.receive(&mut command);
                    return;
                }
                Event::ParentGone => {
                    self.orphan = true;
                    return;
                }
                Event::Child => {}
                Event::Nothing => return,
            }
        }
    }
}
