//! The x86_64 kernel's image by page tables alone, and in it the pointer to VMCOREINFO.
//!
//! The kernel maps its image at 0xffffffff80000000 + KASLR offset, in the 1 GiB below 0xffffffffc0000000
//! (`Documentation/arch/x86/x86_64/mm.rst`). One of its variables, `vmcoreinfo_data`, points at the VMCOREINFO page through the
//! direct map. So from any page table root that holds the kernel's half, VMCOREINFO is found in time that does not
//! grow with the machine's memory, and it is the living kernel's, whatever copies lie about.

use alloc::vec::Vec;

use vmc::arch::x86_64::{Levels, X86PageTables};
use vmc::memory::lend_or_read;
use vmc::{PhysAddr, PhysMemory, VirtAddr};

use crate::find::VmcoreInfo;

/// Where the image can be, at the earliest.
pub(crate) const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// The image's part of the address space, in 2 MiB steps.
const LARGE_PAGE: u64 = 2 << 20;
const IMAGE_SLOTS: u64 = 512;
/// The direct map, `vmalloc` and `vmemmap` all lie below the image in the upper half.
const LOWEST_KERNEL: u64 = 0xff00_0000_0000_0000;

/// A run of the image that is contiguous in both address spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    physical: PhysAddr,
    len: u64,
}

impl Run {
    /// The run in pieces that can be read at once.
    fn chunks(&self) -> impl Iterator<Item = Run> {
        const STEP: u64 = 1 << 20;
        let Run { physical, len } = *self;
        (0..len)
            .step_by(STEP as usize)
            .map(move |done| Run { physical: physical.wrapping_add(done), len: STEP.min(len - done) })
    }
}

/// The data of the kernel's image under a page table root: writable and not executable.
fn data_runs(memory: &dyn PhysMemory, tables: &X86PageTables) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut add = |physical: PhysAddr, len: u64| match runs.last_mut() {
        Some(last) if last.physical.checked_add(last.len) == Some(physical) => last.len += len,
        _ => runs.push(Run { physical, len }),
    };
    for slot in 0..IMAGE_SLOTS {
        let start = VirtAddr::new(START_KERNEL_MAP + slot * LARGE_PAGE);
        let mut at = start;
        while at.get() - start.get() < LARGE_PAGE {
            let walked = tables.walk(memory, at);
            let step = match &walked {
                Ok(walk) => walk.page_size.min(LARGE_PAGE),
                Err(vmc::TranslateError::NotPresent { level: 1, .. }) => 4096,
                // Nothing above: the other slots of this table are not there either way.
                Err(vmc::TranslateError::NotPresent { level: 2, .. }) => LARGE_PAGE,
                Err(_) => return runs,
            };
            if let Ok(walk) = walked
                && walk.writable
                && !walk.executable
                && !walk.user
            {
                add(walk.physical, step);
            }
            at = at.wrapping_add(step);
        }
    }
    runs
}

/// VMCOREINFO as the kernel that `tables` belong to points at it.
pub(crate) fn vmcoreinfo_of(memory: &dyn PhysMemory, tables: &X86PageTables) -> Option<VmcoreInfo> {
    let mut buffer = Vec::new();
    for chunk in data_runs(memory, tables).iter().flat_map(Run::chunks) {
        let Ok(bytes) = lend_or_read(memory, chunk.physical, chunk.len as usize, &mut buffer) else {
            continue;
        };
        let (words, _) = bytes.as_chunks();
        for word in words {
            let pointer = u64::from_le_bytes(*word);
            // One comparison rules out nearly all words.
            let upper_page = pointer & (LOWEST_KERNEL | 0xfff) == LOWEST_KERNEL;
            if upper_page
                && pointer < START_KERNEL_MAP
                && let Ok(walk) = tables.walk(memory, VirtAddr::new(pointer))
                && let Some(info) = VmcoreInfo::at(memory, walk.physical)
            {
                return Some(info);
            }
        }
    }
    None
}

/// Page table roots that memory alone gives away: the real-mode trampoline's page table lies below 1 MiB and shares the
/// kernel's last top-level entry (`arch/x86/realmode/init.c`); the kernel's own root is the page of its image with that very
/// entry.
pub(crate) fn roots_without_registers(memory: &dyn PhysMemory) -> Vec<X86PageTables> {
    let mut roots = Vec::new();
    for page in 0..256u64 {
        let low = PhysAddr::new(page * 4096);
        let Ok(last_entry) = memory.read_u64(PhysAddr::new(low.get() + 511 * 8)) else { continue };
        if last_entry & 1 == 0 || last_entry & 0x80 != 0 {
            continue;
        }
        for levels in [Levels::Four, Levels::Five] {
            let runs = data_runs(memory, &X86PageTables::new(low, levels));
            let pages = runs
                .iter()
                .flat_map(|run| (0..run.len / 4096).map(|page| run.physical.wrapping_add(page * 4096)));
            let same_entry = |page: &PhysAddr| memory.read_u64(page.wrapping_add(511 * 8)) == Ok(last_entry);
            roots.extend(pages.filter(same_entry).take(4).map(|root| X86PageTables::new(root, levels)));
        }
        if roots.len() >= 16 {
            break;
        }
    }
    roots
}
