//! Which unwind table describes an address: the [`Modules`] trait and a sorted list that implements it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use vmc::VirtAddr;

use crate::cfi::UnwindTable;

/// Finds what describes the code at an address.
///
/// A caller that makes tables only when they are asked for implements it; [`ModuleMap`] is for those who have them.
pub trait Modules {
    /// The module that `address` lies in, if there is one.
    ///
    /// Executable memory of no module (generated code) is answered with [`NoTable::None`]: there the walk reads the code
    /// itself. Nothing means that no code is there.
    fn find(&self, address: VirtAddr) -> Option<Found<'_>>;
}

/// The module that an address lies in.
#[derive(Clone, Debug)]
pub struct Found<'m> {
    /// The addresses for which this answer holds: the next frame often lies in the same range and asks no more.
    pub range: Range<VirtAddr>,
    /// What to add, wrapping, to a link-time address to get the run-time one.
    pub bias: u64,
    /// What describes its code.
    pub table: Result<&'m UnwindTable, NoTable>,
}

/// Why a module has no unwind table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTable {
    /// It brings no unwind information.
    #[error("the module has no unwind information")]
    None,
    /// The memory in which it would lie is not to be had.
    #[error("the unwind information at {0} is not resident")]
    NotResident(VirtAddr),
}

/// Code without tables, wherever a function says that there is some.
pub(crate) struct BareCode<F>(pub(crate) F);

impl<F: Fn(VirtAddr) -> bool> Modules for BareCode<F> {
    fn find(&self, address: VirtAddr) -> Option<Found<'_>> {
        let range = address..address.checked_add(1)?;
        (self.0)(address).then_some(Found { range, bias: 0, table: Err(NoTable::None) })
    }
}

/// A range of executable memory of an ELF image. An image with several such ranges is as many modules that share a table.
#[derive(Clone, Debug)]
pub struct Module {
    /// Where it is mapped.
    pub range: Range<VirtAddr>,
    /// What to add, wrapping, to a link-time address to get the run-time one.
    pub bias: u64,
    /// What describes its code.
    pub table: Option<Arc<UnwindTable>>,
    /// The caller's own number for it.
    pub index: usize,
}

/// Modules in the order of their addresses.
#[derive(Clone, Debug, Default)]
pub struct ModuleMap {
    modules: Vec<Module>,
}

impl ModuleMap {
    /// The map of these modules, in whatever order they come. Where ranges overlap, the later start counts.
    #[must_use]
    pub fn new(mut modules: Vec<Module>) -> Self {
        modules.sort_by_key(|module| module.range.start);
        Self { modules }
    }

    /// The modules, in the order of their addresses.
    #[must_use]
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// The module that `address` lies in.
    #[must_use]
    pub fn at(&self, address: VirtAddr) -> Option<&Module> {
        let behind = self.modules.partition_point(|module| module.range.start <= address);
        let module = self.modules.get(behind.checked_sub(1)?)?;
        module.range.contains(&address).then_some(module)
    }
}

impl Modules for ModuleMap {
    #[inline]
    fn find(&self, address: VirtAddr) -> Option<Found<'_>> {
        let behind = self.modules.partition_point(|module| module.range.start <= address);
        let module = self.modules.get(behind.checked_sub(1)?)?;
        if address >= module.range.end {
            return None;
        }
        // An overlapping module that starts later ends the range for which the answer holds.
        let next = self.modules.get(behind).map_or(module.range.end, |next| next.range.start);
        Some(Found {
            range: module.range.start..module.range.end.min(next),
            bias: module.bias,
            table: module.table.as_deref().ok_or(NoTable::None),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn module(range: Range<u64>, index: usize) -> Module {
        let range = VirtAddr::new(range.start)..VirtAddr::new(range.end);
        Module { range, bias: 0, table: None, index }
    }

    #[test]
    fn addresses_are_found_between_the_gaps() {
        let map = ModuleMap::new(vec![module(0x3000..0x4000, 1), module(0x1000..0x2000, 0)]);
        let index = |address| map.at(VirtAddr::new(address)).map(|module| module.index);
        assert_eq!(
            [0xfff, 0x1000, 0x1fff, 0x2000, 0x3000, 0x4000].map(index),
            [None, Some(0), Some(0), None, Some(1), None]
        );
        assert!(map.find(VirtAddr::new(0x2000)).is_none());
        assert!(matches!(map.find(VirtAddr::new(0x1fff)).unwrap().table, Err(NoTable::None)));
        assert!(ModuleMap::default().find(VirtAddr::new(0)).is_none());
    }

    #[test]
    fn an_answer_holds_up_to_the_next_start() {
        let map = ModuleMap::new(vec![module(0x1000..0x4000, 0), module(0x2000..0x3000, 1)]);
        let found = map.find(VirtAddr::new(0x1800)).unwrap();
        assert_eq!(found.range, VirtAddr::new(0x1000)..VirtAddr::new(0x2000));
        assert_eq!(map.at(VirtAddr::new(0x2fff)).unwrap().index, 1);
    }
}
