//! Physical memory, as a backend offers it.

use alloc::vec::Vec;

use crate::addr::PhysAddr;

/// A run of physical memory that a backend has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its first byte.
    pub start: PhysAddr,
    /// Its length in bytes.
    pub len: u64,
}

impl Region {
    /// The first address behind it; saturates at the end of the address space.
    #[must_use]
    pub const fn end(self) -> PhysAddr {
        PhysAddr::new(self.start.get().saturating_add(self.len))
    }

    /// Does `address` lie in it?
    #[must_use]
    pub const fn contains(self, address: PhysAddr) -> bool {
        address.get() >= self.start.get() && address.get().wrapping_sub(self.start.get()) < self.len
    }
}

/// Why physical memory could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhysError {
    /// The target has no memory there: a hole, a device, or beyond the end of RAM.
    #[error("physical {addr} (+{len} bytes) is not in the target's memory")]
    NoMemory {
        /// Where the read began.
        addr: PhysAddr,
        /// How many bytes were asked for.
        len: usize,
    },
    /// The target's description names this memory, but the image ends before it.
    #[error("physical {addr} (+{len} bytes) is cut off: the image ends before it")]
    CutOff {
        /// Where the read began.
        addr: PhysAddr,
        /// How many bytes were asked for.
        len: usize,
    },
    /// A live target did not give the bytes.
    #[error("physical {addr} could not be read: {reason}")]
    Failed {
        /// Where the read began.
        addr: PhysAddr,
        /// What the backend says.
        reason: &'static str,
    },
}

/// A guest's physical memory.
///
/// [`regions`](Self::regions) and [`read`](Self::read) have to be there; a backend that has memory mapped lends it by
/// [`slice`](Self::slice), and nothing is copied then.
pub trait PhysMemory: Sync {
    /// What there is, in ascending order, without overlap.
    fn regions(&self) -> &[Region];

    /// Fills `buf` from `addr` on.
    ///
    /// # Errors
    /// [`PhysError`] where any byte of it is not to be had; `buf` is then unspecified.
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError>;

    /// The `len` bytes at `addr`, lent, where the backend has them in one piece.
    fn slice(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        let _ = (addr, len);
        None
    }

    /// The bytes of all regions together.
    fn total(&self) -> u64 {
        self.regions().iter().fold(0, |sum, region| sum.saturating_add(region.len))
    }

    /// The little-endian 64-bit number at `addr`: what page-table walks are made of.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn read_u64(&self, addr: PhysAddr) -> Result<u64, PhysError> {
        let mut buf = [0; 8];
        self.read(addr, &mut buf)?;
        Ok(u64::from_le_bytes(buf))
    }
}

/// The `len` bytes at `addr`: lent by the backend, or else read into `buffer`. `len` is the caller's, never a guest's.
///
/// # Errors
/// As [`PhysMemory::read`].
pub fn lend_or_read<'a>(
    memory: &'a dyn PhysMemory,
    addr: PhysAddr,
    len: usize,
    buffer: &'a mut Vec<u8>,
) -> Result<&'a [u8], PhysError> {
    if let Some(lent) = memory.slice(addr, len) {
        return Ok(lent);
    }
    buffer.resize(len, 0);
    memory.read(addr, buffer)?;
    Ok(buffer)
}

/// Physical memory in a byte slice: for tests, examples and memory that was brought along by other means.
#[derive(Clone, Debug)]
pub struct FlatMemory<'a> {
    regions: Vec<Region>,
    bytes: &'a [u8],
}

impl<'a> FlatMemory<'a> {
    /// `bytes` as the memory that begins at `base`.
    #[must_use]
    pub fn new(base: PhysAddr, bytes: &'a [u8]) -> Self {
        Self { regions: Vec::from([Region { start: base, len: bytes.len() as u64 }]), bytes }
    }
}

impl PhysMemory for FlatMemory<'_> {
    fn regions(&self) -> &[Region] {
        &self.regions
    }

    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        let bytes = self.slice(addr, buf.len()).ok_or(PhysError::NoMemory { addr, len: buf.len() })?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn slice(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        let base = self.regions.first()?.start;
        let start = usize::try_from(addr.offset_from(base)?).ok()?;
        self.bytes.get(start..start.checked_add(len)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_end_with_the_memory() {
        let memory = FlatMemory::new(PhysAddr::new(0x1000), &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(memory.read_u64(PhysAddr::new(0x1001)), Ok(0x0908_0706_0504_0302));
        for outside in [0, 0xfff, 0x1002, u64::MAX] {
            let addr = PhysAddr::new(outside);
            assert_eq!(memory.read_u64(addr), Err(PhysError::NoMemory { addr, len: 8 }));
        }
    }

    #[test]
    fn regions_know_their_ends() {
        let region = Region { start: PhysAddr::new(0x1000), len: 0x1000 };
        assert!(region.contains(PhysAddr::new(0x1fff)) && !region.contains(PhysAddr::new(0x2000)));
        assert!(!region.contains(PhysAddr::new(0xfff)));
        let high = Region { start: PhysAddr::new(u64::MAX), len: 8 };
        assert_eq!(high.end().get(), u64::MAX);
    }
}
