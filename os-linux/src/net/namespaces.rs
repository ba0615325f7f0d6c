//! Network namespaces (`struct net` in `include/net/net_namespace.h`).

use alloc::vec::Vec;

use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::lists::ListWalk;
use crate::task::Task;

impl Linux<'_> {
    /// The network namespaces, and why they are not all. Where the kernel's list is not to be found, those of its processes.
    pub(super) fn net_namespaces(&self) -> Result<(Vec<VirtAddr>, Option<LinuxError>), LinuxError> {
        let head = match self.known.net_namespace_list {
            Some(head) => Some(head),
            None => self.net_namespace_list()?,
        };
        let Some(head) = head else { return self.namespaces_of_tasks() };
        let offset = self.net()?.list.address(VirtAddr::new(0)).get();
        let mut found = Vec::new();
        for at in ListWalk::new(self, "the network namespaces", head, offset, self.limits().namespaces) {
            match at {
                Ok(at) => found.push(at),
                Err(why) => return Ok((found, Some(why))),
            }
        }
        Ok((found, None))
    }

    /// The list's head, which lies before the first namespace, the first task's.
    fn net_namespace_list(&self) -> Result<Option<VirtAddr>, LinuxError> {
        let Some(at) = self.known.init_task else { return Ok(None) };
        let Some(first) = (Task { linux: self, at }).net_namespace()? else { return Ok(None) };
        let read = LinuxError::read("the network namespaces");
        let head =
            self.space().read_pointer(self.net()?.list.address(first).wrapping_add(8)).map_err(&read)?;
        Ok(Some(head).filter(|head| self.image().contains(*head)))
    }

    fn namespaces_of_tasks(&self) -> Result<(Vec<VirtAddr>, Option<LinuxError>), LinuxError> {
        let mut found = Vec::new();
        let mut seen = hashbrown::HashSet::new();
        for task in self.processes()? {
            match task.and_then(|task| task.net_namespace()) {
                Ok(Some(at)) if seen.len() < self.limits().namespaces && seen.insert(at) => found.push(at),
                Ok(_) => {}
                Err(why) => return Ok((found, Some(why))),
            }
        }
        Ok((found, None))
    }

    /// The number of a network namespace, as `readlink /proc/PID/ns/net` shows it.
    pub(super) fn net_namespace_number(&self, net: VirtAddr) -> Result<u32, LinuxError> {
        self.net()?.number.read(self.space(), net).map_err(LinuxError::read("a network namespace"))
    }
}

impl Task<'_, '_> {
    fn net_namespace(&self) -> Result<Option<VirtAddr>, LinuxError> {
        let namespaces = self.pointer(self.linux.task_files()?.namespaces, "nsproxy")?;
        if namespaces.is_null() {
            return Ok(None);
        }
        let net = self.linux.namespaces()?.net.pointer(self.linux.space(), namespaces);
        net.map(Some).map_err(LinuxError::read("nsproxy"))
    }
}
