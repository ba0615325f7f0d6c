//! Pages of files out of the page cache: what was read from a file lies in memory whether or not a process maps it.
//!
//! Source: `include/linux/xarray.h`, `include/linux/pagemap.h`. `address_space.i_pages` is an xarray: entries whose low two bits
//! are `10` lead to a node or, with a small number, to a sibling slot; those with bit 0 are values (the page is swapped out or
//! was evicted); the others are pages. A large folio stands in the first of its slots and knows its own index.

use vmc::{Fault, PhysAddr, VirtAddr, VirtualMemory};

use crate::error::LinuxError;
use crate::kernel::Linux;

/// The largest folio is 1 GiB.
pub(super) const LARGEST_FOLIO: u64 = 1 << 18;

/// A file, as the page cache has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CachedFile<'k, 'm> {
    pub(super) linux: &'k Linux<'m>,
    /// Its `address_space`.
    pub(super) mapping: VirtAddr,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Its inode.
    pub(crate) inode: VirtAddr,
}

impl<'k, 'm> CachedFile<'k, 'm> {
    /// The file that the `struct file` at `file` is open on.
    pub(crate) fn of(linux: &'k Linux<'m>, file: VirtAddr) -> Result<Self, LinuxError> {
        let space = linux.space();
        let inode = linux.file()?.inode.pointer(space, file).map_err(LinuxError::read("f_inode"))?;
        Self::of_inode(linux, inode)
    }

    /// The file that the `struct inode` at `inode` is.
    pub(crate) fn of_inode(linux: &'k Linux<'m>, inode: VirtAddr) -> Result<Self, LinuxError> {
        let space = linux.space();
        let fields = linux.inode()?;
        let read = LinuxError::read("an inode");
        let mapping = fields.mapping.pointer(space, inode).map_err(&read)?;
        let size = fields.size.read(space, inode).map_err(&read)?;
        Ok(Self { linux, mapping, size, inode })
    }

    /// Where page number `index` of the file lies, if the cache has it.
    pub(crate) fn page(&self, index: u64) -> Result<PhysAddr, Fault> {
        let gone = Fault::NotResident { page: index };
        let lookup = |reason| move |_| Fault::Lookup { reason };
        let no_types = |_| Fault::Lookup { reason: "the kernel's types do not describe the page cache" };
        let space = self.linux.space();
        let nodes = self.linux.xa_node().map_err(no_types)?;
        let head = self.linux.page_cache().map_err(no_types)?.head;
        let mut entry =
            head.read(space, self.mapping).map_err(lookup("the page cache's tree cannot be read"))?;
        let mut last_shift = 64;
        while let Some(node) = nodes.node(entry) {
            let unreadable = lookup("a node of the page cache's tree cannot be read");
            let shift = u32::from(nodes.shift.read(space, node).map_err(unreadable)?);
            // Each level covers some bits less than the one above.
            if shift >= last_shift || shift > 60 {
                return Err(Fault::Lookup { reason: "the page cache's tree is damaged" });
            }
            let covered = shift + nodes.bits;
            if last_shift == 64 && covered < 64 && index >> covered != 0 {
                return Err(gone);
            }
            last_shift = shift;
            let slots = node.wrapping_add(nodes.slots);
            let at = |slot: u64| space.read_u64(slots.wrapping_add(slot * 8)).map_err(unreadable);
            entry = at((index >> shift) & ((1 << nodes.bits) - 1))?;
            // A sibling names the slot that its large folio stands in.
            if let Some(slot) = nodes.sibling(node, entry) {
                entry = at(slot)?;
            }
        }
        // Nothing, or a value that says where the page went; a head that is no node stands for page 0 alone.
        if entry == 0 || entry & 3 != 0 || (last_shift == 64 && index != 0) {
            return Err(gone);
        }
        self.frame_of(VirtAddr::new(entry), index)
    }

    /// Where page `index` lies, given its folio's `struct page`.
    pub(super) fn frame_of(&self, page: VirtAddr, index: u64) -> Result<PhysAddr, Fault> {
        let damaged = Fault::Lookup { reason: "the page cache holds what is no page" };
        let linux = self.linux;
        let first = linux.page().ok().and_then(|fields| fields.index.read(linux.space(), page).ok());
        let into = first.and_then(|first| index.checked_sub(first)).filter(|into| *into < LARGEST_FOLIO);
        let at = into.zip(linux.page_at(page));
        at.and_then(|(into, at)| at.checked_add(into * linux.page_size())).ok_or(damaged)
    }

    /// Fills `buf` from `offset` in the file on; `buf` must not cross a page.
    pub(crate) fn read_in_page(&self, offset: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let size = self.linux.page_size();
        let page = self.page(offset / size)?;
        Ok(self.linux.memory().read(page.wrapping_add(offset % size), buf)?)
    }

    /// Fills `buf` from `offset` in the file on; `missing` is called with each range of `buf` that is not
    /// resident and stays as it was.
    pub(crate) fn read_with_holes(
        &self,
        offset: u64,
        buf: &mut [u8],
        mut missing: impl FnMut(core::ops::Range<usize>),
    ) {
        let (mut done, size) = (0, self.linux.page_size());
        while done < buf.len() {
            let at = offset.saturating_add(done as u64);
            let step = ((size - at % size) as usize).min(buf.len() - done);
            if let Some(part) = buf.get_mut(done..done + step)
                && self.read_in_page(at, part).is_err()
            {
                missing(done..done + step);
            }
            done += step;
        }
    }
}
