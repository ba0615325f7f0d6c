//! Where the `struct page` of physical page 0 would lie: `vmemmap`.
//!
//! Source: `include/linux/mmzone.h`. On x86_64 a variable holds it. On aarch64 it is a constant less the first page's number, and
//! both were computed differently by each kernel; but every memory section (`mem_section`, which VMCOREINFO names) that has
//! memory keeps it, with flags in the low bits (`sparse_encode_mem_map()` in `mm/sparse.c`).

use vmc::layout::Types;
use vmc::{Architecture, PhysAddr, ReadExt, VirtAddr};

use crate::kernel::Linux;

/// Where `struct page`s begin on x86_64 without KASLR, four levels (`Documentation/arch/x86/x86_64/mm.rst`).
const VMEMMAP_FIXED: u64 = 0xffff_ea00_0000_0000;
/// Flags of a section stand below; the map is aligned to a page.
const SECTION_FLAGS: u64 = 0xfff;
/// Page numbers below 2^40: physical addresses of 52 bits.
const MOST_FRAMES: u64 = 1 << 40;
/// Sections that are looked at: 2^48 bytes of memory in sections of 128 MiB.
const MOST_SECTIONS: u64 = 1 << 21;

impl Linux<'_> {
    /// Where the `struct page`s begin: that of the page at physical address zero, whether there is one or not.
    pub(crate) fn page_descriptions(&self) -> Option<VirtAddr> {
        match self.tables().architecture() {
            Architecture::X86_64 => {
                let told = self.known.vmemmap_base.and_then(|at| self.space().read_pointer(at).ok());
                Some(told.unwrap_or(VirtAddr::new(VMEMMAP_FIXED)))
            }
            Architecture::Aarch64 => *self.found.vmemmap.get(|| Ok(self.vmemmap_by_sections())).ok()?,
        }
    }

    /// Where the page lies that the `struct page` at `page` describes.
    pub(crate) fn page_at(&self, page: VirtAddr) -> Option<PhysAddr> {
        let size = self.types().size_of("page").ok().filter(|size| *size != 0)?;
        // On aarch64 the first page's number may lie above that of the first one described: the distance wraps.
        let offset = page.get().wrapping_sub(self.page_descriptions()?.get());
        let frame =
            offset.is_multiple_of(size).then_some(offset / size).filter(|frame| *frame < MOST_FRAMES)?;
        Some(PhysAddr::new(frame.saturating_mul(self.page_size())))
    }

    fn vmemmap_by_sections(&self) -> Option<VirtAddr> {
        let info = self.identity().vmcoreinfo.as_ref()?;
        let (roots, count) = (info.symbol("mem_section")?, info.length("mem_section")?);
        let size = info.size("mem_section").filter(|size| (8..=256).contains(size))?;
        let map = info.offset("mem_section.section_mem_map")?;
        let section_bits = u32::try_from(info.number("SECTION_SIZE_BITS")?).ok().filter(|bits| *bits < 48)?;
        let per_root = self.page_size() / size;
        let page = self.types().size_of("page").ok()?;
        let space = self.space();
        // The first memory's section is there.
        let first = self.memory().regions().first()?.start.get() >> section_bits;
        let last = self.memory().regions().last()?.end().get() >> section_bits;
        for section in (first..=last).take(MOST_SECTIONS as usize) {
            let (root, index) = (section / per_root, section % per_root);
            if root >= count {
                break;
            }
            let Ok(root) = space.read_pointer(roots.wrapping_add(root * 8)) else { continue };
            if root.is_null() {
                continue;
            }
            let Ok(encoded) = space.read_value::<u64>(root.wrapping_add((index * size).wrapping_add(map)))
            else {
                continue;
            };
            let base = encoded & !SECTION_FLAGS;
            // Its pages' descriptions have to be there.
            let frame = (section << section_bits) / self.page_size();
            let described = VirtAddr::new(base.wrapping_add(frame.wrapping_mul(page)));
            if encoded != 0 && space.translate(described).is_ok() {
                return Some(VirtAddr::new(base));
            }
        }
        None
    }
}
