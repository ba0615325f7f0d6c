//! [`UserMemory`]: what a process itself can see of its memory.

use vmc::{Fault, ReadError, VirtAddr, VirtualMemory};

use super::Process;
use crate::error::WindowsError;
use crate::memory::ProcessMemory;

/// The first address that is the kernel's: user addresses of x64 end at 2^47.
const USER_END: u64 = 1 << 47;

/// A process' memory, its own half of the addresses only: no pointer out of the process leads into the kernel.
pub(crate) struct UserMemory<V>(V);

impl<V: VirtualMemory> UserMemory<V> {
    pub(crate) const fn new(memory: V) -> Self {
        Self(memory)
    }
}

impl<V: VirtualMemory> VirtualMemory for UserMemory<V> {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        match addr.checked_add(buf.len() as u64) {
            Some(end) if end.get() <= USER_END => self.0.read(addr, buf),
            _ => Err(ReadError::new(addr, Fault::Lookup { reason: "not an address of user mode" })),
        }
    }
}

/// Is it an address that user mode can have?
pub(crate) const fn is_user(address: VirtAddr) -> bool {
    !address.is_null() && address.get() < USER_END
}

impl<'w> Process<'w> {
    /// Its user memory. The one place where it is made.
    pub(crate) fn user_memory(&self) -> Result<UserMemory<ProcessMemory<'w, 'w>>, WindowsError> {
        self.memory().map(UserMemory::new)
    }
}
