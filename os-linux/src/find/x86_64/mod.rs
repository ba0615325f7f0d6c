//! Finding an x86_64 kernel: from the vCPUs' page tables or those that memory gives away, to its VMCOREINFO, and what that
//! says verified.

mod image;

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use vmc::arch::x86_64::{Levels, X86PageTables};
use vmc::{AddressSpace, PageTables, PhysAddr, PhysMemory, Registers, Vcpus};

use super::{Found, Unverified, VmcoreInfo, system_names};
use image::{START_KERNEL_MAP, roots_without_registers, vmcoreinfo_of};

/// The kernel that the vCPUs' page tables lead to; without vCPUs, those that memory gives away.
pub(super) fn find_by_tables(memory: &dyn PhysMemory, vcpus: &dyn Vcpus) -> Option<Found> {
    let lead =
        |tables: X86PageTables| vmcoreinfo_of(memory, &tables).and_then(|info| verify(memory, info).ok());
    let roots = vcpu_roots(vcpus);
    if roots.is_empty() && vcpus.count() == 0 {
        return roots_without_registers(memory).into_iter().find_map(lead);
    }
    roots.into_iter().find_map(lead)
}

/// The roots that the vCPUs have loaded. Under KPTI the user's half of a pair has bit 12 set; the kernel's is the other.
pub(super) fn vcpu_roots(vcpus: &dyn Vcpus) -> Vec<X86PageTables> {
    let mut roots = Vec::new();
    for index in 0..vcpus.count() {
        let Ok(Registers::X86_64(registers)) = vcpus.registers(index) else { continue };
        let levels = if registers.five_levels() { Levels::Five } else { Levels::Four };
        let root = registers.page_table_root();
        for root in [root & !0x1000, root] {
            let tables = X86PageTables::new(PhysAddr::new(root), levels);
            if root != 0 && !roots.contains(&tables) {
                roots.push(tables);
            }
        }
    }
    roots
}

/// Does what `info` says hold in memory?
pub(super) fn verify(memory: &dyn PhysMemory, info: VmcoreInfo) -> Result<Found, Unverified> {
    let wrong = Unverified::Because;
    let need = |name: &str| info.symbol(name).ok_or_else(|| wrong(format!("it does not tell {name}")));
    let swapper = need("swapper_pg_dir")?;
    let stext = need("_stext")?;
    let phys_base =
        info.number("phys_base").ok_or_else(|| wrong("it does not tell phys_base".to_string()))?;
    let physical =
        |address: u64| address.wrapping_sub(START_KERNEL_MAP).wrapping_add(phys_base.cast_unsigned());
    let levels = if info.number("pgtable_l5_enabled") == Some(1) { Levels::Five } else { Levels::Four };
    let tables = PageTables::X86_64(X86PageTables::new(PhysAddr::new(physical(swapper.get())), levels));
    let space = AddressSpace::with_tlb(memory, tables, 16);
    let mapped =
        space.translate(stext).map_err(|e| wrong(format!("its page table does not map _stext: {e}")))?;
    if mapped.get() != physical(stext.get()) {
        return Err(wrong(format!(
            "its page table maps _stext to {mapped}, not {:#x}",
            physical(stext.get())
        )));
    }
    let identity = system_names(&space, info)?;
    Ok(Found { identity, tables })
}
