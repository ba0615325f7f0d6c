//! The kernel by its debugger data (`KDDEBUGGER_DATA64`, wdbgexts.h), where its header is not in memory: the last resort.

use alloc::vec::Vec;

use memchr::memmem;
use vmc::bytes::{u32_at, u64_at};
use vmc::{AddressSpace, VirtAddr};

use super::image::{kernel_at, lists_kernel};
use super::roots::chunks;
use super::{Found, Kernel, Search};

/// OwnerTag. Kernels of 8 and later keep the block encoded unless a debugger is attached.
const TAG: &[u8] = b"KDBG";

impl<'m> Search<'m, '_> {
    /// Searches memory for the block, and believes one whose lists are there under a root under which the shared data lay.
    pub(super) fn by_debugger_data(&self) -> Option<Found<'m>> {
        let roots = self.scanned.iter();
        let spaces: Vec<_> = roots.map(|(root, levels)| self.space(*root, *levels)).collect();
        if spaces.is_empty() {
            return None;
        }
        let mut left = self.limits.kernel_candidates;
        let (index, kernel) = chunks(self.memory, |_, chunk| {
            for place in memmem::find_iter(chunk, TAG) {
                left = left.checked_sub(1)?;
                let found = spaces
                    .iter()
                    .enumerate()
                    .find_map(|(index, space)| Some((index, kernel_of(space, chunk.get(place..)?)?)));
                if found.is_some() {
                    return found;
                }
            }
            None
        })?;
        let space = spaces.into_iter().nth(index)?;
        Some(Found { space, kernel })
    }
}

/// The kernel that a block tells of, from its OwnerTag (0x10) on: Size (0x14), KernBase (0x18), PsLoadedModuleList (0x48),
/// PsActiveProcessHead (0x50).
fn kernel_of(space: &AddressSpace<'_>, block: &[u8]) -> Option<Kernel> {
    if !(0x100..0x1000).contains(&u32_at(block, 4)?) {
        return None;
    }
    let pointer = |offset| u64_at(block, offset).map(VirtAddr::new);
    let (base, modules, processes) = (pointer(8)?, pointer(0x38)?, pointer(0x40)?);
    if !lists_kernel(space, modules, base) {
        return None;
    }
    let known = kernel_at(space, base).unwrap_or_else(|| Kernel { base, ..Kernel::default() });
    Some(Kernel { loaded_module_list: Some(modules), active_process_head: Some(processes), ..known })
}
