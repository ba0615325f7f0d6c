//! Control groups, as `/proc/PID/cgroup` shows them.
//!
//! Source: `struct css_set` in `include/linux/cgroup-defs.h`, `kernfs_path_from_node()` in `fs/kernfs/dir.c`.

use alloc::vec::Vec;

use vmc::layout::Types;
use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::task::Task;

/// Controllers of a kernel: `CGROUP_SUBSYS_COUNT` is below 16.
const CONTROLLERS: u64 = 32;

impl Task<'_, '_> {
    /// The path of its control group: of the unified hierarchy or, where that has it at its root, the longest among those of
    /// the controllers of the older kind. Nothing where the kernel has no control groups.
    pub(crate) fn control_group(&self) -> Result<Option<Vec<u8>>, LinuxError> {
        let linux = self.linux;
        let space = linux.space();
        let Some(field) = linux.task_details()?.control_groups else { return Ok(None) };
        let set = self.pointer(field, "cgroups")?;
        if set.is_null() {
            return Ok(None);
        }
        let read = LinuxError::read("a set of control groups");
        let unified = linux.css_set()?.unified.pointer(space, set).map_err(&read)?;
        let mut path =
            if unified.is_null() { Vec::from(*b"/") } else { linux.control_group_path(unified)? };
        if path.len() > 1 {
            return Ok(Some(path));
        }
        let controllers = linux.types().member("css_set", "subsys")?;
        for index in 0..(controllers.size / 8).min(CONTROLLERS) {
            let state = set.wrapping_add(controllers.offset + index * 8);
            let state = space.read_pointer(state).map_err(&read)?;
            if state.is_null() {
                continue;
            }
            let group = linux.controller()?.cgroup.pointer(space, state).map_err(&read)?;
            if !group.is_null() && group != unified {
                let other = linux.control_group_path(group)?;
                if other.len() > path.len() {
                    path = other;
                }
            }
        }
        Ok(Some(path))
    }
}

impl Linux<'_> {
    /// The path of the `struct cgroup` at `group`.
    fn control_group_path(&self, group: VirtAddr) -> Result<Vec<u8>, LinuxError> {
        const WHAT: &str = "the path of a control group";
        let (space, limits, read) = (self.space(), self.limits(), LinuxError::read(WHAT));
        let fields = self.kernfs_node()?;
        let mut at = self.cgroup()?.node.pointer(space, group).map_err(&read)?;
        let mut names: Vec<Vec<u8>> = Vec::new();
        while !at.is_null() {
            let parent = fields.parent.pointer(space, at).map_err(&read)?;
            // The root has a name of no meaning.
            if parent.is_null() {
                break;
            }
            if names.len() >= limits.path_components
                || names.iter().map(Vec::len).sum::<usize>() > limits.path_bytes
            {
                let reason = "it is longer than the limit, or leads in a circle";
                return Err(LinuxError::Broken { what: WHAT, at, reason });
            }
            let name = fields.name.pointer(space, at).map_err(&read)?;
            names.push(space.read_cstr(name, limits.string_bytes).map_err(&read)?);
            at = parent;
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        Ok(path)
    }
}
