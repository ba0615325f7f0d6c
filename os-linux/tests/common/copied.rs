//! The sample guest as live backends have it: memory that is copied, never lent.

use std::sync::atomic::{AtomicU64, Ordering};

use vmc::{PhysAddr, PhysError, PhysMemory, Region};

/// Memory that lends nothing, and counts how it is asked.
pub(crate) struct Copied<'m> {
    memory: &'m dyn PhysMemory,
    reads: AtomicU64,
    bytes: AtomicU64,
}

impl<'m> Copied<'m> {
    pub(crate) fn new(memory: &'m dyn PhysMemory) -> Self {
        Self { memory, reads: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    /// How many reads and bytes there were since this was asked last.
    pub(crate) fn asked(&self) -> (u64, u64) {
        (self.reads.swap(0, Ordering::Relaxed), self.bytes.swap(0, Ordering::Relaxed))
    }
}

impl PhysMemory for Copied<'_> {
    fn regions(&self) -> &[Region] {
        self.memory.regions()
    }

    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.memory.read(addr, buf)
    }
}
