//! Finding an aarch64 kernel: what its VMCOREINFO says, verified by walking its page table.
//!
//! Source: `arch/arm64/kernel/vmcore_info.c` (`crash_core.c` before 6.9). The image's virtual addresses lie `kimage_voffset` above
//! its physical ones. `VA_BITS` is what the kernel was built for, `TCR_EL1_T1SZ` what the CPU has; how many bits the page table
//! resolves follows from one or the other, so both are tried.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use vmc::arch::aarch64::{Aarch64PageTables, Granule, Half};
use vmc::{AddressSpace, PageTables, PhysAddr, PhysMemory, Registers, Vcpus, VirtAddr};

use super::{Found, Unverified, VmcoreInfo, system_names};

/// The sizes that kernels are built for, where it is told neither way (`arch/arm64/Kconfig`, ARM64_VA_BITS).
const BITS: [u8; 6] = [48, 39, 52, 47, 42, 36];
/// With more bits than these, pages of 4 and 16 KiB need FEAT_LPA2.
const BITS_WITHOUT_DS: u8 = 48;

/// Does what `info` says hold in memory?
pub(super) fn verify(memory: &dyn PhysMemory, info: VmcoreInfo) -> Result<Found, Unverified> {
    let wrong = Unverified::Because;
    let need = |name: &str| info.symbol(name).ok_or_else(|| wrong(format!("it does not tell {name}")));
    let (swapper, stext) = (need("swapper_pg_dir")?, need("_stext")?);
    let voffset =
        info.number("kimage_voffset").ok_or_else(|| wrong("it does not tell kimage_voffset".to_string()))?;
    let physical = |address: VirtAddr| PhysAddr::new(address.get().wrapping_sub(voffset.cast_unsigned()));
    let granule = info.page_size().and_then(Granule::of_bytes);
    let granule = granule.ok_or_else(|| wrong("it does not tell a page size that there is".to_string()))?;
    // The likeliest size's reason counts.
    let mut first = None;
    for (bits, ds) in sizes(&info, granule) {
        let half = Half { root: physical(swapper), bits };
        let tables = Aarch64PageTables::new(granule).with_upper(half).with_ds(ds);
        match tables.walk(memory, stext) {
            Ok(walk) if walk.physical == physical(stext) => {
                let tables = PageTables::Aarch64(tables);
                let identity = system_names(&AddressSpace::with_tlb(memory, tables, 16), info)?;
                return Ok(Found { identity, tables });
            }
            Ok(walk) => first = first.or(Some(format!("to {}, not {}", walk.physical, physical(stext)))),
            Err(why) => first = first.or(Some(format!("nowhere: {why}"))),
        }
    }
    Err(wrong(format!("its page table maps _stext {}", first.unwrap_or_default())))
}

/// The physical addresses of the kernel's code and of its page table, the lower one first.
pub(super) fn extent(info: &VmcoreInfo) -> Option<(PhysAddr, PhysAddr)> {
    let voffset = info.number("kimage_voffset")?.cast_unsigned();
    let physical = |name: &str| Some(PhysAddr::new(info.symbol(name)?.get().wrapping_sub(voffset)));
    let (code, table) = (physical("_stext")?, physical("swapper_pg_dir")?);
    Some((code.min(table), code.max(table)))
}

/// How many bits the page table may resolve, and whether its entries may hold 52-bit addresses, the likeliest first.
fn sizes(info: &VmcoreInfo, granule: Granule) -> Vec<(u8, bool)> {
    let told = info.number("TCR_EL1_T1SZ").and_then(|size| 64u8.checked_sub(u8::try_from(size).ok()?));
    let built = info.number("VA_BITS").and_then(|bits| u8::try_from(bits).ok());
    let mut sizes = Vec::new();
    for bits in told.into_iter().chain(built).chain(BITS) {
        let wide = granule != Granule::K64 && bits > BITS_WITHOUT_DS;
        for size in [(bits, wide), (bits, !wide)] {
            if !sizes.contains(&size) {
                sizes.push(size);
            }
        }
    }
    sizes
}

/// Do the vCPUs run the kernel that `tables` map? Only those that are in the kernel tell.
pub(super) fn runs(memory: &dyn PhysMemory, vcpus: &dyn Vcpus, tables: &Aarch64PageTables) -> bool {
    let mut none = true;
    for index in 0..vcpus.count() {
        let Ok(Registers::Aarch64(registers)) = vcpus.registers(index) else { continue };
        if registers.in_user_mode() {
            continue;
        }
        none = false;
        let pc = VirtAddr::new(registers.pc);
        if tables.walk(memory, pc).is_ok_and(|walk| walk.executable && !walk.user) {
            return true;
        }
    }
    none
}
