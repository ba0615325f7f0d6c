//! [`AddressSpace`]: virtual memory by page tables over physical memory.

use crate::addr::{PAGE_SIZE, PhysAddr, VirtAddr};
use crate::arch::{PageTables, TranslateError, Walk};
use crate::memory::PhysMemory;
use crate::tlb::Tlb;
use crate::virt::{Fault, ReadError, VirtualMemory};

/// Places of the TLB of an address space made by [`AddressSpace::new`].
pub const DEFAULT_TLB_ENTRIES: usize = 1024;

/// What one page table root maps.
///
/// It is `Sync`: threads share its TLB.
#[derive(Debug)]
pub struct AddressSpace<'m> {
    memory: Memory<'m>,
    tables: PageTables,
    tlb: Tlb,
}

/// A reference to physical memory, with a `Debug` that does not print it.
#[derive(Clone, Copy)]
struct Memory<'m>(&'m dyn PhysMemory);

impl core::fmt::Debug for Memory<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} regions of physical memory", self.0.regions().len())
    }
}

impl<'m> AddressSpace<'m> {
    /// What `tables` map in `memory`.
    #[must_use]
    pub fn new(memory: &'m dyn PhysMemory, tables: PageTables) -> Self {
        Self::with_tlb(memory, tables, DEFAULT_TLB_ENTRIES)
    }

    /// The same, with a TLB of `entries` places: a small one for an address space that is looked at briefly.
    #[must_use]
    pub fn with_tlb(memory: &'m dyn PhysMemory, tables: PageTables, entries: usize) -> Self {
        Self { memory: Memory(memory), tables, tlb: Tlb::new(entries) }
    }

    /// The page tables.
    #[must_use]
    pub const fn tables(&self) -> &PageTables {
        &self.tables
    }

    /// The physical memory below.
    #[must_use]
    pub const fn memory(&self) -> &'m dyn PhysMemory {
        self.memory.0
    }

    /// Where `va` lies in physical memory.
    ///
    /// # Errors
    /// [`TranslateError`]: the level and entry at which the walk ended.
    pub fn translate(&self, va: VirtAddr) -> Result<PhysAddr, TranslateError> {
        if let Some(physical) = self.tlb.get(va) {
            return Ok(physical);
        }
        let physical = self.walk(va)?.physical;
        self.tlb.put(va, physical);
        Ok(physical)
    }

    /// The whole walk to `va`, past the TLB.
    ///
    /// # Errors
    /// [`TranslateError`]: the level and entry at which the walk ended.
    pub fn walk(&self, va: VirtAddr) -> Result<Walk, TranslateError> {
        self.tables.walk(self.memory.0, va)
    }

    /// Forgets cached translations: for a live guest that ran on in between.
    pub fn forget(&self) {
        self.tlb.clear();
    }

    /// The `len` bytes at `va`, lent, where they lie in one piece in physical memory and the backend lends it.
    #[must_use]
    pub fn slice(&self, va: VirtAddr, len: usize) -> Option<&'m [u8]> {
        let first = self.translate(va).ok()?;
        let last = va.checked_add(len.saturating_sub(1) as u64)?;
        let mut page = va.align_down(PAGE_SIZE).checked_add(PAGE_SIZE)?;
        while page <= last {
            let expected = first.checked_add(page.offset_from(va)?)?;
            if self.translate(page).ok()? != expected {
                return None;
            }
            page = page.checked_add(PAGE_SIZE)?;
        }
        self.memory.0.slice(first, len)
    }

    /// As many of `len` bytes at `va` as lie in one piece in physical memory, lent; empty where the backend lends none.
    #[must_use]
    pub fn contiguous(&self, va: VirtAddr, len: usize) -> &'m [u8] {
        let Ok(first) = self.translate(va) else { return &[] };
        let mut end = (PAGE_SIZE - va.offset_in(PAGE_SIZE)) as usize;
        while end < len {
            let (Some(page), Some(expected)) = (va.checked_add(end as u64), first.checked_add(end as u64))
            else {
                break;
            };
            if self.translate(page) != Ok(expected) || self.memory.0.slice(expected, 1).is_none() {
                break;
            }
            end += PAGE_SIZE as usize;
        }
        self.memory.0.slice(first, end.min(len)).unwrap_or_default()
    }

    fn read_in_page(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), Fault> {
        let physical = self.translate(addr)?;
        if let Some(bytes) = self.memory.0.slice(physical, buf.len()) {
            buf.copy_from_slice(bytes);
            return Ok(());
        }
        Ok(self.memory.0.read(physical, buf)?)
    }
}

impl VirtualMemory for AddressSpace<'_> {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        by_pages(addr, buf, |at, part| self.read_in_page(at, part))
    }
}

/// Reads `buf` page by page with `read_in_page`, which never gets more than one page holds.
///
/// # Errors
/// The first page that could not be read, and how many bytes were read before it.
pub fn by_pages(
    addr: VirtAddr,
    buf: &mut [u8],
    mut read_in_page: impl FnMut(VirtAddr, &mut [u8]) -> Result<(), Fault>,
) -> Result<(), ReadError> {
    let mut rest = buf;
    let mut done = 0usize;
    let mut at = addr;
    loop {
        let in_page = ((PAGE_SIZE - at.offset_in(PAGE_SIZE)) as usize).min(rest.len());
        let Some((part, behind)) = rest.split_at_mut_checked(in_page) else { return Ok(()) };
        read_in_page(at, part).map_err(|fault| ReadError { addr: at, done, fault })?;
        if behind.is_empty() {
            return Ok(());
        }
        done += in_page;
        rest = behind;
        at = at.checked_add(in_page as u64).ok_or(ReadError { addr: at, done, fault: Fault::Overflow })?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::x86_64::{Levels, X86PageTables};
    use crate::memory::FlatMemory;
    use crate::virt::ReadExt;
    use alloc::vec;
    use alloc::vec::Vec;

    /// Two virtual pages, 0x0 and 0x1000, at physical 0x6000 and 0x5000; 0x2000 is not present.
    fn ram() -> Vec<u8> {
        let mut ram = vec![0u8; 0x7000];
        for (at, entry) in
            [(0x1000, 0x2003u64), (0x2000, 0x3003), (0x3000, 0x4003), (0x4000, 0x6003), (0x4008, 0x5003)]
        {
            ram[at..at + 8].copy_from_slice(&entry.to_le_bytes());
        }
        ram[0x6ffc..0x7000].copy_from_slice(&[1, 2, 3, 4]);
        ram[0x5000..0x5004].copy_from_slice(&[5, 6, 7, 8]);
        ram[0x5ffd..0x6000].copy_from_slice(b"end");
        ram
    }

    fn space<'m>(memory: &'m FlatMemory<'m>) -> AddressSpace<'m> {
        AddressSpace::new(memory, PageTables::X86_64(X86PageTables::new(PhysAddr::new(0x1000), Levels::Four)))
    }

    #[test]
    fn reads_cross_pages_that_lie_apart() {
        let ram = ram();
        let memory = FlatMemory::new(PhysAddr::new(0), &ram);
        let space = space(&memory);
        assert_eq!(space.read_u64(VirtAddr::new(0xffc)), Ok(0x0807_0605_0403_0201));
        assert_eq!(space.slice(VirtAddr::new(0xffc), 8), None);
        assert_eq!(space.slice(VirtAddr::new(0x1000), 4), Some(&[5, 6, 7, 8][..]));
    }

    #[test]
    fn what_can_be_read_is_read_and_the_rest_explained() {
        let ram = ram();
        let memory = FlatMemory::new(PhysAddr::new(0), &ram);
        let space = space(&memory);
        let (bytes, error) = space.read_part(VirtAddr::new(0x1ffd), 100);
        assert_eq!(bytes, b"end");
        let error = error.unwrap();
        assert_eq!((error.addr, error.done), (VirtAddr::new(0x2000), 3));
        assert!(matches!(error.fault, Fault::Translate(TranslateError::NotPresent { level: 1, .. })));
        // A string without its NUL, at the end of what is there.
        assert!(space.read_cstr(VirtAddr::new(0x1ffd), 64).is_err());
        assert_eq!(space.read_cstr(VirtAddr::new(0x1ffd), 3).unwrap(), b"end");
    }

    #[test]
    fn the_end_of_the_address_space_is_an_error() {
        let ram = ram();
        let memory = FlatMemory::new(PhysAddr::new(0), &ram);
        let error = by_pages(VirtAddr::new(u64::MAX - 1), &mut [0; 8], |_, _| Ok(())).unwrap_err();
        assert_eq!((error.done, error.fault), (2, Fault::Overflow));
        assert!(space(&memory).read_u64(VirtAddr::new(u64::MAX)).is_err());
    }

    #[test]
    fn lengths_are_held_against_their_limit() {
        let ram = ram();
        let memory = FlatMemory::new(PhysAddr::new(0), &ram);
        let error = space(&memory).read_vec(VirtAddr::new(0), 1 << 60, 4096).unwrap_err();
        assert_eq!(error.fault, Fault::Limit { asked: 1 << 60, limit: 4096 });
    }
}
