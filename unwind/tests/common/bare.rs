//! Code and a stack: what walks through code without tables are tested on.

use vmc::{Fault, ReadError, VirtAddr, VirtualMemory};

pub(crate) const CODE: u64 = 0x7f00_0000_0000;
pub(crate) const STACK: u64 = 0x7ffc_0000_0000;

/// Code from `CODE` on, a stack from `STACK` on.
pub(crate) struct Memory {
    pub(crate) code: Vec<u8>,
    pub(crate) stack: Vec<u64>,
}

impl VirtualMemory for Memory {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        for (done, byte) in buf.iter_mut().enumerate() {
            let at = addr.get().wrapping_add(done as u64);
            let in_stack = at.wrapping_sub(STACK);
            let word = self.stack.get((in_stack / 8) as usize);
            let found = match self.code.get(at.wrapping_sub(CODE) as usize) {
                Some(byte) => Some(*byte),
                None => word.map(|word| word.to_le_bytes()[(in_stack % 8) as usize]),
            };
            let missing = ReadError { done, ..ReadError::new(VirtAddr::new(at), Fault::NotMapped) };
            *byte = found.ok_or(missing)?;
        }
        Ok(())
    }
}
