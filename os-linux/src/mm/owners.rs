//! Whose a physical page is: the way back from physical memory to addresses.

use alloc::string::ToString;
use alloc::vec::Vec;

use vmc::addr::PAGE_SIZE;
use vmc::view::{RowErrors, Space};
use vmc::{PhysAddr, Region, VirtAddr, VirtualMemory};

use crate::kernel::Linux;
use crate::task::Task;

/// `__PAGE_OFFSET_BASE_L4` and `_L5` (`arch/x86/include/asm/page_64_types.h`): where the direct map begins without
/// `CONFIG_RANDOMIZE_MEMORY`.
const DIRECT_MAPS: [u64; 2] = [0xffff_8880_0000_0000, 0xff11_0000_0000_0000];

/// A place where a process maps a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mapped {
    page: PhysAddr,
    pid: u32,
    at: VirtAddr,
}

/// Where processes map some pages; see [`Linux::page_owners`].
#[derive(Clone, Debug, Default)]
pub struct PageOwners {
    /// Ascending by page.
    mapped: Vec<Mapped>,
    /// What could not be gone through.
    pub errors: RowErrors,
}

impl PageOwners {
    /// The processes that map the byte at `physical`, and at which address, ascending by their numbers.
    pub fn of(&self, physical: PhysAddr) -> impl Iterator<Item = (u32, VirtAddr)> + '_ {
        let page = physical.align_down(PAGE_SIZE);
        let first = self.mapped.partition_point(|mapped| mapped.page < page);
        let same = self.mapped.get(first..).unwrap_or_default().iter();
        same.take_while(move |mapped| mapped.page == page)
            .map(move |mapped| (mapped.pid, mapped.at.wrapping_add(physical.offset_in(PAGE_SIZE))))
    }
}

impl<'m> Linux<'m> {
    /// Where the processes among `tasks` map the pages that `addresses` lie in.
    ///
    /// Each process' page tables are gone through once; pages that were swapped out or are not touched yet are nobody's. What
    /// cannot be gone through is told in [`PageOwners::errors`].
    #[must_use]
    pub fn page_owners(&self, tasks: &[Task<'_, 'm>], addresses: &[PhysAddr]) -> PageOwners {
        let mut wanted: Vec<PhysAddr> =
            addresses.iter().map(|address| address.align_down(PAGE_SIZE)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut owners = PageOwners::default();
        let mut tables = self.limits().page_tables;
        for task in tasks {
            // Kernel threads and the dead have no memory.
            let (Ok(pid), Ok(memory)) = (task.pid(), task.memory()) else { continue };
            let mut pages = memory.tables().tables().present(self.memory(), Space::User, tables);
            for page in pages.by_ref() {
                match page {
                    Ok(page) => {
                        let first = wanted.partition_point(|wanted| *wanted < page.physical);
                        let inside = wanted.get(first..).unwrap_or_default().iter();
                        let inside = inside
                            .map_while(|wanted| Some((*wanted, wanted.offset_from(page.physical)?)))
                            .take_while(|(_, into)| *into < page.size);
                        for (wanted, into) in inside {
                            if owners.mapped.len() >= self.limits().page_mappings {
                                owners.errors.push(self.limits(), "owners", &"there are more than the limit");
                                owners.mapped.sort_unstable();
                                return owners;
                            }
                            let at = page.start.wrapping_add(into);
                            owners.mapped.push(Mapped { page: wanted, pid, at });
                        }
                    }
                    Err(why) => owners.errors.push(self.limits(), &pid.to_string(), &why),
                }
            }
            tables = pages.tables_left();
            if pages.exhausted() {
                owners.errors.push(
                    self.limits(),
                    &pid.to_string(),
                    &"there are more page tables than the limit",
                );
                break;
            }
        }
        owners.mapped.sort_unstable();
        owners
    }

    /// Where the kernel itself has the byte at `physical`: in its image, or in its map of all memory.
    #[must_use]
    pub fn kernel_address(&self, physical: PhysAddr) -> Option<VirtAddr> {
        let space = self.space();
        let leads_here = |at: &VirtAddr| space.translate(*at) == Ok(physical);
        let in_image = || {
            let (text, end) = (self.known.text?, self.known.end?);
            let at = text.checked_add(physical.offset_from(space.translate(text).ok()?)?)?;
            (at < end).then_some(at)
        };
        if let Some(at) = in_image().filter(leads_here) {
            return Some(at);
        }
        self.direct_address(physical)
    }

    /// Where the kernel has the byte at `physical` in its map of all memory (the direct map), if it is there.
    #[must_use]
    pub fn direct_address(&self, physical: PhysAddr) -> Option<VirtAddr> {
        let space = self.space();
        let told = self.known.page_offset_base.and_then(|at| space.read_u64(at).ok());
        let bases = told.into_iter().chain(self.arm_direct_map()).chain(DIRECT_MAPS);
        let places = bases.map(|base| VirtAddr::new(base).wrapping_add(physical.get()));
        places.into_iter().find(|at| space.translate(*at) == Ok(physical))
    }

    /// Where the kernel's image lies: its first address (`_text`), and the physical memory that holds it, parts that only the boot
    /// needed among it.
    #[must_use]
    pub fn image_run(&self) -> Option<(VirtAddr, Region)> {
        let text = self.kernel_base();
        let start = self.space().translate(text).ok()?;
        let end = self.known.end.or_else(|| self.image().end())?;
        let len = end.offset_from(text).filter(|len| (1..=self.limits().kernel_image_bytes).contains(len))?;
        Some((text, Region { start, len }))
    }

    /// Where physical address 0 would be in the direct map of arm64, which begins at the lowest address of the kernel's half
    /// with memory's start, `memstart_addr` (`arch/arm64/include/asm/memory.h`, 5.4 and later).
    fn arm_direct_map(&self) -> Option<u64> {
        let info = self.identity().vmcoreinfo.as_ref()?;
        let bits = u32::try_from(info.number("VA_BITS")?).ok()?;
        let first = u64::MAX.checked_shl(bits)?;
        Some(first.wrapping_sub(info.number("PHYS_OFFSET")?.cast_unsigned()))
    }
}
