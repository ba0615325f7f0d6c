//! A process' memory: its areas, what they are called, and its bytes, also those that its page tables lack.

mod areas;
mod cache_walk;
mod command_line;
mod environment;
mod maple;
mod memory;
mod owners;
mod page_cache;
mod pte;
mod rows;
mod vmemmap;

pub(crate) use areas::Area;
pub(crate) use cache_walk::{CacheEntry, CacheWalk};
pub use memory::AddressSpaceOf;
pub use owners::PageOwners;
pub(crate) use page_cache::CachedFile;

use crate::error::LinuxError;
use crate::task::Task;

impl<'k, 'm> Task<'k, 'm> {
    /// The memory of its process.
    ///
    /// # Errors
    /// [`LinuxError::NoAddressSpace`] for kernel threads and zombies.
    pub fn memory(&self) -> Result<AddressSpaceOf<'k, 'm>, LinuxError> {
        match self.mm()? {
            Some(_) if self.is_kernel_thread()? => self.without_memory("a kernel thread"),
            Some(mm) => AddressSpaceOf::new(self.linux, mm),
            None if self.is_kernel_thread()? => self.without_memory("a kernel thread"),
            None => self.without_memory("dead, its memory is already gone"),
        }
    }

    fn without_memory(&self, what: &'static str) -> Result<AddressSpaceOf<'k, 'm>, LinuxError> {
        Err(LinuxError::NoAddressSpace { pid: self.pid()?, what })
    }
}
