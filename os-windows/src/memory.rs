//! [`ProcessMemory`]: a process' memory, pages that the processor would fault on included, as far as memory has them.

use core::fmt;

use vmc::arch::x86_64::{Levels, X86PageTables};
use vmc::space::by_pages;
use vmc::tlb::Tlb;
use vmc::{AddressSpace, Fault, PageTables, PhysAddr, ReadError, VirtAddr, VirtualMemory};

use crate::error::WindowsError;
use crate::process::Process;
use crate::vad::VadTree;
use crate::windows::Windows;

mod paging_file;
pub(crate) mod pte;
pub(crate) mod resolve;

use paging_file::in_store;
use resolve::Resolver;

/// Places of a process' TLB.
const TLB_ENTRIES: usize = 512;

/// Where a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// In physical memory.
    Physical(PhysAddr),
    /// Nowhere yet: it is all zeros and is made when it is first touched.
    Zero,
}

impl Page {
    /// Fills `part`, which does not pass the page's end.
    pub(crate) fn read(self, memory: &dyn vmc::PhysMemory, part: &mut [u8]) -> Result<(), Fault> {
        match self {
            Self::Zero => part.fill(0),
            Self::Physical(physical) => match memory.slice(physical, part.len()) {
                Some(bytes) => part.copy_from_slice(bytes),
                None => memory.read(physical, part)?,
            },
        }
        Ok(())
    }
}

/// The memory that a process sees: its own half by its page tables and, where those say that a page is not present, by what
/// the memory manager left in them and by the process' VADs; the kernel's half too.
pub struct ProcessMemory<'w, 'm> {
    windows: &'w Windows<'m>,
    space: AddressSpace<'m>,
    vads: Option<VadTree<'w, 'm>>,
    /// Pages that the page tables call not present and that are in memory.
    found: Tlb,
}

impl fmt::Debug for ProcessMemory<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessMemory").field("space", &self.space).finish_non_exhaustive()
    }
}

impl<'w, 'm> ProcessMemory<'w, 'm> {
    /// The memory of the process whose page table root is `root` (bits below a page are ignored: PCID) and whose
    /// object is `eprocess`. Where the VADs are not to be had, the page tables alone decide.
    ///
    /// # Errors
    /// [`WindowsError::OnlyRanges`] of a triage dump.
    pub fn new(windows: &'w Windows<'m>, root: PhysAddr, eprocess: VirtAddr) -> Result<Self, WindowsError> {
        let Some(kernel) = windows.kernel().tables() else {
            return Err(WindowsError::OnlyRanges { what: "the memory of processes" });
        };
        let tables = match kernel.tables() {
            PageTables::X86_64(tables) => tables.with_root(root),
            _ => X86PageTables::new(root, Levels::Four),
        };
        let space = AddressSpace::with_tlb(kernel.memory(), PageTables::X86_64(tables), TLB_ENTRIES);
        let vads = VadTree::new(windows, eprocess).ok();
        Ok(Self { windows, space, vads, found: Tlb::new(TLB_ENTRIES) })
    }

    /// What the page tables alone say.
    #[must_use]
    pub const fn space(&self) -> &AddressSpace<'m> {
        &self.space
    }

    /// Where the page of `va` is, with the offset in it.
    ///
    /// # Errors
    /// [`Fault`]: why it is not in memory.
    pub fn page(&self, va: VirtAddr) -> Result<Page, Fault> {
        if let Some(physical) = self.found.get(va) {
            return Ok(Page::Physical(physical));
        }
        let resolver = Resolver { space: &self.space, format: self.windows.kernel().format() };
        let ask = |va: VirtAddr| self.by_vad(va);
        let user = va.get() >> 63 == 0;
        let page = match resolver.page(va, if user { Some(&ask) } else { None }) {
            Err(Fault::PageFile { number, page }) if in_store(self.windows, number) => {
                Err(Fault::Compressed { number, page })
            }
            other => other,
        }?;
        if let Page::Physical(physical) = page {
            self.found.put(va, physical);
        }
        Ok(page)
    }

    /// What the VAD of `va` says of a page that the page tables say nothing of.
    fn by_vad(&self, va: VirtAddr) -> Result<Page, Fault> {
        let vads = self.vads.as_ref();
        let vads = vads.ok_or(Fault::Lookup { reason: "the tree of the process' VADs is not to be had" })?;
        let vad = vads.find(va)?.ok_or(Fault::NotMapped)?;
        if vad.private {
            return if vad.committed { Ok(Page::Zero) } else { Err(Fault::NotCommitted) };
        }
        let prototype = vads.prototype(&vad, va)?;
        Resolver { space: &self.space, format: self.windows.kernel().format() }.prototype(prototype, va)
    }

    /// Forgets cached translations: for a live guest that ran on in between.
    pub fn forget(&self) {
        self.space.forget();
        self.found.clear();
    }
}

impl<'w> Process<'w> {
    /// Its memory.
    ///
    /// # Errors
    /// [`WindowsError`] where it has no page tables, or the target is a triage dump.
    pub fn memory(&self) -> Result<ProcessMemory<'w, 'w>, WindowsError> {
        let root = self.page_table()?;
        if root.is_null() {
            return Err(WindowsError::NoAddressSpace { pid: self.pid(), reason: "its page table root is 0" });
        }
        ProcessMemory::new(self.windows(), root, self.object())
    }
}

impl VirtualMemory for ProcessMemory<'_, '_> {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        by_pages(addr, buf, |at, part| self.page(at)?.read(self.space.memory(), part))
    }
}
