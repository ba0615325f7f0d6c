//! Candidates of a page table root: words of a KPCR, the low stub, pages that refer to themselves.

use alloc::vec::Vec;

use vmc::addr::PAGE_SIZE;
use vmc::arch::x86_64::{Levels, Registers};
use vmc::bytes::u64_at;
use vmc::{PhysAddr, PhysMemory, VirtAddr, VirtualMemory};

use super::{Found, Search, levels_of};

/// Bytes of a KPCR with its KPRCB in which a root is looked for: they have some 0xb000.
const KPCR_BYTES: u64 = 0x1_0000;
/// The bits of a CR3 or a page table entry that are an address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// Where the KPCR of a vCPU is: GS' base in the kernel, what `swapgs` brings in for user mode.
pub(super) fn kpcrs(vcpu: &Registers) -> impl Iterator<Item = VirtAddr> {
    let known = if vcpu.in_user_mode() {
        [vcpu.kernel_gs_base, None]
    } else {
        // Between entry and `swapgs`, or before the return, they are the other way round.
        [Some(vcpu.gs_base), vcpu.kernel_gs_base]
    };
    known.into_iter().flatten().filter(|base| base >> 47 == 0x1_ffff).map(VirtAddr::new)
}

impl<'m> Search<'m, '_> {
    /// Words of a vCPU's KPCR that may be a root: `KernelDirectoryTableBase` is there, wherever that is, and the CR3 of its saved state.
    pub(super) fn roots_in_kpcr(&self, vcpu: &Registers) -> Vec<PhysAddr> {
        let space = self.space(super::root_of(vcpu), levels_of(vcpu));
        let mut found = Vec::new();
        for kpcr in kpcrs(vcpu) {
            // KPCR.Self (0x18).
            if space.read_u64(kpcr.wrapping_add(0x18)) != Ok(kpcr.get()) {
                continue;
            }
            for page in (0..KPCR_BYTES).step_by(PAGE_SIZE as usize) {
                let mut bytes = [0; PAGE_SIZE as usize];
                if space.read(kpcr.wrapping_add(page), &mut bytes).is_err() {
                    continue;
                }
                for word in words(&bytes) {
                    // Bit 63 says that the TLB may keep its entries, the low twelve are the PCID.
                    let root = PhysAddr::new(word & ADDRESS);
                    if word & !ADDRESS & !(1 << 63) <= 0xfff
                        && !root.is_null()
                        && self.has_page(root)
                        && !found.contains(&root)
                    {
                        found.push(root);
                    }
                }
            }
        }
        found
    }

    /// CR3 and an address in the kernel's image out of `PROCESSOR_START_BLOCK` in the first MiB, which starts processors and wakes the
    /// machine: a jump, a mark, LmTarget (0x70) and the CR3 of the processor's state (0xa0).
    pub(super) fn low_stubs(&self) -> Vec<(PhysAddr, VirtAddr)> {
        let mut found = Vec::new();
        for page in (0x1000..0x10_0000).step_by(PAGE_SIZE as usize) {
            let at = |offset: u64| self.memory.read_u64(PhysAddr::new(page + offset));
            let (Ok(head), Ok(target), Ok(cr3)) = (at(0), at(0x70), at(0xa0)) else { continue };
            let marked = head & 0xffff_ffff_ffff_00ff == 0x0000_0001_0006_00e9;
            let root = PhysAddr::new(cr3 & ADDRESS);
            if marked && target >> 47 == 0x1_ffff && self.has_page(root) {
                found.push((root, VirtAddr::new(target)));
            }
        }
        found
    }

    fn has_page(&self, page: PhysAddr) -> bool {
        self.memory.regions().iter().any(|region| region.contains(page))
    }

    /// Tries all pages of memory that have an entry in the kernel's half that refers to the page itself, as page table roots of Windows
    /// have. Others may have one too: the translation decides.
    pub(super) fn self_references(&mut self) -> Option<Found<'m>> {
        let mut left = self.limits.kernel_candidates;
        chunks(self.memory, |start, chunk| {
            let pages = (start..).step_by(PAGE_SIZE as usize).zip(chunk.chunks_exact(PAGE_SIZE as usize));
            for (root, _) in pages.filter(|(at, page)| refers_to_itself(page, *at)) {
                let Some(fewer) = left.checked_sub(1) else { break };
                left = fewer;
                for levels in [Levels::Four, Levels::Five] {
                    if let Some(found) = self.try_root(PhysAddr::new(root), levels) {
                        return Some(found);
                    }
                }
            }
            None
        })
    }
}

/// Gives all of memory to `look`, in chunks of whole pages, until it finds something; zeros stand for what cannot be read.
pub(super) fn chunks<T>(memory: &dyn PhysMemory, mut look: impl FnMut(u64, &[u8]) -> Option<T>) -> Option<T> {
    let mut buffer = Vec::new();
    for region in memory.regions() {
        let Some(mut start) = region.start.get().checked_next_multiple_of(PAGE_SIZE) else { continue };
        loop {
            let left = region.end().get().saturating_sub(start);
            let len = left.min(CHUNK as u64) as usize & !(PAGE_SIZE as usize - 1);
            if len == 0 {
                break;
            }
            let chunk = if let Some(bytes) = memory.slice(PhysAddr::new(start), len) {
                bytes
            } else {
                buffer.resize(len, 0);
                read_pages(memory, start, &mut buffer);
                &buffer
            };
            if let Some(found) = look(start, chunk) {
                return Some(found);
            }
            start += len as u64;
        }
    }
    None
}

/// Reads page by page; zeros stand for what cannot be read.
fn read_pages(memory: &dyn PhysMemory, start: u64, buffer: &mut [u8]) {
    if memory.read(PhysAddr::new(start), buffer).is_ok() {
        return;
    }
    for (at, page) in (start..).step_by(PAGE_SIZE as usize).zip(buffer.chunks_mut(PAGE_SIZE as usize)) {
        if memory.read(PhysAddr::new(at), page).is_err() {
            page.fill(0);
        }
    }
}

/// Does an entry of the upper half lead to the page itself: present, writable, no large page?
fn refers_to_itself(page: &[u8], at: u64) -> bool {
    let upper = page.get(page.len() / 2..).unwrap_or_default();
    words(upper).any(|entry| entry & ADDRESS == at && entry & 0x83 == 0x03)
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).map(|word| u64_at(word, 0).unwrap_or_default())
}
