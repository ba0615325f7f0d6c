//! Memory for unit tests.

use alloc::vec::Vec;

use vmc::{Fault, ReadError, VirtAddr, VirtualMemory};

/// Bytes from an address on; nothing elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Bytes {
    base: u64,
    bytes: Vec<u8>,
}

impl Bytes {
    pub(crate) fn new(base: u64, bytes: &[u8]) -> Self {
        Self { base, bytes: bytes.to_vec() }
    }
}

impl VirtualMemory for Bytes {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        for (done, (offset, byte)) in (0u64..).zip(buf).enumerate() {
            let at = addr.get().wrapping_add(offset);
            let found = self.bytes.get(at.wrapping_sub(self.base) as usize);
            let missing = ReadError { done, ..ReadError::new(VirtAddr::new(at), Fault::NotMapped) };
            *byte = *found.ok_or(missing)?;
        }
        Ok(())
    }
}

/// Words from an address on; nothing elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    base: u64,
    bytes: Vec<u8>,
}

impl Words {
    pub(crate) fn new(base: u64, words: &[u64]) -> Self {
        Self { base, bytes: words.iter().flat_map(|word| word.to_le_bytes()).collect() }
    }
}

impl VirtualMemory for Words {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        let start = addr.get().wrapping_sub(self.base) as usize;
        let bytes = start.checked_add(buf.len()).and_then(|end| self.bytes.get(start..end));
        buf.copy_from_slice(bytes.ok_or_else(|| ReadError::new(addr, Fault::NotMapped))?);
        Ok(())
    }
}
