//! What the page cache has of a file, in the file's order: only what is there is touched, so that a file of many holes costs
//! no more than its pages.
//!
//! Source: `include/linux/xarray.h` (see [`super::page_cache`]), `enum pageflags` in `include/linux/page-flags.h`.

use alloc::vec::Vec;

use vmc::bytes::u64_at;
use vmc::{PhysAddr, ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::mm::CachedFile;
use crate::mm::page_cache::LARGEST_FOLIO;

/// Where `PG_uptodate` has been: bit 2 from 5.0 to 6.11, bit 3 before and since.
const UPTODATE: [u64; 2] = [1 << 2, 1 << 3];
/// The low bits of `page.mapping` tell other things than the mapping.
const MAPPING_FLAGS: u64 = 3;

/// What the cache has for some pages in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheEntry {
    /// The number of the first page in the file.
    pub(crate) first: u64,
    /// How many pages it stands for.
    pub(crate) count: u64,
    /// A `struct page`, or a value (an odd number): where the page went.
    pub(crate) entry: u64,
}

impl CacheEntry {
    /// Is it a note on pages that are not there?
    pub(crate) const fn is_value(&self) -> bool {
        self.entry & 1 != 0
    }
}

/// A node on the way down.
#[derive(Debug)]
struct Level {
    node: VirtAddr,
    slots: Vec<u64>,
    shift: u32,
    first: u64,
    next: usize,
}

/// Goes through what the page cache has of a file, ascending. An error is the last thing that it yields.
#[derive(Debug)]
pub(crate) struct CacheWalk<'k, 'm> {
    linux: &'k Linux<'m>,
    mapping: VirtAddr,
    open: Vec<Level>,
    started: bool,
    /// Nodes that may still be read: a node that stands in many slots must not be walked for ever.
    left: usize,
}

impl<'k, 'm> CacheWalk<'k, 'm> {
    pub(crate) fn new(file: &CachedFile<'k, 'm>) -> Self {
        let linux = file.linux;
        let left = linux.limits().tree_nodes;
        Self { linux, mapping: file.mapping, open: Vec::new(), started: false, left }
    }

    fn broken(&self, at: VirtAddr, reason: &'static str) -> LinuxError {
        LinuxError::Broken { what: "the page cache's tree", at, reason }
    }

    fn enter(&mut self, node: VirtAddr, first: u64) -> Result<(), LinuxError> {
        let fields = self.linux.xa_node()?;
        let read = LinuxError::read("a node of the page cache's tree");
        let shift = u32::from(fields.shift.read(self.linux.space(), node).map_err(&read)?);
        // Each level covers some bits less than the one above.
        if shift > 60 || self.open.last().is_some_and(|above| shift >= above.shift) {
            return Err(self.broken(node, "a level does not lie below the one above it"));
        }
        self.left =
            self.left.checked_sub(1).ok_or_else(|| self.broken(node, "it has more nodes than the limit"))?;
        let len = 8usize << fields.bits;
        let words = self.linux.space().read_vec(node.wrapping_add(fields.slots), len as u64, len);
        let words = words.map_err(&read)?;
        let slots = (0..len).step_by(8).filter_map(|at| u64_at(&words, at)).collect();
        self.open.push(Level { node, slots, shift, first, next: 0 });
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<CacheEntry>, LinuxError> {
        let nodes = self.linux.xa_node()?;
        if !self.started {
            self.started = true;
            let head = self.linux.page_cache()?.head;
            let entry = head.read(self.linux.space(), self.mapping).map_err(LinuxError::read("i_pages"))?;
            if let Some(node) = nodes.node(entry) {
                self.enter(node, 0)?;
            } else if let entry = nodes.as_entry(entry)
                && is_entry(entry)
            {
                // A head that is no node stands for page 0 alone.
                return Ok(Some(CacheEntry { first: 0, count: 1, entry }));
            }
        }
        loop {
            let Some(level) = self.open.last_mut() else { return Ok(None) };
            let Some(entry) = level.slots.get(level.next).copied() else {
                self.open.pop();
                continue;
            };
            let slot = level.next;
            level.next += 1;
            let (node, shift) = (level.node, level.shift);
            let offset = (slot as u64) << shift;
            let Some(first) = level.first.checked_add(offset).filter(|_| offset >> shift == slot as u64)
            else {
                return Err(self.broken(node, "a page lies behind the end of every file"));
            };
            if nodes.sibling(level.node, entry).is_some() {
                continue;
            }
            if let Some(node) = nodes.node(entry) {
                self.enter(node, first)?;
            } else if let entry = nodes.as_entry(entry)
                && is_entry(entry)
            {
                // A large folio stands in one slot; the siblings behind it name that slot.
                let sibling = |next: &&u64| nodes.sibling(node, **next) == Some(slot as u64);
                let siblings = level.slots.iter().skip(level.next).take_while(sibling);
                let slots = 1 + siblings.count();
                level.next = slot + slots;
                let count = (slots as u64).saturating_mul(1 << shift);
                if entry & 1 == 0 && count > LARGEST_FOLIO {
                    return Err(self.broken(node, "a page is larger than the largest that there is"));
                }
                return Ok(Some(CacheEntry { first, count, entry }));
            }
        }
    }
}

impl Iterator for CacheWalk<'_, '_> {
    type Item = Result<CacheEntry, LinuxError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.open.clear();
            self.started = true;
        }
        next.transpose()
    }
}

/// Is it a page, or a note on one?
const fn is_entry(entry: u64) -> bool {
    entry != 0 && entry & 3 != 2
}

impl CachedFile<'_, '_> {
    /// Where page `index` lies, given the cache's entry for it; nothing where its bytes are not valid yet.
    pub(crate) fn valid_frame(&self, entry: &CacheEntry, index: u64) -> Result<Option<PhysAddr>, LinuxError> {
        let page = VirtAddr::new(entry.entry);
        let space = self.linux.space();
        let fields = self.linux.page_state()?;
        let read = LinuxError::read("a page's state");
        let broken = |reason| LinuxError::Broken { what: "a page of a file", at: page, reason };
        if let Some(field) = fields.mapping
            && field.read(space, page).map_err(&read)? & !MAPPING_FLAGS != self.mapping.get()
        {
            return Err(broken("it belongs to another file"));
        }
        // The kernel tells PG_lru; PG_uptodate has stood two below it in every order of the flags.
        let lru = self.linux.identity().vmcoreinfo.as_ref().and_then(|info| info.number("PG_lru"));
        let lru = lru.and_then(|lru| u32::try_from(lru).ok());
        let bit = lru.and_then(|lru| lru.checked_sub(2)).filter(|bit| *bit < 16);
        let flags = fields.flags.read(space, page).map_err(&read)?;
        let up_to_date = match bit {
            Some(bit) => flags >> bit & 1 != 0,
            None => {
                let [one, other] = UPTODATE.map(|bit| flags & bit != 0);
                if one != other {
                    return Err(broken(
                        "whether its bytes are valid is not told: the kernel has no VMCOREINFO",
                    ));
                }
                one
            }
        };
        if !up_to_date {
            return Ok(None);
        }
        self.frame_of(page, index).map(Some).map_err(|_| broken("it is no page, or of another place"))
    }

    /// How many pages of the file the cache has.
    pub(crate) fn cached_pages(&self) -> Result<u64, LinuxError> {
        let field = self.linux.cache_size()?.pages;
        field.read(self.linux.space(), self.mapping).map_err(LinuxError::read("nrpages"))
    }
}
