//! Where the memory of a machine begins, for images that do not say it.
//!
//! An arm64 kernel tells by VMCOREINFO at which physical addresses its page table and its code lie. So the image can begin only
//! where both are in it, and where the one leads to the other.

use alloc::vec::Vec;

use vmc::{PhysAddr, PhysError, PhysMemory, Region};

use super::{VmcoreInfo, aarch64};

/// RAM begins at a multiple of this: the kernel itself has to.
const ALIGNMENT: u64 = 2 << 20;
/// Places that are tried: 128 GiB of memory.
const MOST_PLACES: u64 = 1 << 16;

/// Memory that lies `base` higher than its description says.
struct Moved<'m> {
    memory: &'m dyn PhysMemory,
    base: u64,
    regions: Vec<Region>,
}

impl PhysMemory for Moved<'_> {
    fn regions(&self) -> &[Region] {
        &self.regions
    }

    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        let missing = PhysError::NoMemory { addr, len: buf.len() };
        self.memory.read(addr.checked_sub(self.base).ok_or(missing)?, buf)
    }

    fn slice(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        self.memory.slice(addr.checked_sub(self.base)?, len)
    }
}

/// Where the memory of an aarch64 guest has to begin so that its kernel is whole, when `memory` has it at physical address 0.
#[must_use]
pub fn ram_base(memory: &dyn PhysMemory) -> Option<PhysAddr> {
    let [region] = memory.regions() else { return None };
    let pages = (0..region.len).step_by(4096).map(|offset| region.start.wrapping_add(offset));
    let infos = pages.filter_map(|page| VmcoreInfo::at(memory, page)).filter(VmcoreInfo::is_aarch64);
    infos.take(16).find_map(|info| {
        let (first, last) = aarch64::extent(&info)?;
        // It lies in memory: so memory begins not behind it, and not so far before it that it ends too early.
        let lowest = last.get().saturating_sub(region.len).checked_next_multiple_of(ALIGNMENT)?;
        let places = (lowest..=first.get()).step_by(ALIGNMENT as usize).take(MOST_PLACES as usize);
        let mut places: Vec<u64> = places.filter(|place| *place > 0).collect();
        // RAM begins at round addresses.
        places.sort_by_key(|place| core::cmp::Reverse(place.trailing_zeros()));
        let fits = |base: &u64| {
            let moved = Region { start: region.start.wrapping_add(*base), len: region.len };
            let moved = Moved { memory, base: *base, regions: Vec::from([moved]) };
            aarch64::verify(&moved, info.clone()).is_ok()
        };
        places.into_iter().find(fits).map(PhysAddr::new)
    })
}
