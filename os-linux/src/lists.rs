//! Walks over the kernel's doubly linked lists (`include/linux/list.h`), bounded, with circles found.

use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;

/// Goes through the entries of a list; yields the address of each structure that is in it.
///
/// An error is the last thing that it yields.
#[derive(Debug)]
pub(crate) struct ListWalk<'k, 'm> {
    linux: &'k Linux<'m>,
    what: &'static str,
    head: VirtAddr,
    at: VirtAddr,
    /// The distance of the list's pointers from the start of the structures.
    offset: u64,
    left: usize,
    done: bool,
    /// Brent's way to find a circle: a mark that is moved on at each power of two.
    mark: VirtAddr,
    steps: u64,
}

impl<'k, 'm> ListWalk<'k, 'm> {
    /// The list whose head lies at `head`; entries hold its pointers at `offset`; at most `limit` of them.
    pub(crate) fn new(
        linux: &'k Linux<'m>,
        what: &'static str,
        head: VirtAddr,
        offset: u64,
        limit: usize,
    ) -> Self {
        Self { linux, what, head, at: head, offset, left: limit, done: false, mark: head, steps: 0 }
    }

    fn end(&mut self, at: VirtAddr, reason: &'static str) -> Option<Result<VirtAddr, LinuxError>> {
        self.done = true;
        Some(Err(LinuxError::Broken { what: self.what, at, reason }))
    }
}

impl Iterator for ListWalk<'_, '_> {
    type Item = Result<VirtAddr, LinuxError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = match self.linux.space().read_pointer(self.at) {
            Ok(next) => next,
            Err(source) => {
                self.done = true;
                return Some(Err(LinuxError::Read { what: self.what, source }));
            }
        };
        if next == self.head {
            self.done = true;
            return None;
        }
        if next.is_null() {
            return self.end(self.at, "the next entry is null");
        }
        if next == self.mark || next == self.at {
            return self.end(next, "the list leads in a circle that does not meet its head");
        }
        self.steps += 1;
        if self.steps.is_power_of_two() {
            self.mark = next;
        }
        let Some(left) = self.left.checked_sub(1) else {
            return self.end(next, "the list has more entries than the limit");
        };
        self.left = left;
        self.at = next;
        match next.checked_sub(self.offset) {
            Some(entry) => Some(Ok(entry)),
            None => self.end(next, "an entry lies at the start of the address space"),
        }
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
