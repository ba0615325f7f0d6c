//! The kernel's data by what it has to look like.
//!
//! kallsyms of kernels built without CONFIG_KALLSYMS_ALL (Debian's for arm64) name functions only. What is known of a variable
//! then are its type, by BTF, and that it lies in the kernel's image: that is where each is looked for, and only there, so
//! that no copy elsewhere in memory is mistaken for it. Each candidate has to hold by several independent marks: pointers back
//! to itself, values that contradict each other nowhere.

mod clock;
mod code;
mod image;
mod init_task;
mod modules;
mod protocols;
mod type_bounds;

pub(crate) use image::KernelImage;
pub(crate) use init_task::find_init_task;
pub(crate) use type_bounds::find_types;

use vmc::VirtAddr;

use crate::error::LinuxError;
use crate::lazy::Lazy;

/// What was found by content, each when it was first needed.
#[derive(Debug, Default)]
pub(crate) struct FoundData {
    pub(crate) timekeeper: Lazy<Option<VirtAddr>, LinuxError>,
    pub(crate) vmemmap: Lazy<Option<VirtAddr>, LinuxError>,
    pub(crate) modules: Lazy<Option<VirtAddr>, LinuxError>,
    pub(crate) module_types: Lazy<Option<VirtAddr>, LinuxError>,
    pub(crate) stack_size: Lazy<u64, LinuxError>,
    pub(crate) tcp: Lazy<Option<VirtAddr>, LinuxError>,
    pub(crate) udp: Lazy<Option<VirtAddr>, LinuxError>,
    pub(crate) taints: Lazy<Option<VirtAddr>, LinuxError>,
}

impl FoundData {
    /// Forgets what was not found: a guest that ran while it was looked for may have been in the midst of a change.
    pub(crate) fn forget_failures(&mut self) {
        let Self { timekeeper, vmemmap, modules, module_types, stack_size, tcp, udp, taints } = self;
        for found in [timekeeper, vmemmap, modules, module_types, tcp, udp, taints] {
            found.forget_if(Option::is_none);
        }
        stack_size.forget_if(|_| false);
    }
}
