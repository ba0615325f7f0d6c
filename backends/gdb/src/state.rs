//! What is going on with a stub that is attached to: its guest held, let run, let go.

use vmc::Registers;
use vmc_process::ProcessMemory;

use crate::error::LinkError;
use crate::guard::Guard;
use crate::handshake::{self, Addresses};
use crate::link::{Link, is_stop};
use crate::memory::Pages;
use crate::options::Step;
use crate::registers::Plan;

pub(crate) const RUNS: &str = "the guest runs, and its stub answers only while it is stopped";

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) link: Link,
    pub(crate) pages: Pages,
    pub(crate) registers: Vec<Option<Registers>>,
    pub(crate) addresses: Addresses,
    /// Does the stub read physical addresses now?
    pub(crate) physical: bool,
    /// Does the guest run now, by our word?
    pub(crate) running: bool,
    /// Is it to run when it is let go?
    pub(crate) let_run: bool,
    pub(crate) continues: bool,
    /// Stop replies that came without being asked for, as of the last look.
    pub(crate) stops: usize,
    pub(crate) released: bool,
    pub(crate) at_step: Option<fn(Step)>,
    pub(crate) guard: Guard,
    pub(crate) local: Local,
}

/// The memory in the process of the virtual machine monitor.
#[derive(Debug)]
pub(crate) enum Local {
    Untried,
    /// There is none, or its bytes are not the guest's.
    Off,
    On(u32, ProcessMemory),
}

impl State {
    pub(crate) fn step(&self, step: Step) {
        if let Some(at_step) = self.at_step {
            at_step(step);
        }
    }

    /// The connection, where it may be used.
    pub(crate) fn held(&mut self) -> Result<&mut Link, &'static str> {
        if self.running || self.released {
            return Err(RUNS);
        }
        Ok(&mut self.link)
    }

    /// Somebody else has let the guest run while we held it: then it is to run in the end.
    pub(crate) fn notice(&mut self) {
        if self.link.stops() > self.stops {
            self.stops = self.link.stops();
            self.let_run = true;
            self.guard.run(true);
        }
    }

    /// Holds the guest, and forgets what was read before.
    pub(crate) fn stop(&mut self) -> Result<(), LinkError> {
        if !self.running {
            return Ok(());
        }
        self.hold()?;
        self.forget_memory();
        self.registers.fill(None);
        if matches!(self.local, Local::On(..)) {
            return Ok(());
        }
        let switched = self.switch(true);
        // It is to run as before; where that fails too, whoever lets go sees to it.
        if switched.is_err() && (self.link.is_lost() || self.resume().is_err()) {
            self.link.lose();
        }
        switched
    }

    /// Does what the guest has to stand for; one that runs is stopped for it, and runs again then.
    pub(crate) fn standing<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Result<T, LinkError> {
        let ran = self.running && !self.released;
        if ran {
            self.hold()?;
        }
        let done = work(self);
        if ran {
            self.resume()?;
        }
        Ok(done)
    }

    /// Stops the guest; what was read stays.
    fn hold(&mut self) -> Result<(), LinkError> {
        if self.link.has_stopped()? {
            // By somebody else, whose word counts from now on.
            (self.running, self.let_run) = (false, false);
            return Ok(());
        }
        // From here on it may be stopped.
        self.guard.run(true);
        if let Err(error) = self.interrupt() {
            // It may have stopped all the same, or stop yet: whoever lets go has to see to it.
            if !matches!(error, LinkError::Ended { .. }) {
                self.link.lose();
            }
            return Err(error);
        }
        self.running = false;
        Ok(())
    }

    /// Has the stub stop the guest, and waits until it says so.
    fn interrupt(&mut self) -> Result<(), LinkError> {
        self.link.send_raw(&[3])?;
        let until = self.link.until();
        while let Some(packet) = self.link.receive(until, false)? {
            if is_stop(&packet) {
                return Ok(());
            }
        }
        Err(self.link.silent(b"stop"))
    }

    /// Has the stub read physical addresses, or virtual ones.
    fn switch(&mut self, physical: bool) -> Result<(), LinkError> {
        if let Addresses::Switched { before } = self.addresses
            && self.physical != physical
        {
            handshake::physical(&mut self.link, physical, &mut self.guard, before)?;
            self.physical = physical;
        }
        Ok(())
    }

    pub(crate) fn forget_memory(&mut self) {
        self.pages.forget();
        if let Local::On(_, memory) = &self.local {
            memory.forget();
        }
    }

    pub(crate) fn resume(&mut self) -> Result<(), LinkError> {
        self.notice();
        if self.running || !self.let_run {
            return Ok(());
        }
        self.restore()?;
        // Nothing may be sent once it runs: any byte would stop it.
        self.link.flush()?;
        self.link.tell(if self.continues { b"vCont;c" } else { b"c" })?;
        self.running = true;
        self.guard.done();
        Ok(())
    }

    /// Puts back the stub's own settings.
    fn restore(&mut self) -> Result<(), LinkError> {
        match self.addresses {
            Addresses::Switched { before } => self.switch(before),
            Addresses::AsTheyAre => Ok(()),
        }
    }

    pub(crate) fn release(&mut self) -> Result<(), LinkError> {
        if self.released {
            return Ok(());
        }
        self.released = true;
        self.link.limit(None);
        self.step(Step::Releasing);
        if self.link.is_lost() {
            // The guardian tries what can be tried, and does not make anybody wait.
            self.guard.leave();
            return Err(self.link.silent(b"D"));
        }
        self.notice();
        if !self.running {
            let restored = self.restore();
            if self.let_run {
                self.let_go()?;
            } else {
                // A stub that hears no `D` leaves the guest as it is.
                self.link.flush()?;
            }
            restored?;
        }
        self.guard.done();
        self.step(Step::Released);
        Ok(())
    }

    /// `D`, in the form that the stub takes; else the guest is just let run.
    fn let_go(&mut self) -> Result<(), LinkError> {
        // A client before us may have agreed on several processes, which the stub remembers: then `D` wants a number.
        self.guard.leaving();
        for form in [b"D".as_slice(), b"D;1"] {
            let guard = &mut self.guard;
            let answer = self.link.ask_once(form, &mut |byte| {
                if byte == b'O' {
                    guard.done();
                }
            });
            if answer? == b"OK" {
                self.link.let_be();
                return Ok(());
            }
        }
        self.link.flush()?;
        self.link.tell(if self.continues { b"vCont;c" } else { b"c" })
    }

    /// The registers of a vCPU. A guest that runs is stopped for them, for those of all vCPUs at once.
    pub(crate) fn registers(
        &mut self,
        index: usize,
        threads: &[String],
        plan: &Plan,
    ) -> Result<Registers, &'static str> {
        if let Some(Some(registers)) = self.registers.get(index) {
            return Ok(registers.clone());
        }
        let thread = |index: usize| threads.get(index).map_or("", String::as_str);
        if !self.running || self.released {
            return self.read_registers(index, thread(index), plan);
        }
        let read = self.standing(|state| {
            state.read_all(threads, plan);
            match state.registers.get(index) {
                Some(Some(registers)) => Ok(registers.clone()),
                _ => state.read_registers(index, thread(index), plan),
            }
        });
        read.map_err(|_| "the guest could not be stopped for them, or not be set running again")?
    }

    /// Reads the registers of all vCPUs at once. Those that are not there then have to be asked for on their own.
    pub(crate) fn read_all(&mut self, threads: &[String], plan: &Plan) {
        let Ok(link) = self.held() else { return };
        if threads.iter().any(String::is_empty) {
            return;
        }
        let mut answers: Vec<Vec<u8>> = Vec::new();
        let asked = link.ask_all(
            threads.len() * 2,
            &mut |at, out| match threads.get(at / 2) {
                Some(thread) if at % 2 == 0 => out.extend([b"Hg", thread.as_bytes()].concat()),
                _ => out.extend_from_slice(b"g"),
            },
            &mut |at, answer| {
                answers.truncate(at);
                answers.push(answer);
                Ok(())
            },
        );
        if asked.is_err() {
            return;
        }
        for (slot, [selected, general]) in self.registers.iter_mut().zip(answers.as_chunks().0) {
            *slot = if selected == b"OK" { plan.in_general(general) } else { None };
        }
    }

    fn read_registers(&mut self, index: usize, thread: &str, plan: &Plan) -> Result<Registers, &'static str> {
        let link = self.held()?;
        if !thread.is_empty() {
            let selected =
                link.ask(format!("Hg{thread}").as_bytes()).map_err(|_| "the stub did not answer")?;
            if selected != b"OK" {
                return Err("the stub does not select it");
            }
        }
        let registers =
            plan.read(link).map_err(|_| "the stub's answer is not understood, or did not come")?;
        if let Some(slot) = self.registers.get_mut(index) {
            *slot = Some(registers.clone());
        }
        Ok(registers)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = self.release();
    }
}
