//! Tasks: what the kernel schedules. A process is its thread group leader; its threads hang on its `signal_struct`.

mod cgroup;
mod credentials;
mod details;
mod numbers;
mod process;
mod state;
mod thread;
mod together;
mod usage;

use alloc::string::String;

use vmc::text::lossless;
use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::lists::ListWalk;

/// `PF_KTHREAD` (`include/linux/sched.h`): a thread of the kernel, without a program.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// A task.
#[derive(Clone, Copy, Debug)]
pub struct Task<'k, 'm> {
    pub(crate) linux: &'k Linux<'m>,
    pub(crate) at: VirtAddr,
}

impl<'m> Linux<'m> {
    /// The processes, in the order of the kernel's list. An error is the last thing that comes.
    ///
    /// # Errors
    /// [`LinuxError`] where the list is not to be found.
    pub fn processes(&self) -> Result<impl Iterator<Item = Result<Task<'_, 'm>, LinuxError>>, LinuxError> {
        let first = self.need("init_task", self.known.init_task)?;
        let tasks = &self.task()?.tasks;
        let offset = tasks.address(VirtAddr::new(0)).get();
        let walk = ListWalk::new(self, "the task list", tasks.address(first), offset, self.limits().tasks);
        Ok(walk.map(move |at| at.map(|at| Task { linux: self, at })))
    }

    /// The process `pid`.
    ///
    /// # Errors
    /// [`LinuxError::NoProcess`] where there is none; the list's error where it ends before one is found.
    pub fn process(&self, pid: u32) -> Result<Task<'_, 'm>, LinuxError> {
        let mut count = 0;
        for task in self.processes()? {
            let task = task?;
            count += 1;
            if task.pid() == Ok(pid) {
                return Ok(task);
            }
        }
        Err(LinuxError::NoProcess { pid, count })
    }
}

impl<'k, 'm> Task<'k, 'm> {
    /// The address of its `task_struct`.
    #[must_use]
    pub const fn address(&self) -> VirtAddr {
        self.at
    }

    /// Its own number: a thread's.
    ///
    /// # Errors
    /// [`LinuxError`] where it cannot be read.
    pub fn tid(&self) -> Result<u32, LinuxError> {
        self.linux.task()?.pid.read(self.linux.space(), self.at).map_err(LinuxError::read("tid"))
    }

    /// Its process' number.
    ///
    /// # Errors
    /// [`LinuxError`] where it cannot be read.
    pub fn pid(&self) -> Result<u32, LinuxError> {
        self.linux.task()?.tgid.read(self.linux.space(), self.at).map_err(LinuxError::read("pid"))
    }

    /// Its short name, as the kernel keeps it: 15 bytes at most.
    ///
    /// # Errors
    /// [`LinuxError`] where it cannot be read.
    pub fn name(&self) -> Result<String, LinuxError> {
        let comm =
            self.linux.task()?.comm.read(self.linux.space(), self.at).map_err(LinuxError::read("name"))?;
        let end = memchr::memchr(0, &comm).unwrap_or(comm.len());
        Ok(lossless(comm.get(..end).unwrap_or_default()))
    }

    /// Is it a thread of the kernel?
    ///
    /// # Errors
    /// [`LinuxError`] where it cannot be read.
    pub fn is_kernel_thread(&self) -> Result<bool, LinuxError> {
        let flags =
            self.linux.task()?.flags.read(self.linux.space(), self.at).map_err(LinuxError::read("flags"))?;
        Ok(flags & KERNEL_THREAD != 0)
    }

    /// The address of its `mm_struct`; nothing for kernel threads and zombies.
    pub(crate) fn mm(&self) -> Result<Option<VirtAddr>, LinuxError> {
        let mm =
            self.linux.task()?.mm.pointer(self.linux.space(), self.at).map_err(LinuxError::read("mm"))?;
        Ok((!mm.is_null()).then_some(mm))
    }

    /// The threads of its process, the leader among them.
    ///
    /// # Errors
    /// [`LinuxError`] where the list is not to be found.
    pub fn threads(
        &self,
    ) -> Result<impl Iterator<Item = Result<Task<'k, 'm>, LinuxError>> + use<'k, 'm>, LinuxError> {
        let linux = self.linux;
        let fields = linux.task()?;
        let signal = fields.signal.pointer(linux.space(), self.at).map_err(LinuxError::read("signal"))?;
        let head = linux.signal()?.thread_head.address(signal);
        let offset = fields.thread_node.address(VirtAddr::new(0)).get();
        let walk = ListWalk::new(linux, "the thread list", head, offset, linux.limits().tasks);
        Ok(walk.map(move |at| at.map(|at| Task { linux, at })))
    }

    /// The value of a pointer field, null included.
    pub(crate) fn pointer(
        &self,
        field: vmc::layout::Field<u64>,
        what: &'static str,
    ) -> Result<VirtAddr, LinuxError> {
        self.linux.space().read_pointer(field.address(self.at)).map_err(LinuxError::read(what))
    }
}
