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

/// Images by their addresses.
#[derive(Debug, Default)]
pub(super) struct ModuleMap(Vec<Entry>);

impl ModuleMap {
    /// Of images that overlap, the one that is named first counts.
    pub(super) fn new(rows: impl Iterator<Item = (ModuleRow, Arc<Names>)>) -> Self {
        let entry = |(row, names): (ModuleRow, Arc<Names>)| {
            let end = row.base.checked_add(row.size).filter(|end| *end > row.base)?;
            let path: String = row.path.unwrap_or(row.name);
            let module = Arc::new(FrameModule { path, base: row.base, build_id: None, debug_link: None });
            Some(Entry { range: row.base..end, module, names, table: OnceBox::new() })
        };
        let mut entries: Vec<Entry> = rows.filter_map(entry).collect();
        entries.sort_by_key(|entry| entry.range.start);
        entries.dedup_by(|later, earlier| later.range.start < earlier.range.end);
        Self(entries)
    }

    /// The image that `address` lies in.
    pub(super) fn find(&self, address: VirtAddr) -> Option<&Entry> {
        let behind = self.0.partition_point(|entry| entry.range.start <= address);
        self.0.get(behind.checked_sub(1)?).filter(|entry| entry.range.contains(&address))
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
