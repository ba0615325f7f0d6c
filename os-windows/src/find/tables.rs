//! ntoskrnl in all that page tables map in the kernel's half.

use hashbrown::HashSet;
use vmc::arch::x86_64::Levels;
use vmc::bytes::u64_at;
use vmc::{AddressSpace, PhysAddr, PhysMemory, VirtAddr};

use super::Kernel;
use super::image::kernel_at;

const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Goes through the pages of the kernel's half for the header of the kernel, those first where Windows puts images (the upper 8 TiB).
/// A table is read once, wherever it is mapped: Windows has large ranges that lead to the same one, and the tables map themselves.
pub(super) fn scan(
    space: &AddressSpace<'_>,
    root: PhysAddr,
    levels: Levels,
    most_tables: &mut usize,
) -> Option<Kernel> {
    let mut scan = Scan { space, memory: space.memory(), seen: HashSet::new(), most_tables };
    let top = levels.count();
    scan.seen.insert(root);
    let ranges = if top == 4 { [(496, 512), (256, 496)] } else { [(511, 512), (256, 511)] };
    ranges
        .into_iter()
        .find_map(|(first, end)| scan.table(root, top, u64::MAX << (12 + 9 * u32::from(top)), (first, end)))
}

struct Scan<'s, 'm> {
    space: &'s AddressSpace<'m>,
    memory: &'m dyn PhysMemory,
    seen: HashSet<PhysAddr>,
    most_tables: &'s mut usize,
}

impl Scan<'_, '_> {
    /// One table: `first` is the address of its entry 0. The depth is that of the levels.
    fn table(&mut self, at: PhysAddr, level: u8, first: u64, (start, end): (u64, u64)) -> Option<Kernel> {
        *self.most_tables = self.most_tables.checked_sub(1)?;
        let mut table = [0; 4096];
        self.memory.read(at, &mut table).ok()?;
        let span = 1u64 << (12 + 9 * (u32::from(level) - 1));
        for index in start..end {
            let entry = u64_at(&table, index as usize * 8).unwrap_or_default();
            if entry & PRESENT == 0 {
                continue;
            }
            let address = first.wrapping_add(index * span);
            let physical = PhysAddr::new(entry & ADDRESS);
            let found = if level == 1 {
                self.page(address, physical)
            } else if entry & LARGE == 0 {
                if !self.seen.insert(physical) {
                    continue;
                }
                self.table(physical, level - 1, address, (0, 512))
            } else if level == 2 {
                let physical = physical.align_down(span);
                (0..512).find_map(|page| self.page(address + page * 4096, physical.wrapping_add(page * 4096)))
            } else {
                None
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn page(&self, address: u64, physical: PhysAddr) -> Option<Kernel> {
        let mut magic = [0; 2];
        self.memory.read(physical, &mut magic).ok()?;
        if magic != *b"MZ" {
            return None;
        }
        kernel_at(self.space, VirtAddr::new(address))
    }
}
