//! What is done over the connection while a guest is looked at: stop, resume, registers.

use std::os::fd::AsFd;
use std::time::Duration;

use vmc::{LiveError, Registers, VcpuError};
use vmc_process::orphan::{Orphan, Question};

use crate::connection::Connection;
use crate::error::CommandError;
use crate::hmp::{self, MonitorError};
use crate::message::{Done, Nothing};
use crate::note;

/// The state of a machine that was stopped by us, and that may go on; of others it may not be known whose they are by now: one that
/// has moved to another host would run twice.
const PAUSED: &str = "paused";
/// What is asked for us when we are killed. A line that we had sent half of is ended by a byte that no JSON has, after which QEMU's
/// parser begins anew.
const QUESTION: Question<'_> = Question {
    bytes: b"\xff\n{\"execute\": \"query-status\", \"id\": \"vmc-guardian-asks\"}\n",
    mark: b"\"vmc-guardian-asks\"",
    needs: b"\"paused\"",
};
/// And sent where it is paused.
const LAST_WORDS: &[u8] = b"{\"execute\": \"cont\", \"id\": \"vmc-guardian\"}\n";
/// What is in the answer to that, and in no other.
const ANSWER: &[u8] = b"\"vmc-guardian\"";

/// A connection, and what we hold by it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: Connection,
    /// The address of a page that the guest has.
    page: u64,
    /// How long stopping and resuming may take.
    stop_timeout: Duration,
    /// Have we stopped the guest?
    held: bool,
    /// May a stop come about that we gave up, and is it not known yet that it was taken back?
    owed: bool,
    /// Who lets it go when we are killed.
    orphan: Option<Orphan>,
    /// The vCPUs' registers, once they were read.
    vcpus: Option<Vec<Registers>>,
    /// Were they completed by a dump's notes?
    noted: bool,
    /// What went wrong with registers last.
    pub(crate) problem: Option<String>,
}

impl Link {
    pub(crate) const fn new(connection: Connection, page: u64, stop_timeout: Duration) -> Self {
        Self {
            connection,
            page,
            stop_timeout,
            held: false,
            owed: false,
            orphan: None,
            vcpus: None,
            noted: false,
            problem: None,
        }
    }

    /// Holds the vCPUs; false where they were held already. Those of a guest that somebody else has paused are not ours to hold.
    pub(crate) fn stop(&mut self) -> Result<bool, LiveError> {
        if self.held {
            return Ok(false);
        }
        if self.is_running().map_err(live(|reason| LiveError::Stop { reason }))? {
            self.arm().map_err(|error| LiveError::Stop {
                reason: format!(
                    "no process could be made that would resume it if this one were killed: {error}"
                ),
            })?;
            let stopped = self.connection.execute_within::<_, Done>("stop", Nothing {}, self.stop_timeout);
            if let Err(error) = stopped {
                self.take_back(&error);
                return Err(live(|reason| LiveError::Stop { reason })(error));
            }
            self.held = true;
        }
        self.vcpus = None;
        Ok(true)
    }

    /// A stop that failed may still come about: it is taken back as soon as QEMU answers. Whoever is armed stays so until then.
    fn take_back(&mut self, why: &CommandError) {
        if matches!(why, CommandError::Refused { .. }) {
            self.disarm();
        } else {
            self.owed = true;
        }
    }

    /// Lets go what `stop` held.
    pub(crate) fn resume(&mut self) -> Result<(), LiveError> {
        if !self.held {
            return Ok(());
        }
        let resumed = |reason| LiveError::Resume { reason };
        let status = self.connection.status().map_err(live(resumed))?;
        if status.status == PAUSED {
            self.cont().map_err(live(resumed))?;
        }
        self.held = false;
        self.disarm();
        if status.running || status.status == PAUSED {
            return Ok(());
        }
        let state = hmp::excerpt(&status.status);
        Err(resumed(format!("it is not paused any more as we left it, but in state `{state}`")))
    }

    fn cont(&mut self) -> Result<(), CommandError> {
        self.connection.execute_within::<_, Done>("cont", Nothing {}, self.stop_timeout).map(drop)
    }

    pub(crate) fn running(&mut self) -> bool {
        !self.held && self.is_running().unwrap_or(false)
    }

    /// Do the vCPUs stand still, by us or by somebody else?
    pub(crate) fn stands_still(&mut self) -> bool {
        self.held || !self.is_running().unwrap_or(true)
    }

    /// What QEMU says of it.
    fn is_running(&mut self) -> Result<bool, CommandError> {
        let mut status = self.connection.status()?;
        // Commands are done in their order: a stop that was sent before this has been done.
        if self.owed {
            if status.status == PAUSED {
                self.cont()?;
                status = self.connection.status()?;
            }
            self.owed = false;
            self.disarm();
        }
        Ok(status.running)
    }

    /// Forgets the registers, unless the guest is held: they are what they are then.
    pub(crate) fn forget(&mut self) {
        if !self.held {
            self.vcpus = None;
        }
    }

    /// In words for people.
    pub(crate) const fn how(&self) -> &'static str {
        if self.noted { "info registers and a dump's notes" } else { "info registers" }
    }

    /// The registers of one of `count` vCPUs.
    pub(crate) fn registers(&mut self, index: usize, count: usize) -> Result<Registers, VcpuError> {
        if self.vcpus.is_none() {
            let read = self.read_registers();
            self.vcpus = Some(read.map_err(|error| {
                self.problem = Some(format!("registers: {error}"));
                let reason = match error {
                    MonitorError::Live(_) => "QEMU is gone, or does not answer",
                    MonitorError::Refused { .. } => "QEMU does not take `info registers -a`",
                    _ => "what QEMU's monitor says of them is not understood",
                };
                VcpuError::Failed { index, reason }
            })?);
        }
        let vcpus = self.vcpus.as_deref().unwrap_or_default();
        vcpus.get(index).cloned().ok_or(VcpuError::NoSuchVcpu { index, count: count.min(vcpus.len()) })
    }

    fn read_registers(&mut self) -> Result<Vec<Registers>, MonitorError> {
        let told = hmp::registers(&mut self.connection)?;
        let mut vcpus: Vec<_> = told.into_iter().map(|vcpu| vcpu.registers).collect();
        self.noted = false;
        let lacks = vcpus.iter().any(lacks_kernel_gs);
        // A guest that runs would be stopped by the dump.
        if lacks && self.connection.socket().is_unix() && self.stands_still() {
            match note::ask(&mut self.connection, self.page) {
                Ok(notes) => self.noted = complete(&mut vcpus, &notes),
                Err(error) => self.problem = Some(format!("the kernel's GS base is not known: {error}")),
            }
        }
        Ok(vcpus)
    }

    fn arm(&mut self) -> std::io::Result<()> {
        if let Some(orphan) = &self.orphan
            && orphan.arm_asking(QUESTION, LAST_WORDS, ANSWER).is_ok()
        {
            return Ok(());
        }
        // The first stop, or the process was ended by somebody.
        let orphan = Orphan::spawn(self.connection.as_fd())?;
        orphan.arm_asking(QUESTION, LAST_WORDS, ANSWER)?;
        self.orphan = Some(orphan);
        Ok(())
    }

    fn disarm(&mut self) {
        // One that is gone says nothing either.
        if self.orphan.as_ref().is_some_and(|orphan| orphan.disarm().is_err()) {
            self.orphan = None;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Where this fails, the process that is armed tries once more.
        let _ = self.resume();
        if self.owed {
            let _ = self.is_running();
        }
    }
}

/// Does a vCPU's GS base not lead to the kernel's?
fn lacks_kernel_gs(registers: &Registers) -> bool {
    match registers {
        Registers::X86_64(x86) => x86.gs_base >> 63 == 0 && x86.kernel_gs_base.is_none(),
        _ => false,
    }
}

/// Adds what the notes tell, if they are of the same moment.
fn complete(vcpus: &mut [Registers], notes: &[note::Note]) -> bool {
    let same = vcpus.len() == notes.len()
        && vcpus.iter().zip(notes).all(|(vcpu, note)| match vcpu {
            Registers::X86_64(x86) => (x86.rip, x86.cr3) == (note.rip, note.cr3),
            _ => false,
        });
    for (vcpu, note) in vcpus.iter_mut().zip(notes).filter(|_| same) {
        if let Registers::X86_64(x86) = vcpu {
            x86.kernel_gs_base = Some(note.kernel_gs_base);
        }
    }
    same
}

/// A command's error as that of a live guest; what is not of the connection is put by `other`.
fn live(other: impl Fn(String) -> LiveError) -> impl Fn(CommandError) -> LiveError {
    move |error| match error {
        CommandError::Live(live) => live,
        error => other(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
