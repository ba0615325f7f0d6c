//! A process' numbers: one in each PID namespace that it is seen from.
//!
//! Source: `struct pid` and `struct upid` in `include/linux/pid.h`; `task_active_pid_ns()` in `kernel/pid.c`.

use alloc::vec::Vec;

use vmc::layout::Types;
use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::task::Task;

/// `MAX_PID_NS_LEVEL`.
const LEVELS: u32 = 32;

impl Task<'_, '_> {
    /// Its own number in each PID namespace, the outermost first, and its PID namespace. Nothing for the dead and for idle
    /// tasks, which have none.
    pub(crate) fn numbers(&self) -> Result<(Vec<u32>, Option<VirtAddr>), LinuxError> {
        let space = self.linux.space();
        let pid = self.thread_pid()?;
        if pid.is_null() {
            return Ok((Vec::new(), None));
        }
        let read = LinuxError::read("a pid");
        let level = self.linux.pid()?.level.read(space, pid).map_err(&read)?;
        if level > LEVELS {
            return Err(LinuxError::Broken { what: "a pid", at: pid, reason: "its level is too high" });
        }
        let types = self.linux.types();
        let (first, size) = (types.member("pid", "numbers")?.offset, types.size_of("upid")?);
        let (number, namespace) = (types.member("upid", "nr")?.offset, types.member("upid", "ns")?.offset);
        let entry = |level: u32| pid.wrapping_add(first + u64::from(level) * size);
        let numbers = (0..=level)
            .map(|level| space.read_value(entry(level).wrapping_add(number)).map_err(&read))
            .collect::<Result<Vec<u32>, _>>()?;
        let namespace = space.read_pointer(entry(level).wrapping_add(namespace)).map_err(&read)?;
        Ok((numbers, Some(namespace)))
    }

    /// Its `struct pid`; null for the dead and for idle tasks. Until 4.19 it stood in an array, first.
    fn thread_pid(&self) -> Result<VirtAddr, LinuxError> {
        if let Some(field) = self.linux.task_fs()?.thread_pid {
            return self.pointer(field, "thread_pid");
        }
        let types = self.linux.types();
        let offset = types.member("task_struct", "pids")?.offset + types.member("pid_link", "pid")?.offset;
        self.linux.space().read_pointer(self.at.wrapping_add(offset)).map_err(LinuxError::read("pids"))
    }

    /// The PID namespace at a level, of those that it is seen from: 0 is the outermost.
    pub(crate) fn namespace_at(&self, level: u32) -> Result<VirtAddr, LinuxError> {
        let pid = self.thread_pid()?;
        let types = self.linux.types();
        let entry = types.member("pid", "numbers")?.offset + u64::from(level) * types.size_of("upid")?;
        let namespace = entry + types.member("upid", "ns")?.offset;
        self.linux.space().read_pointer(pid.wrapping_add(namespace)).map_err(LinuxError::read("a pid"))
    }

    /// Its process' number as the process itself knows it.
    pub(crate) fn number_in_namespace(&self) -> Result<u32, LinuxError> {
        let leader = self.pointer(self.linux.task_fs()?.group_leader, "group_leader")?;
        let (numbers, _) = Task { linux: self.linux, at: leader }.numbers()?;
        numbers.last().copied().ok_or(LinuxError::Gone { pid: self.pid()?, what: "number" })
    }
}

impl Linux<'_> {
    /// The number that the outermost PID namespace knows the `struct pid` at `pid` by.
    pub(super) fn outermost_number(&self, pid: VirtAddr) -> Result<u32, LinuxError> {
        let types = self.types();
        let number = types.member("pid", "numbers")?.offset + types.member("upid", "nr")?.offset;
        self.space().read_value(pid.wrapping_add(number)).map_err(LinuxError::read("a pid"))
    }
}
