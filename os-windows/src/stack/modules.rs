//! [`ModuleMap`]: which image an address lies in, and where that has its table of functions.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use once_cell::race::OnceBox;
use vmc::view::FrameModule;
use vmc::{VirtAddr, VirtualMemory};
use vmc_unwind::NoTable;
use vmc_unwind::pe::{PeModule, PeModules};

use super::names::Names;
use crate::pe::{Image, ImageError};
use crate::rows::ModuleRow;

/// An image.
pub(super) struct Entry {
    range: Range<VirtAddr>,
    /// How frames show it.
    pub module: Arc<FrameModule>,
    pub names: Arc<Names>,
    table: OnceBox<Result<PeModule, NoTable>>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.module.path, self.range.start)
    }
}

impl Entry {
    /// Where it begins.
    pub(super) const fn base(&self) -> VirtAddr {
        self.range.start
    }

    /// Its table of functions, by its header. That is read once.
    pub(super) fn table<V: VirtualMemory + ?Sized>(&self, memory: &V) -> &Result<PeModule, NoTable> {
        self.table.get_or_init(|| {
            Box::new(match Image::read(memory, self.range.start) {
                Ok(image) if image.wide() => Ok(PeModule {
                    range: self.range.clone(),
                    exceptions: image.exceptions().unwrap_or_default(),
                }),
                Err(ImageError::Read { source, .. }) => Err(NoTable::NotResident(source.addr)),
                _ => Err(NoTable::None),
            })
        })
    }
}

/// How many images that begin before an address are asked whether they reach it. Images do not overlap; those that lie about
/// their size do.
const LOOK_BACK: usize = 16;

/// Images by their addresses.
#[derive(Debug, Default)]
pub(super) struct ModuleMap {
    entries: Vec<Entry>,
    /// Where the image of the kernel itself is, whatever others say of themselves.
    kernel: Range<VirtAddr>,
}

impl ModuleMap {
    /// Of several images at one place the one that is named first counts.
    pub(super) fn new(rows: impl Iterator<Item = (ModuleRow, Arc<Names>)>, kernel: Range<VirtAddr>) -> Self {
        let entry = |(row, names): (ModuleRow, Arc<Names>)| {
            let own = row.base == kernel.start && !kernel.is_empty();
            let end = if own { Some(kernel.end) } else { row.base.checked_add(row.size) };
            let range = row.base..end.filter(|end| *end > row.base)?;
            let path: String = row.path.unwrap_or(row.name);
            let module = Arc::new(FrameModule { path, base: row.base, build_id: None, debug_link: None });
            Some(Entry { range, module, names, table: OnceBox::new() })
        };
        let mut entries: Vec<Entry> = rows.filter_map(entry).collect();
        entries.sort_by_key(|entry| entry.range.start);
        entries.dedup_by_key(|entry| entry.range.start);
        Self { entries, kernel }
    }

    /// The image that `address` lies in.
    pub(super) fn find(&self, address: VirtAddr) -> Option<&Entry> {
        if self.kernel.contains(&address) {
            let found = self.entries.binary_search_by_key(&self.kernel.start, |entry| entry.range.start);
            return self.entries.get(found.ok()?);
        }
        let behind = self.entries.partition_point(|entry| entry.range.start <= address);
        let before = self.entries.get(..behind)?.iter().rev().take(LOOK_BACK);
        before.into_iter().find(|entry| entry.range.contains(&address))
    }
}

/// Images in the memory that their headers and tables are read from.
pub(super) struct InMemory<'s> {
    pub modules: &'s ModuleMap,
    pub memory: &'s dyn VirtualMemory,
}

impl PeModules for InMemory<'_> {
    fn find(&self, address: VirtAddr) -> Result<PeModule, NoTable> {
        self.modules.find(address).ok_or(NoTable::None)?.table(self.memory).clone()
    }
}
