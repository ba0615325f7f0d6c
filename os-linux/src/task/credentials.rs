//! What a process may do: its users, groups and capabilities, as `/proc/PID/status` shows them.
//!
//! Source: `struct cred` in `include/linux/cred.h`; `task_state()`, `task_cap()` and `task_seccomp()` in `fs/proc/array.c`.

use alloc::vec::Vec;

use vmc::layout::Types;
use vmc::view::Credentials;
use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::task::Task;

impl Task<'_, '_> {
    /// Its credentials: by what others see it.
    pub(super) fn credentials(&self) -> Result<Credentials, LinuxError> {
        let linux = self.linux;
        let space = linux.space();
        let cred = self.pointer(linux.task()?.real_cred, "real_cred")?;
        let (real, fields) = (linux.cred()?, linux.cred_details()?);
        let read = LinuxError::read("cred");
        let id = |field: vmc::layout::Field<u32>| field.read(space, cred).map_err(&read);
        let capabilities = |field: vmc::layout::Field<u64>| field.read(space, cred).map_err(&read);
        Ok(Credentials {
            uid: id(real.uid)?,
            euid: id(fields.euid)?,
            suid: id(fields.suid)?,
            fsuid: id(fields.fsuid)?,
            gid: id(real.gid)?,
            egid: id(fields.egid)?,
            sgid: id(fields.sgid)?,
            fsgid: id(fields.fsgid)?,
            inheritable: capabilities(fields.inheritable)?,
            permitted: capabilities(fields.permitted)?,
            effective: capabilities(fields.effective)?,
            bounding: capabilities(fields.bounding)?,
            ambient: capabilities(fields.ambient)?,
            groups: linux.groups_at(fields.groups.pointer(space, cred).map_err(&read)?)?,
        })
    }
}

impl Linux<'_> {
    /// The groups in a `struct group_info`.
    fn groups_at(&self, info: VirtAddr) -> Result<Vec<u32>, LinuxError> {
        if info.is_null() {
            return Ok(Vec::new());
        }
        let read = LinuxError::read("supplementary groups");
        let count = self.group_info()?.count.read(self.space(), info).map_err(&read)? as usize;
        if count > self.limits().groups {
            let reason = "there are more than the limit";
            return Err(LinuxError::Broken { what: "supplementary groups", at: info, reason });
        }
        let first = info.wrapping_add(self.types().member("group_info", "gid")?.offset);
        let bytes = self.space().read_vec(first, count as u64 * 4, count * 4).map_err(&read)?;
        Ok(bytes.chunks_exact(4).filter_map(|gid| vmc::bytes::u32_at(gid, 0)).collect())
    }
}
