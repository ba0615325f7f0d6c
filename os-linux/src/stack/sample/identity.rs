//! Which thread is on a vCPU, and what tells it and its process' mappings from others at the same place.

use vmc::Registers;
use vmc::layout::Field;

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::task::Task;

/// What the mappings of a process are known by: two that are not equal are of different programs or mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Mark([u64; 6]);

impl<'m> Linux<'m> {
    /// The thread that runs on the vCPU `index` with these registers, and the CPU's number; of registers of now, whatever the
    /// target's were when the guest was opened.
    #[must_use]
    pub fn now_on(&self, index: usize, registers: &Registers) -> Option<(u32, Task<'_, 'm>)> {
        let (cpu, at) = self.cpus().now_on(self, index, registers)?;
        (at.get() >> 63 == 1).then_some((cpu, Task { linux: self, at }))
    }
}

impl<'k, 'm> Task<'k, 'm> {
    /// The thread that its process began with, whose name is the process'.
    ///
    /// # Errors
    /// [`LinuxError`] where it cannot be told.
    pub fn leader(&self) -> Result<Self, LinuxError> {
        let at = self.pointer(self.linux.task_fs()?.group_leader, "group_leader")?;
        Ok(Self { linux: self.linux, at })
    }

    /// When it was started, in nanoseconds since the guest's boot: tells it from others that have had its number or its place.
    ///
    /// # Errors
    /// [`LinuxError`] where it cannot be read.
    pub fn started(&self) -> Result<u64, LinuxError> {
        let field = self.linux.task()?.start_boottime;
        field.read(self.linux.space(), self.at).map_err(LinuxError::read("start_time"))
    }

    /// What its process' mappings are known by; nothing for kernel threads.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        let mm = self.mm().ok()??;
        let fields = self.linux.mm().ok()?;
        let space = self.linux.space();
        let read = |field: Option<Field<u64>>| {
            field.and_then(|field| field.read(space, mm).ok()).unwrap_or_default()
        };
        let sequence = fields.lock_sequence.and_then(|field| field.read(space, mm).ok()).unwrap_or_default();
        Some(Mark([
            read(Some(fields.exe_file)),
            read(Some(fields.arg_start)),
            read(fields.executable_pages),
            read(fields.start_code),
            read(fields.mmap_base),
            u64::from(sequence),
        ]))
    }
}
