//! Finding an x86_64 kernel: from the vCPUs' page tables or those that memory gives away, to its VMCOREINFO, and what that
//! says verified.

mod image;

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use vmc::arch::x86_64::{Levels, X86PageTables};
use vmc::{AddressSpace, PageTables, PhysAddr, PhysMemory, Registers, TranslateError, Vcpus, VirtAddr};

use super::{Found, Unverified, VmcoreInfo, system_names, without};
use image::{START_KERNEL_MAP, roots_without_registers, vmcoreinfo_of};

/// The image's part of the address space.
const IMAGE_BYTES: u64 = 1 << 30;
/// CR0.PG.
const PAGING: u64 = 1 << 31;

/// The kernel that the vCPUs' page tables lead to; without vCPUs, those that memory gives away.
pub(super) fn find_by_tables(memory: &dyn PhysMemory, vcpus: &dyn Vcpus) -> Option<Found> {
    let lead =
        |tables: X86PageTables| vmcoreinfo_of(memory, &tables).and_then(|info| verify(memory, info).ok());
    let roots = vcpu_roots(memory, vcpus);
    if roots.is_empty() && vcpus.count() == 0 {
        return roots_without_registers(memory).into_iter().find_map(lead);
    }
    roots.into_iter().find_map(lead)
}

/// A kernel without VMCOREINFO that the vCPUs' page tables lead to; without vCPUs, those that memory gives away.
pub(super) fn find_without(memory: &dyn PhysMemory, vcpus: &dyn Vcpus) -> Option<Found> {
    let roots = if vcpus.count() == 0 { roots_without_registers(memory) } else { vcpu_roots(memory, vcpus) };
    roots.into_iter().map(PageTables::X86_64).find_map(|tables| {
        let identity = without::identity(&AddressSpace::with_tlb(memory, tables, 64))?;
        Some(Found { identity, tables })
    })
}

/// A root that a vCPU has loaded with paging on, where there is no page table: what else than encryption makes that?
pub(super) fn encrypted(memory: &dyn PhysMemory, vcpus: &dyn Vcpus) -> Option<PhysAddr> {
    let mut first = None;
    for index in 0..vcpus.count() {
        let Ok(Registers::X86_64(registers)) = vcpus.registers(index) else { continue };
        // The last is the one that is loaded, whatever else it may be the half of.
        let Some(tables) = roots_of(memory, &registers).pop().filter(|_| registers.cr0 & PAGING != 0) else {
            continue;
        };
        if !scrambled(memory, tables.root()) {
            return None;
        }
        first = first.or(Some(tables.root()));
    }
    first
}

/// Is the page certainly no top page table, nor an empty page? A table's entries are zero, or present, point into memory and map
/// no large page; of random bytes three in four are neither.
fn scrambled(memory: &dyn PhysMemory, root: PhysAddr) -> bool {
    let end = memory.regions().last().map_or(0, |region| region.end().get());
    let entries = (0..512).map_while(|slot| memory.read_u64(root.wrapping_add(slot * 8)).ok());
    let wrong = entries.filter(|entry| {
        let address = entry & 0x000f_ffff_ffff_f000 & low_bits(end);
        *entry != 0 && (entry & 1 == 0 || entry & 0x80 != 0 || address >= end)
    });
    wrong.count() > 256
}

/// The bits of an address below `end`.
const fn low_bits(end: u64) -> u64 {
    match end.checked_next_power_of_two() {
        Some(power) => power.wrapping_sub(1),
        None => u64::MAX,
    }
}

/// The roots that the vCPUs have loaded. Under KPTI the user's half of a pair has bit 12 set; the kernel's is the other.
pub(super) fn vcpu_roots(memory: &dyn PhysMemory, vcpus: &dyn Vcpus) -> Vec<X86PageTables> {
    let mut roots = Vec::new();
    for index in 0..vcpus.count() {
        let Ok(Registers::X86_64(registers)) = vcpus.registers(index) else { continue };
        for tables in roots_of(memory, &registers) {
            if !roots.contains(&tables) {
                roots.push(tables);
            }
        }
    }
    roots
}

/// The roots that a vCPU has loaded. Where CR3 lies beyond all memory, its highest bit is AMD's mark of encrypted memory
/// (`sme_me_mask`), as in all entries.
fn roots_of(memory: &dyn PhysMemory, registers: &vmc::arch::x86_64::Registers) -> Vec<X86PageTables> {
    let levels = if registers.five_levels() { Levels::Five } else { Levels::Four };
    let end = memory.regions().last().map_or(0, |region| region.end().get());
    let root = registers.page_table_root();
    let mark = match root {
        root if root < end || root == 0 => 0,
        root => 1 << root.ilog2(),
    };
    let mut roots = Vec::new();
    for root in [root & !mark & !0x1000, root & !mark] {
        let tables = X86PageTables::new(PhysAddr::new(root), levels).without_address_bits(mark);
        if root != 0 && !roots.contains(&tables) {
            roots.push(tables);
        }
    }
    roots
}

/// An address of the image that is not mapped to the piece of memory that `stext` begins at `mapped`: the image lies in one
/// piece, and an earlier boot's page tables that the living kernel took over lead into another one. Each lowest table maps
/// 2 MiB; of each, the first of eight pages that is there is asked.
fn elsewhere(space: &AddressSpace<'_>, stext: VirtAddr, mapped: PhysAddr) -> Option<VirtAddr> {
    const TABLE: u64 = 2 << 20;
    let first = stext.align_down(TABLE);
    for table in (0..IMAGE_BYTES).step_by(TABLE as usize) {
        let start = first.checked_add(table).filter(|at| at.get() < START_KERNEL_MAP + IMAGE_BYTES)?;
        for page in (0..TABLE).step_by(TABLE as usize / 8) {
            let at = start.wrapping_add(page);
            match space.translate(at) {
                Ok(found) => {
                    let into = at.get().wrapping_sub(stext.get());
                    if found != mapped.wrapping_add(into) {
                        return Some(at);
                    }
                    break;
                }
                // What was given back after boot; the image ends where there is no table.
                Err(TranslateError::NotPresent { level: 1, .. }) => {}
                Err(_) => return None,
            }
        }
    }
    None
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
    // AMD's mark of encrypted memory, where it is in use.
    let mark = info.number("sme_mask").unwrap_or(0).cast_unsigned();
    let root = X86PageTables::new(PhysAddr::new(physical(swapper.get())), levels);
    let tables = PageTables::X86_64(root.without_address_bits(mark));
    let space = AddressSpace::with_tlb(memory, tables, 16);
    let mapped =
        space.translate(stext).map_err(|e| wrong(format!("its page table does not map _stext: {e}")))?;
    if mapped.get() != physical(stext.get()) {
        return Err(wrong(format!(
            "its page table maps _stext to {mapped}, not {:#x}",
            physical(stext.get())
        )));
    }
    // What costs least comes first: looking for an address elsewhere takes thousands of walks.
    let identity = system_names(&space, info)?;
    if let Some(at) = elsewhere(&space, stext, mapped) {
        return Err(wrong(format!("its page table does not map {at} to where its image lies")));
    }
    Ok(Found { identity, tables })
}
