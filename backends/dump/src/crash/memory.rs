//! The virtual memory of a triage dump: ranges that lie in the file.

use memmap2::Mmap;
use vmc::{Fault, PhysAddr, ReadError, VirtAddr, VirtualMemory};

use crate::segments::Segments;

/// Ranges of virtual memory, copied out of the file. They are sorted and do not overlap.
#[derive(Debug)]
pub(crate) struct CrashMemory {
    map: Mmap,
    /// By virtual address.
    ranges: Segments,
}

const OUTSIDE: Fault =
    Fault::Lookup { reason: "not in the triage dump, which has ranges of kernel memory only" };
const CUT_OFF: Fault = Fault::Lookup { reason: "cut off: the triage dump ends before it" };

impl CrashMemory {
    pub(crate) const fn new(map: Mmap, ranges: Segments) -> Self {
        Self { map, ranges }
    }
}

impl VirtualMemory for CrashMemory {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        read(&self.ranges, &self.map, addr, buf)
    }
}

/// Fills `buf` from `addr` on out of the `ranges` of `file`, across those that touch.
pub(crate) fn read(ranges: &Segments, file: &[u8], addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let failed = |at, fault| ReadError { addr: at, done, fault };
        let at = addr.checked_add(done as u64).ok_or_else(|| failed(addr, Fault::Overflow))?;
        let key = PhysAddr::new(at.get());
        let left = ranges.left(key).ok_or_else(|| failed(at, OUTSIDE))?;
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let bytes = ranges.held(file, key, count);
        if bytes.is_empty() {
            return Err(failed(at, CUT_OFF));
        }
        if let Some(room) = rest.get_mut(..bytes.len()) {
            room.copy_from_slice(bytes);
        }
        done += bytes.len();
    }
    Ok(())
}
