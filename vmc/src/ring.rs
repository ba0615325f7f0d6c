//! Walks over rings of doubly linked entries with a head, as kernels keep most of what they list: Linux' `list_head`
//! (`include/linux/list.h`) and Windows' `LIST_ENTRY` (`winnt.h`), which look the same in memory: next, and behind it previous.

use thiserror::Error;

use crate::addr::VirtAddr;
use crate::virt::{ReadError, ReadExt, VirtualMemory};

/// Which of the two pointers of an entry is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The first: `next`, `Flink`.
    Forwards,
    /// The second: `prev`, `Blink`.
    Backwards,
}

/// Why a walk ended before it was back at the head.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RingError {
    /// An entry could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The ring is damaged, or has more entries than the limit.
    #[error("at {at}: {reason}")]
    Broken {
        /// Where the walk stopped.
        at: VirtAddr,
        /// Why.
        reason: &'static str,
    },
}

/// Goes through the entries of a ring; yields the address of each structure that is in it. Bounded; circles are found.
///
/// An error is the last thing that it yields.
///
/// ```
/// use vmc::ring::{Direction, Ring};
/// use vmc::{Fault, ReadError, VirtAddr, VirtualMemory};
///
/// /// Words at 0x1000.
/// struct Words([u64; 4]);
///
/// impl VirtualMemory for Words {
///     fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
///         let bytes: Vec<u8> = self.0.iter().flat_map(|word| word.to_le_bytes()).collect();
///         let at = addr.get().wrapping_sub(0x1000) as usize;
///         let found = at.checked_add(buf.len()).and_then(|end| bytes.get(at..end));
///         buf.copy_from_slice(found.ok_or(ReadError::new(addr, Fault::NotMapped))?);
///         Ok(())
///     }
/// }
///
/// // A head, and one entry at 0x1010, eight bytes into its structure.
/// let memory = Words([0x1010, 0x1010, 0x1000, 0x1000]);
/// let ring = Ring::new(&memory, Direction::Forwards, VirtAddr::new(0x1000), 8, 100);
/// assert_eq!(ring.collect::<Result<Vec<_>, _>>()?, [VirtAddr::new(0x1008)]);
/// # Ok::<(), vmc::ring::RingError>(())
/// ```
#[derive(Debug)]
pub struct Ring<'v, V: ?Sized> {
    memory: &'v V,
    direction: Direction,
    head: VirtAddr,
    at: VirtAddr,
    /// The distance of the pointers from the start of the structures.
    offset: u64,
    left: usize,
    done: bool,
    /// Brent's way to find a circle: a mark that is moved on at each power of two.
    mark: VirtAddr,
    steps: u64,
}

impl<'v, V: VirtualMemory + ?Sized> Ring<'v, V> {
    /// The ring whose head lies at `head`; structures hold its pointers at `offset`; at most `limit` of them.
    pub const fn new(memory: &'v V, direction: Direction, head: VirtAddr, offset: u64, limit: usize) -> Self {
        Self { memory, direction, head, at: head, offset, left: limit, done: false, mark: head, steps: 0 }
    }

    /// The next structure; None where the head is met again.
    fn step(&mut self) -> Result<Option<VirtAddr>, RingError> {
        let broken = |at, reason| Err(RingError::Broken { at, reason });
        let pointer = match self.direction {
            Direction::Forwards => self.at,
            Direction::Backwards => self.at.wrapping_add(8),
        };
        let next = self.memory.read_pointer(pointer)?;
        if next == self.head {
            return Ok(None);
        }
        if next.is_null() {
            return broken(self.at, "the next entry is null");
        }
        if next == self.mark || next == self.at {
            return broken(next, "the list leads in a circle that does not meet its head");
        }
        self.steps += 1;
        if self.steps.is_power_of_two() {
            self.mark = next;
        }
        let Some(left) = self.left.checked_sub(1) else {
            return broken(next, "the list has more entries than the limit");
        };
        self.left = left;
        self.at = next;
        match next.checked_sub(self.offset) {
            Some(entry) => Ok(Some(entry)),
            None => broken(next, "an entry lies at the start of the address space"),
        }
    }
}

impl<V: VirtualMemory + ?Sized> Iterator for Ring<'_, V> {
    type Item = Result<VirtAddr, RingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let step = self.step();
        self.done = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virt::Fault;
    use alloc::vec::Vec;

    /// Entries of two words from 0x1000 on.
    struct Entries<'a>(&'a [[u64; 2]]);

    impl VirtualMemory for Entries<'_> {
        fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
            let at = addr.get().wrapping_sub(0x1000) as usize / 8;
            let word = self.0.as_flattened().get(at).ok_or(ReadError::new(addr, Fault::NotMapped))?;
            buf.copy_from_slice(&word.to_le_bytes());
            Ok(())
        }
    }

    fn walk(entries: &[[u64; 2]], direction: Direction, limit: usize) -> (Vec<u64>, Option<RingError>) {
        let (mut found, mut last) = (Vec::new(), None);
        for entry in Ring::new(&Entries(entries), direction, VirtAddr::new(0x1000), 0x10, limit) {
            assert!(last.is_none(), "something came after an error");
            match entry {
                Ok(at) => found.push(at.get()),
                Err(why) => last = Some(why),
            }
        }
        (found, last)
    }

    const SOUND: [[u64; 2]; 3] = [[0x1010, 0x1020], [0x1020, 0x1000], [0x1000, 0x1010]];

    #[test]
    fn both_directions_lead_back_to_the_head() {
        assert_eq!(walk(&SOUND, Direction::Forwards, 2), (Vec::from([0x1000, 0x1010]), None));
        assert_eq!(walk(&SOUND, Direction::Backwards, 2), (Vec::from([0x1010, 0x1000]), None));
        assert_eq!(walk(&[[0x1000, 0x1000]], Direction::Forwards, 0), (Vec::new(), None));
    }

    #[test]
    fn what_is_damaged_ends_with_what_is_wrong() {
        let why = |entries: &[[u64; 2]], limit| walk(entries, Direction::Forwards, limit);
        let broken = |at, reason| Some(RingError::Broken { at: VirtAddr::new(at), reason });
        assert_eq!(why(&SOUND, 1).1, broken(0x1020, "the list has more entries than the limit"));
        let (found, last) = why(&[[0x1010, 0], [0x1020, 0], [0, 0]], 9);
        assert_eq!((found.len(), last), (2, broken(0x1020, "the next entry is null")));
        // A circle that leaves the head out: each is gone round a few times at the most.
        let (found, last) = why(&[[0x1010, 0], [0x1020, 0], [0x1010, 0]], 1000);
        assert!(found.len() < 6, "{found:x?}");
        let circle = "the list leads in a circle that does not meet its head";
        assert!(matches!(last, Some(RingError::Broken { reason, .. }) if reason == circle), "{last:?}");
        assert_eq!(why(&[[8, 0]], 9).1, broken(8, "an entry lies at the start of the address space"));
        assert!(matches!(why(&[[0x5000, 0]], 9), (found, Some(RingError::Read(_))) if found.len() == 1));
    }
}
