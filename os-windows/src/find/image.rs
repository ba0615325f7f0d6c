//! ntoskrnl under a page table root: where hints, version blocks and handlers of interrupts lead.

use alloc::vec::Vec;

use vmc::addr::PAGE_SIZE;
use vmc::arch::x86_64::Registers;
use vmc::bytes::{array_at, u16_at, u32_at};
use vmc::{AddressSpace, ReadExt, VirtAddr, VirtualMemory};

use super::{Kernel, Search};
use crate::pe::Image;

/// Sizes of kernels: 5 to 20 MiB, times a margin.
const SIZES: core::ops::RangeInclusive<u32> = 1 << 20..=1 << 27;
/// Pages before an address in the kernel in which its header is looked for: 64 MiB.
const BACK_PAGES: u64 = 1 << 14;
/// Words of a stack that may be return addresses into the kernel.
const STACK_WORDS: u64 = 512;

/// The kernel whose header is at `base`: an AMD64 image that calls itself `ntoskrnl.exe`, or whose PDB is a kernel's.
pub(super) fn kernel_at<V: VirtualMemory + ?Sized>(memory: &V, base: VirtAddr) -> Option<Kernel> {
    let image = Image::read(memory, base).ok()?;
    if image.machine() != Image::AMD64 || !image.wide() || !SIZES.contains(&image.size()) {
        return None;
    }
    let code_view = image.code_view(memory).ok().flatten();
    let exports = image.export_name(memory).ok().flatten();
    let named = exports.is_some_and(|name| name.eq_ignore_ascii_case("ntoskrnl.exe"));
    let pdb = code_view.as_ref().is_some_and(|record| {
        let file = record.name.rsplit(['\\', '/']).next().unwrap_or_default().to_ascii_lowercase();
        ["ntkrnlmp.pdb", "ntoskrnl.pdb", "ntkrnlpa.pdb", "ntkrpamp.pdb", "ntkrla57.pdb"]
            .contains(&file.as_str())
    });
    (named || pdb).then(|| Kernel {
        base,
        size: image.size().into(),
        timestamp: Some(image.timestamp()),
        code_view,
        ..Kernel::default()
    })
}

impl Search<'_, '_> {
    /// Looks where something leads to: no search through all that is mapped.
    pub(super) fn kernel_near(&self, space: &AddressSpace<'_>) -> Option<Kernel> {
        if let Some(kernel) = self.hints.kernel_base.and_then(|base| kernel_at(space, base)) {
            return Some(kernel);
        }
        let mut places = Places::default();
        let mut headless = None;
        for vcpu in &self.registers {
            for kpcr in super::roots::kpcrs(vcpu) {
                if space.read_u64(kpcr.wrapping_add(0x18)) != Ok(kpcr.get()) {
                    continue;
                }
                // KPCR.KdVersionBlock (0x108), that of the first processor at the least.
                if let Ok(block) = space.read_pointer(kpcr.wrapping_add(0x108))
                    && let Some(kernel) = by_version_block(space, block)
                {
                    match kernel_at(space, kernel.base) {
                        Some(found) => {
                            return Some(Kernel { loaded_module_list: kernel.loaded_module_list, ..found });
                        }
                        None => headless = Some(kernel),
                    }
                }
                // KPCR.IdtBase (0x38).
                if let Ok(idt) = space.read_pointer(kpcr.wrapping_add(0x38)) {
                    places.handlers(space, idt);
                }
            }
            if !vcpu.in_user_mode() {
                places.stack(space, vcpu);
            }
        }
        for (_, target) in self.low_stubs() {
            places.add(target);
        }
        places.search(space).or(headless)
    }
}

/// `DBGKD_GET_VERSION64` (wdbgexts.h): MachineType at 8, KernBase at 0x10, PsLoadedModuleList at 0x18. Believed when the first
/// entry of that list is of an image at that base (DllBase at 0x30 of the loader's entries, which debuggers rely on).
fn by_version_block(space: &AddressSpace<'_>, block: VirtAddr) -> Option<Kernel> {
    let head: [u8; 0x20] = space.read_value(block).ok()?;
    if u16_at(&head, 8)? != Image::AMD64 {
        return None;
    }
    let base = VirtAddr::new(u64::from_le_bytes(array_at(&head, 0x10)?));
    let list = VirtAddr::new(u64::from_le_bytes(array_at(&head, 0x18)?));
    lists_kernel(space, list, base).then(|| Kernel {
        base,
        loaded_module_list: Some(list),
        ..Kernel::default()
    })
}

/// Is the first entry of the list of modules at `list` that of an image at `base`?
pub(super) fn lists_kernel(space: &AddressSpace<'_>, list: VirtAddr, base: VirtAddr) -> bool {
    let first = space.read_pointer(list);
    let told = first.and_then(|first| space.read_pointer(first.wrapping_add(0x30)));
    told == Ok(base) && base.is_aligned(PAGE_SIZE)
}

/// Addresses that should lie in the kernel's image.
#[derive(Default)]
struct Places(Vec<VirtAddr>);

impl Places {
    fn add(&mut self, place: VirtAddr) {
        let place = place.align_down(PAGE_SIZE);
        if place.get() >> 47 == 0x1_ffff && self.0.len() < 4096 && !self.0.contains(&place) {
            self.0.push(place);
        }
    }

    /// The handlers of an interrupt descriptor table (16 bytes an entry).
    fn handlers(&mut self, space: &AddressSpace<'_>, idt: VirtAddr) {
        for index in 0..256 {
            let Ok(gate) = space.read_value::<[u8; 16]>(idt.wrapping_add(index * 16)) else { break };
            let (Some(low), Some(middle), Some(high)) =
                (u16_at(&gate, 0), u16_at(&gate, 6), u32_at(&gate, 8))
            else {
                break;
            };
            // Present.
            if gate.get(5).is_some_and(|kind| kind & 0x80 != 0) {
                self.add(VirtAddr::new(u64::from(low) | u64::from(middle) << 16 | u64::from(high) << 32));
            }
        }
    }

    /// Where a vCPU runs, and what may be return addresses on its stack.
    fn stack(&mut self, space: &AddressSpace<'_>, vcpu: &Registers) {
        self.add(VirtAddr::new(vcpu.rip));
        for word in 0..STACK_WORDS {
            let Ok(value) = space.read_u64(VirtAddr::new(vcpu.rsp()).wrapping_add(word * 8)) else { break };
            // Images lie in the upper 8 TiB.
            if value >> 43 == 0x1f_ffff {
                self.add(VirtAddr::new(value));
            }
        }
    }

    /// Goes back from each, page by page, over what is not mapped too; no page is looked at twice.
    fn search(mut self, space: &AddressSpace<'_>) -> Option<Kernel> {
        let mut seen: Vec<(u64, u64)> = Vec::new();
        let mut budget = BACK_PAGES * 16;
        // The lower one of two in the same image leaves less to be gone back over.
        self.0.sort_unstable();
        for place in self.0 {
            let top = place.get();
            let mut at = top;
            for _ in 0..BACK_PAGES {
                if let Some((low, _)) = seen.iter().find(|(low, high)| (*low..=*high).contains(&at)) {
                    at = *low;
                } else {
                    budget = budget.checked_sub(1)?;
                    if let Some(kernel) = kernel_at(space, VirtAddr::new(at))
                        && top - at < kernel.size
                    {
                        return Some(kernel);
                    }
                }
                at = at.checked_sub(PAGE_SIZE)?;
                if top - at > BACK_PAGES * PAGE_SIZE {
                    break;
                }
            }
            seen.push((at, top));
        }
        None
    }
}
