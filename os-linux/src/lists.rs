//! Walks over the kernel's doubly linked lists (`include/linux/list.h`), bounded, with circles found.

use vmc::ring::{Direction, Ring, RingError};
use vmc::{AddressSpace, ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;

/// Goes through the entries of a list; yields the address of each structure that is in it.
///
/// An error is the last thing that it yields.
#[derive(Debug)]
pub(crate) struct ListWalk<'k, 'm> {
    ring: Ring<'k, AddressSpace<'m>>,
    what: &'static str,
}

impl<'k, 'm> ListWalk<'k, 'm> {
    /// The list whose head lies at `head`; entries hold its pointers at `offset`; at most `limit` of them.
    pub(crate) const fn new(
        linux: &'k Linux<'m>,
        what: &'static str,
        head: VirtAddr,
        offset: u64,
        limit: usize,
    ) -> Self {
        Self { ring: Ring::new(linux.space(), Direction::Forwards, head, offset, limit), what }
    }
}

impl Iterator for ListWalk<'_, '_> {
    type Item = Result<VirtAddr, LinuxError>;

    fn next(&mut self) -> Option<Self::Item> {
        let what = self.what;
        let failed = |why| match why {
            RingError::Read(source) => LinuxError::Read { what, source },
            RingError::Broken { at, reason } => LinuxError::Broken { what, at, reason },
        };
        Some(self.ring.next()?.map_err(failed))
    }
}

/// Goes through a chain of a hash table, which ends with null or with an odd number (`include/linux/list_nulls.h`); yields
/// the address of each structure that is in it.
///
/// An error is the last thing that it yields.
#[derive(Debug)]
pub(crate) struct ChainWalk<'k, 'm> {
    linux: &'k Linux<'m>,
    what: &'static str,
    next: VirtAddr,
    offset: u64,
    left: usize,
    mark: VirtAddr,
    steps: u64,
}

impl<'k, 'm> ChainWalk<'k, 'm> {
    /// The chain that begins with the node `first`; entries hold their node at `offset`; at most `limit` of them.
    pub(crate) fn new(
        linux: &'k Linux<'m>,
        what: &'static str,
        first: VirtAddr,
        offset: u64,
        limit: usize,
    ) -> Self {
        Self { linux, what, next: first, offset, left: limit, mark: VirtAddr::new(0), steps: 0 }
    }
}

impl Iterator for ChainWalk<'_, '_> {
    type Item = Result<VirtAddr, LinuxError>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.next;
        if at.is_null() || !at.is_aligned(2) {
            return None;
        }
        self.next = VirtAddr::new(0);
        let broken = |reason| Some(Err(LinuxError::Broken { what: self.what, at, reason }));
        if at == self.mark {
            return broken("the chain leads in a circle");
        }
        self.steps += 1;
        if self.steps.is_power_of_two() {
            self.mark = at;
        }
        let (Some(left), Some(entry)) = (self.left.checked_sub(1), at.checked_sub(self.offset)) else {
            return broken("the chain has more entries than the limit, or leads nowhere");
        };
        self.left = left;
        match self.linux.space().read_pointer(at) {
            Ok(next) => self.next = next,
            Err(source) => return Some(Err(LinuxError::Read { what: self.what, source })),
        }
        Some(Ok(entry))
    }
}
