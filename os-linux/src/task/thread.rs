//! A thread as a row.

use vmc::view::{RowErrors, Thread};

use crate::kernel::Linux;
use crate::task::Task;

impl<'m> Linux<'m> {
    /// The tasks that run on vCPUs whose registers the target has. Those of idle CPUs, all with the number 0, are on no
    /// list of processes: only here an interrupt that came in on one is to be seen.
    pub fn running(&self) -> impl Iterator<Item = Task<'_, 'm>> {
        self.cpus().running().map(|at| Task { linux: self, at })
    }
}

impl Task<'_, '_> {
    /// The thread as a row; what cannot be read is absent, and the row says why.
    #[must_use]
    pub fn thread_row(&self) -> Thread {
        let limits = self.linux.limits();
        let space = self.linux.space();
        let mut errors = RowErrors::default();
        let fields = self.linux.task().ok();
        let tid = errors.keep(limits, "tid", self.tid()).unwrap_or_default();
        let pid = errors.keep(limits, "pid", self.pid()).unwrap_or_default();
        let name = errors.keep(limits, "name", self.name()).unwrap_or_default();
        let state = errors.keep(limits, "state", self.state());
        let cpu = fields.and_then(|f| f.cpu).and_then(|f| errors.keep(limits, "cpu", f.read(space, self.at)));
        Thread { tid, pid, name, state, cpu, on_cpu: self.on_cpu(), object: self.at, errors }
    }

    /// Is it on a CPU right now? A kernel for one CPU does not keep that; what runs there is the current task.
    #[must_use]
    pub fn on_cpu(&self) -> bool {
        let field = self.linux.task().ok().and_then(|fields| fields.on_cpu);
        let flag = field.and_then(|field| field.read(self.linux.space(), self.at).ok());
        match flag {
            Some(flag) => flag != 0,
            None => self.linux.cpus().vcpu_of(self.at).is_some(),
        }
    }
}
