//! `init_task`, the first task, by its name and by what points back to it.
//!
//! Source: `init/init_task.c`: its name is `swapper` or `swapper/0`, its number 0; it is its own parent and its own group's leader.

use vmc::layout::Types;
use vmc::{AddressSpace, ReadExt, VirtAddr};

use crate::data::KernelImage;
use crate::fields::{FieldGroup, TaskFields, TaskFsFields};

/// What its name begins with.
const NAME: &[u8] = b"swapper";
/// How `task_struct`s are aligned: at least as pointers are.
const ALIGNMENT: u64 = 8;

/// Where the first task lies.
pub(crate) fn find_init_task(
    space: &AddressSpace<'_>,
    image: &KernelImage,
    types: &impl Types,
) -> Option<VirtAddr> {
    let (task, more) = (TaskFields::resolve(types).ok()?, TaskFsFields::resolve(types).ok()?);
    let name_at = task.comm.address(VirtAddr::new(0)).get();
    let list_at = task.tasks.address(VirtAddr::new(0)).get();
    image.find_bytes(space, NAME, |place| {
        let at = place.checked_sub(name_at)?;
        let points_at_itself = |field: vmc::layout::Field<u64>| field.pointer(space, at) == Ok(at);
        let name = task.comm.read(space, at).ok()?;
        let rest = name.get(NAME.len()..)?;
        let named = rest.starts_with(b"\0") || rest.starts_with(b"/0\0");
        let numbered = task.pid.read(space, at) == Ok(0) && task.tgid.read(space, at) == Ok(0);
        let first = named && numbered && at.is_aligned(ALIGNMENT);
        if !first || !points_at_itself(more.group_leader) || !points_at_itself(task.real_parent) {
            return None;
        }
        // Its neighbours on the list of tasks lead back.
        let links = at.wrapping_add(list_at);
        let next = space.read_pointer(links).ok()?;
        let before = space.read_pointer(links.wrapping_add(8)).ok()?;
        let back = space.read_pointer(next.wrapping_add(8)) == Ok(links);
        (back && space.read_pointer(before) == Ok(links)).then_some(at)
    })
}
