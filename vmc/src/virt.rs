//! Virtual memory: what every way of reading it has in common.
//!
//! [`VirtualMemory`] is what an address space, or an OS' view of a process' memory, implements; [`ReadExt`] gives values,
//! strings and slices on top of any of them.

use alloc::vec;
use alloc::vec::Vec;

use bytemuck::Pod;

use crate::addr::{PAGE_SIZE, VirtAddr};
use crate::arch::TranslateError;
use crate::memory::PhysError;

/// Why a byte of virtual memory is not to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The page tables do not lead to it.
    #[error(transparent)]
    Translate(#[from] TranslateError),
    /// The page tables lead to memory that the target does not have.
    #[error(transparent)]
    Physical(#[from] PhysError),
    /// The process has no mapping there.
    #[error("not mapped")]
    NotMapped,
    /// The page is swapped out.
    #[error("swapped out (type {kind}, offset {offset:#x})")]
    Swapped {
        /// The number of the swap device.
        kind: u8,
        /// The page's number on it.
        offset: u64,
    },
    /// The page is in a paging file of Windows.
    #[error("pagefile {number} page {page:#x}")]
    PageFile {
        /// The paging file's number.
        number: u64,
        /// The page's number in it.
        page: u64,
    },
    /// The page is in Windows' store of compressed pages, which has the number of a paging file.
    #[error("compressed: pagefile {number} page {page:#x} is the store of compressed pages")]
    Compressed {
        /// The store's number among the paging files.
        number: u64,
        /// The page's number in it.
        page: u64,
    },
    /// The page is of a range that is set aside, and has no memory.
    #[error("reserved, not committed")]
    NotCommitted,
    /// The page is in its file, and not in memory: a prototype entry says so.
    #[error("in its file, not in memory (prototype entry at {prototype})")]
    InFile {
        /// Where the entry lies in the kernel's memory; null where there is none.
        prototype: VirtAddr,
    },
    /// A page of a file that neither the page tables nor the page cache have.
    #[error("not resident: page {page} of the mapped file is not in the page cache")]
    NotResident {
        /// The page's number in the file.
        page: u64,
    },
    /// The page is being moved, or is poisoned, or belongs to a device.
    #[error("not in memory: {reason}")]
    Special {
        /// What the entry says.
        reason: &'static str,
    },
    /// A structure that leads to the page could not be read or is contradictory.
    #[error("{reason}")]
    Lookup {
        /// What was wrong.
        reason: &'static str,
    },
    /// The address range passes the end of the address space.
    #[error("the range passes the end of the address space")]
    Overflow,
    /// The range is longer than the limit for what was read.
    #[error("{asked} bytes are more than the limit of {limit}")]
    Limit {
        /// How many were asked for.
        asked: u64,
        /// How many are allowed.
        limit: u64,
    },
}

/// A read that failed: where, after how many bytes, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{addr}: {fault}")]
pub struct ReadError {
    /// The first byte that could not be read.
    pub addr: VirtAddr,
    /// How many bytes before it were read.
    pub done: usize,
    /// Why.
    #[source]
    pub fault: Fault,
}

impl ReadError {
    /// A failure at `addr`, with nothing read.
    #[must_use]
    pub fn new(addr: VirtAddr, fault: impl Into<Fault>) -> Self {
        Self { addr, done: 0, fault: fault.into() }
    }
}

/// Memory that is addressed virtually.
pub trait VirtualMemory: Sync {
    /// Fills `buf` from `addr` on.
    ///
    /// # Errors
    /// [`ReadError`]: the first byte that is not to be had and why; what comes before it is in `buf`.
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError>;

    /// The little-endian 64-bit number at `addr`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn read_u64(&self, addr: VirtAddr) -> Result<u64, ReadError> {
        let mut buf = [0; 8];
        self.read(addr, &mut buf)?;
        Ok(u64::from_le_bytes(buf))
    }
}

impl<M: VirtualMemory + ?Sized> VirtualMemory for &M {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        (**self).read(addr, buf)
    }

    fn read_u64(&self, addr: VirtAddr) -> Result<u64, ReadError> {
        (**self).read_u64(addr)
    }
}

/// Values, strings and slices out of virtual memory.
pub trait ReadExt: VirtualMemory {
    /// A value of plain data; the guest's byte order is the host's (little-endian).
    ///
    /// # Errors
    /// As [`VirtualMemory::read`].
    fn read_value<T: Pod>(&self, addr: VirtAddr) -> Result<T, ReadError> {
        let mut value = T::zeroed();
        self.read(addr, bytemuck::bytes_of_mut(&mut value))?;
        Ok(value)
    }

    /// A pointer.
    ///
    /// # Errors
    /// As [`VirtualMemory::read`].
    fn read_pointer(&self, addr: VirtAddr) -> Result<VirtAddr, ReadError> {
        self.read_u64(addr).map(VirtAddr::new)
    }

    /// `len` bytes, at most `limit`: no allocation goes by what a guest says.
    ///
    /// # Errors
    /// As [`VirtualMemory::read`], or [`Fault::Limit`].
    fn read_vec(&self, addr: VirtAddr, len: u64, limit: usize) -> Result<Vec<u8>, ReadError> {
        let allowed = usize::try_from(len).ok().filter(|len| *len <= limit);
        let len =
            allowed.ok_or_else(|| ReadError::new(addr, Fault::Limit { asked: len, limit: limit as u64 }))?;
        let mut bytes = vec![0; len];
        self.read(addr, &mut bytes)?;
        Ok(bytes)
    }

    /// As much of `len` bytes as can be read, and why no more.
    fn read_part(&self, addr: VirtAddr, len: usize) -> (Vec<u8>, Option<ReadError>) {
        let mut bytes = vec![0; len];
        match self.read(addr, &mut bytes) {
            Ok(()) => (bytes, None),
            Err(error) => {
                bytes.truncate(error.done);
                (bytes, Some(error))
            }
        }
    }

    /// The string that ends with a NUL within `limit` bytes, without the NUL. A longer one is cut at `limit`.
    ///
    /// # Errors
    /// As [`VirtualMemory::read`], where a page is met before the NUL that cannot be read.
    fn read_cstr(&self, addr: VirtAddr, limit: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        let mut at = addr;
        while bytes.len() < limit {
            // Never past the page: the string may end on the last byte that can be read.
            let in_page = (PAGE_SIZE - at.offset_in(PAGE_SIZE)) as usize;
            let mut chunk = [0u8; 64];
            let take = in_page.min(chunk.len()).min(limit - bytes.len());
            let chunk = chunk.get_mut(..take).unwrap_or_default();
            self.read(at, chunk)?;
            if let Some(end) = memchr::memchr(0, chunk) {
                bytes.extend_from_slice(chunk.get(..end).unwrap_or_default());
                return Ok(bytes);
            }
            bytes.extend_from_slice(chunk);
            at = at.checked_add(take as u64).ok_or_else(|| ReadError::new(at, Fault::Overflow))?;
        }
        Ok(bytes)
    }
}

impl<M: VirtualMemory + ?Sized> ReadExt for M {}
