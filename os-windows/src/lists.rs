//! Walks over `LIST_ENTRY` lists, forwards or backwards, bounded, with circles found.

use alloc::vec::Vec;

use hashbrown::HashSet;
use vmc::ring::{Direction, Ring, RingError};
use vmc::{VirtAddr, VirtualMemory};

use crate::error::WindowsError;

/// Goes through the entries of a list; yields the address of each structure that is in it.
///
/// An error is the last thing that it yields.
#[derive(Debug)]
struct ListWalk<'v, V: ?Sized> {
    ring: Ring<'v, V>,
    what: &'static str,
}

impl<'v, V: VirtualMemory + ?Sized> ListWalk<'v, V> {
    /// The list whose head lies at `head`; entries hold their pointers at `offset`; at most `limit` of them.
    const fn new(
        memory: &'v V,
        what: &'static str,
        direction: Direction,
        head: VirtAddr,
        offset: u64,
        limit: usize,
    ) -> Self {
        Self { ring: Ring::new(memory, direction, head, offset, limit), what }
    }
}

impl<V: VirtualMemory + ?Sized> Iterator for ListWalk<'_, V> {
    type Item = Result<VirtAddr, WindowsError>;

    fn next(&mut self) -> Option<Self::Item> {
        let what = self.what;
        let failed = |why| match why {
            RingError::Read(source) => WindowsError::Read { what, source },
            RingError::Broken { at, reason } => WindowsError::Broken { what, at, reason },
        };
        Some(self.ring.next()?.map_err(failed))
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
