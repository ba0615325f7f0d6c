//! Walks over `LIST_ENTRY` lists, forwards or backwards, bounded, with circles found.

use alloc::vec::Vec;

use hashbrown::HashSet;
use vmc::{ReadExt, VirtAddr, VirtualMemory};

use crate::error::WindowsError;

/// Which of the two pointers of a `LIST_ENTRY` is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// `Flink`.
    Forwards,
    /// `Blink`.
    Backwards,
}

/// Goes through the entries of a list; yields the address of each structure that is in it.
///
/// An error is the last thing that it yields.
#[derive(Debug)]
pub(crate) struct ListWalk<'v, V: ?Sized> {
    memory: &'v V,
    what: &'static str,
    direction: Direction,
    head: VirtAddr,
    at: VirtAddr,
    /// The distance of the `LIST_ENTRY` from the start of the structures.
    offset: u64,
    left: usize,
    done: bool,
    /// Brent's way to find a circle: a mark that is moved on at each power of two.
    mark: VirtAddr,
    steps: u64,
}

impl<'v, V: VirtualMemory + ?Sized> ListWalk<'v, V> {
    /// The list whose head lies at `head`; entries hold their pointers at `offset`; at most `limit` of them.
    pub(crate) const fn new(
        memory: &'v V,
        what: &'static str,
        direction: Direction,
        head: VirtAddr,
        offset: u64,
        limit: usize,
    ) -> Self {
        Self {
            memory,
            what,
            direction,
            head,
            at: head,
            offset,
            left: limit,
            done: false,
            mark: head,
            steps: 0,
        }
    }

    fn end(&mut self, at: VirtAddr, reason: &'static str) -> Option<Result<VirtAddr, WindowsError>> {
        self.done = true;
        Some(Err(WindowsError::Broken { what: self.what, at, reason }))
    }
}

impl<V: VirtualMemory + ?Sized> Iterator for ListWalk<'_, V> {
    type Item = Result<VirtAddr, WindowsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let pointer = match self.direction {
            Direction::Forwards => self.at,
            Direction::Backwards => self.at.wrapping_add(8),
        };
        let next = match self.memory.read_pointer(pointer) {
            Ok(next) => next,
            Err(source) => {
                self.done = true;
                return Some(Err(WindowsError::Read { what: self.what, source }));
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

/// The structures on a list: forwards, and where that breaks backwards, too, those that were not met before. With what broke.
///
/// A circle is gone round until the walk notices it: each structure comes once all the same.
pub(crate) fn both_ways<V: VirtualMemory + ?Sized>(
    memory: &V,
    what: &'static str,
    head: VirtAddr,
    offset: u64,
    limit: usize,
) -> (Vec<VirtAddr>, Option<WindowsError>) {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut damage = None;
    for direction in [Direction::Forwards, Direction::Backwards] {
        let mut broken = None;
        let mut part = Vec::new();
        for entry in ListWalk::new(memory, what, direction, head, offset, limit) {
            match entry {
                Ok(entry) if !seen.insert(entry) => {}
                Ok(entry) => part.push(entry),
                Err(error) => broken = Some(error),
            }
        }
        if direction == Direction::Backwards {
            part.reverse();
        }
        found.append(&mut part);
        let Some(error) = broken else { break };
        damage.get_or_insert(error);
    }
    (found, damage)
}
