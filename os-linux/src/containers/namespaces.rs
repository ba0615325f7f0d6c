//! The namespaces of a task, as `/proc/PID/ns` shows them.
//!
//! Source: `include/linux/nsproxy.h`, `fs/proc/namespaces.c`; the PID namespace is that of the task's pid, the user namespace
//! that of its credentials.

use alloc::vec::Vec;

use vmc::VirtAddr;
use vmc::layout::Field;

use crate::error::LinuxError;
use crate::task::Task;

/// Namespaces by kind, with their numbers.
pub(super) type Namespaces = Vec<(&'static str, u32)>;

impl Task<'_, '_> {
    /// The numbers of its namespaces, by their kinds; of the dead, those of pid and user alone.
    pub(super) fn namespaces(&self) -> Result<Namespaces, LinuxError> {
        let linux = self.linux;
        let space = linux.space();
        let read = LinuxError::read("a namespace");
        let mut found = Vec::new();
        let proxy = self.pointer(linux.task_files()?.namespaces, "nsproxy")?;
        let fields = linux.ns_proxy()?;
        let kinds = [
            ("mnt", fields.mount, "mnt_namespace"),
            ("uts", fields.uts, "uts_namespace"),
            ("ipc", fields.ipc, "ipc_namespace"),
            ("net", fields.net, "net"),
            ("cgroup", fields.cgroup, "cgroup_namespace"),
            ("time", fields.time, "time_namespace"),
        ];
        for (kind, field, structure) in kinds.into_iter().filter(|_| !proxy.is_null()) {
            let Some(at) = field.map(|field| field.pointer(space, proxy).map_err(&read)).transpose()? else {
                continue;
            };
            // A kind that the kernel was built without.
            let Ok(number) = Field::<u32>::new(linux.types(), structure, "ns.inum") else { continue };
            if !at.is_null() {
                found.push((kind, number.read(space, at).map_err(&read)?));
            }
        }
        if let (_, Some(at)) = self.numbers()? {
            found.push(("pid", linux.pid_namespace()?.number.read(space, at).map_err(&read)?));
        }
        let cred = self.pointer(linux.task()?.real_cred, "real_cred")?;
        let user = linux.cred_namespace()?.user.pointer(space, cred).map_err(&read)?;
        if let Ok(number) = Field::<u32>::new(linux.types(), "user_namespace", "ns.inum") {
            found.push(("user", number.read(space, user).map_err(&read)?));
        }
        Ok(found)
    }

    /// Its UTS namespace.
    pub(super) fn uts_namespace(&self) -> Result<Option<VirtAddr>, LinuxError> {
        let proxy = self.pointer(self.linux.task_files()?.namespaces, "nsproxy")?;
        let Some(field) = self.linux.ns_proxy()?.uts.filter(|_| !proxy.is_null()) else { return Ok(None) };
        let at = field.pointer(self.linux.space(), proxy).map_err(LinuxError::read("uts_ns"))?;
        Ok((!at.is_null()).then_some(at))
    }
}
