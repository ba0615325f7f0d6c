//! Finding the kernel: VMCOREINFO first, then the page table that it names, then what that maps.
//!
//! VMCOREINFO is reached by the page tables of a vCPU or of the real-mode trampoline where there are any, else by
//! looking at the start of every page. A page that looks right proves nothing (an earlier boot's can lie about), so each is
//! verified: its page table has to lead to its `_stext`, and to a `uts_namespace` with its release; and where there are
//! vCPUs, theirs have to lead to the same kernel.

mod image;
mod vmcoreinfo;

pub use vmcoreinfo::VmcoreInfo;

use alloc::format;
use alloc::string::{String, ToString};

use memchr::memmem;
use vmc::arch::x86_64::{Levels, X86PageTables};
use vmc::{AddressSpace, PageTables, PhysAddr, PhysMemory, ReadExt, Registers, Vcpus};

use crate::error::LinuxError;
use image::{START_KERNEL_MAP, roots_without_registers, vmcoreinfo_of};

/// A kernel, found and verified.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) info: VmcoreInfo,
    pub(crate) tables: PageTables,
}

/// Finds the kernel in `memory`.
pub(crate) fn find(memory: &dyn PhysMemory, vcpus: &dyn Vcpus) -> Result<Found, LinuxError> {
    let roots = vcpu_roots(vcpus);
    for tables in &roots {
        if let Some(found) = vmcoreinfo_of(memory, tables).and_then(|info| verify(memory, info).ok()) {
            return Ok(found);
        }
    }
    if roots.is_empty() {
        for tables in roots_without_registers(memory) {
            if let Some(found) = vmcoreinfo_of(memory, &tables).and_then(|info| verify(memory, info).ok()) {
                return Ok(found);
            }
        }
    }
    search(memory, &roots)
}

/// Looks at the start of every page.
fn search(memory: &dyn PhysMemory, roots: &[X86PageTables]) -> Result<Found, LinuxError> {
    let mut count = 0;
    let mut last = None;
    let mut not_running = None;
    for region in memory.regions() {
        for offset in (0..region.len).step_by(4096) {
            let Some(at) = region.start.checked_add(offset) else { break };
            let Some(info) = VmcoreInfo::at(memory, at) else { continue };
            count += 1;
            let release = info.release().to_string();
            match verify(memory, info) {
                Ok(found) if roots.is_empty() || roots.iter().any(|root| runs(memory, root, &found)) => {
                    return Ok(found);
                }
                Ok(found) => not_running = Some(found),
                Err(why) => last = Some((release, why)),
            }
        }
    }
    // A vCPU may be in firmware or in a trampoline: what was verified by itself is then all there is to go by.
    match (not_running, last) {
        (Some(found), _) => Ok(found),
        (None, Some((release, Unverified::Aarch64))) => {
            Err(LinuxError::Architecture { release, architecture: "aarch64" })
        }
        (None, Some((_, Unverified::Because(reason)))) => Err(LinuxError::NotVerified { count, reason }),
        (None, None) => Err(LinuxError::NotFound {
            mib: memory.total() >> 20,
            hint: banner_hint(memory).unwrap_or_default(),
        }),
    }
}

/// Do the page tables of a vCPU map the kernel that was found?
fn runs(memory: &dyn PhysMemory, root: &X86PageTables, found: &Found) -> bool {
    let Some(stext) = found.info.symbol("_stext") else { return false };
    match (root.walk(memory, stext), found.tables.walk(memory, stext)) {
        (Ok(theirs), Ok(ours)) => theirs.physical == ours.physical,
        _ => false,
    }
}

/// The roots that the vCPUs have loaded. Under KPTI the user's half of a pair has bit 12 set; the kernel's is the other.
fn vcpu_roots(vcpus: &dyn Vcpus) -> alloc::vec::Vec<X86PageTables> {
    let mut roots = alloc::vec::Vec::new();
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

/// Why a VMCOREINFO does not lead to a kernel.
#[derive(Debug)]
enum Unverified {
    /// It is of an architecture that is not read.
    Aarch64,
    /// Something that it says does not hold.
    Because(String),
}

/// Does what `info` says hold in memory?
fn verify(memory: &dyn PhysMemory, info: VmcoreInfo) -> Result<Found, Unverified> {
    if info.is_aarch64() {
        return Err(Unverified::Aarch64);
    }
    let wrong = Unverified::Because;
    let need = |name: &str| info.symbol(name).ok_or_else(|| wrong(format!("it does not tell {name}")));
    let swapper = need("swapper_pg_dir")?;
    let stext = need("_stext")?;
    let uts = need("init_uts_ns")?;
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
    // struct new_utsname: sysname, nodename, release, version, machine, domainname, 65 bytes each.
    let name = uts.wrapping_add(info.offset("uts_namespace.name").unwrap_or(0));
    let field = |index: u64| space.read_cstr(name.wrapping_add(index * 65), 65);
    match (field(0), field(2)) {
        (Ok(system), Ok(release)) if system == b"Linux" && release == info.release().as_bytes() => {}
        _ => return Err(wrong(format!("init_uts_ns at {uts} does not hold release {}", info.release()))),
    }
    Ok(Found { info, tables })
}

/// What else says that this is (or is not) a Linux guest: its banner.
fn banner_hint(memory: &dyn PhysMemory) -> Option<String> {
    const BANNER: &[u8] = b"Linux version ";
    let finder = memmem::Finder::new(BANNER);
    for region in memory.regions() {
        // Only where memory is lent: a search through a slow target would take longer than the hint is worth.
        let lent = usize::try_from(region.len).ok().and_then(|len| memory.slice(region.start, len));
        let Some(bytes) = lent else { continue };
        for at in finder.find_iter(bytes) {
            let rest = bytes.get(at + BANNER.len()..)?;
            let end = rest.iter().take(64).position(|byte| !byte.is_ascii_graphic()).unwrap_or(0);
            let release = core::str::from_utf8(rest.get(..end)?).ok()?;
            if release.starts_with(|c: char| c.is_ascii_digit()) && release.contains('.') {
                return Some(format!(
                    "; a banner says Linux {release}, built without it (CONFIG_CRASH_DUMP, CONFIG_VMCORE_INFO): not read yet"
                ));
            }
        }
    }
    None
}
