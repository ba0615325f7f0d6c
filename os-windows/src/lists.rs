//! What is on a `LIST_ENTRY` list that may be broken.

use alloc::vec::Vec;

use hashbrown::HashSet;
use vmc::ring::{Direction, Ring, RingError};
use vmc::{VirtAddr, VirtualMemory};

use crate::error::WindowsError;

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
        for entry in Ring::new(memory, direction, head, offset, limit) {
            match entry {
                Ok(entry) if !seen.insert(entry) => {}
                Ok(entry) => part.push(entry),
                Err(RingError::Read(source)) => broken = Some(WindowsError::Read { what, source }),
                Err(RingError::Broken { at, reason }) => {
                    broken = Some(WindowsError::Broken { what, at, reason });
                }
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
