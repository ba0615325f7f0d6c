//! [`AddressSpaceOf`]: a process' memory, with what its page tables lack taken from where the kernel has it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use once_cell::race::OnceBox;
use vmc::arch::aarch64::{Aarch64PageTables, Half};
use vmc::space::by_pages;
use vmc::{AddressSpace, Fault, PageTables, PhysAddr, ReadError, TranslateError, VirtAddr, VirtualMemory};

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::mm::areas::{Area, areas};
use crate::mm::page_cache::CachedFile;
use crate::mm::pte::{Absent, absent};

/// Places of a process' TLB: its stack and a few pages of code and data.
const TLB_ENTRIES: usize = 256;

/// The memory of a process.
///
/// Reading it goes through its page tables; where they have no page, a file's page is looked for in the page cache, an
/// anonymous page that was never touched is zero, and a swapped one is said to be swapped.
pub struct AddressSpaceOf<'k, 'm> {
    pub(crate) linux: &'k Linux<'m>,
    pub(crate) mm: VirtAddr,
    space: AddressSpace<'m>,
    areas: OnceBox<Areas>,
}

/// The areas, and why they are not all.
type Areas = (Vec<Area>, Option<LinuxError>);

impl fmt::Debug for AddressSpaceOf<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory of the process with mm_struct {}", self.mm)
    }
}

impl<'k, 'm> AddressSpaceOf<'k, 'm> {
    /// The memory that the `mm_struct` at `mm` describes.
    pub(crate) fn new(linux: &'k Linux<'m>, mm: VirtAddr) -> Result<Self, LinuxError> {
        let pgd = linux.mm()?.pgd.pointer(linux.space(), mm).map_err(LinuxError::read("pgd"))?;
        let root = linux.space().translate(pgd).map_err(|why| LinuxError::Read {
            what: "the page table root",
            source: ReadError::new(pgd, why),
        })?;
        let tables = match linux.tables() {
            PageTables::X86_64(kernel) => PageTables::X86_64(kernel.with_root(root)),
            PageTables::Aarch64(kernel) => PageTables::Aarch64(user_tables(kernel, root)),
            other => *other,
        };
        let space = AddressSpace::with_tlb(linux.memory(), tables, TLB_ENTRIES);
        Ok(Self { linux, mm, space, areas: OnceBox::new() })
    }

    /// The physical address of its page table root.
    #[must_use]
    pub fn page_table_root(&self) -> PhysAddr {
        self.space.tables().root()
    }

    /// What its page tables alone say.
    #[must_use]
    pub const fn tables(&self) -> &AddressSpace<'m> {
        &self.space
    }

    /// Its areas, ascending, and why they are not all, where they are not.
    pub(crate) fn areas(&self) -> &Areas {
        self.areas.get_or_init(|| {
            Box::new(areas(self.linux, self.mm).unwrap_or_else(|why| (Vec::new(), Some(why))))
        })
    }

    /// The area that `address` lies in.
    pub(crate) fn area_at(&self, address: VirtAddr) -> Option<&Area> {
        let areas = &self.areas().0;
        let behind = areas.partition_point(|area| area.start <= address);
        areas.get(behind.checked_sub(1)?).filter(|area| area.contains(address))
    }

    fn read_in_page(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), Fault> {
        let physical = match self.space.translate(addr) {
            Ok(physical) => physical,
            Err(TranslateError::NotPresent { level, entry, .. }) => {
                match absent(self.space.tables(), level, entry) {
                    Absent::Empty => return self.read_unmapped(addr, buf),
                    Absent::Page(base) => {
                        base.wrapping_add(addr.offset_in(self.space.tables().entry_span(level)))
                    }
                    Absent::Gone(fault) => return Err(fault),
                }
            }
            Err(why) => return Err(why.into()),
        };
        Ok(self.linux.memory().read(physical, buf)?)
    }

    /// A page that the page tables know nothing of.
    fn read_unmapped(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), Fault> {
        let Some(area) = self.area_at(addr) else { return Err(Fault::NotMapped) };
        if !area.has_file() {
            if !area.operations.is_null() {
                return Err(Fault::Special {
                    reason: "a page of a special mapping that was not touched yet",
                });
            }
            buf.fill(0);
            return Ok(());
        }
        let damaged = |_| Fault::Lookup { reason: "the mapped file's inode cannot be read" };
        let file = CachedFile::of(self.linux, area.file).map_err(damaged)?;
        let offset = area.file_offset(addr).ok_or(Fault::Overflow)?;
        file.read_in_page(offset, buf)
    }
}

/// A process' half beside the kernel's: Linux gives both the same size.
fn user_tables(kernel: &Aarch64PageTables, root: PhysAddr) -> Aarch64PageTables {
    let bits = kernel.upper().map_or(48, |half| half.bits);
    kernel.with_lower(Half { root, bits })
}

impl VirtualMemory for AddressSpaceOf<'_, '_> {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        by_pages(addr, buf, |at, part| self.read_in_page(at, part))
    }
}
