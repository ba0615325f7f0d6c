//! Finding the kernel: VMCOREINFO first, then the page table that it names, then what that maps.
//!
//! VMCOREINFO is reached by the page tables of a vCPU or of the real-mode trampoline where there are any, else by
//! looking at the start of every page. A page that looks right proves nothing (an earlier boot's can lie about), so each is
//! verified: its page table has to lead to its `_stext`, and to a `uts_namespace` with its release; and where there are
//! vCPUs, theirs have to lead to the same kernel.

mod aarch64;
mod base;
mod vmcoreinfo;
pub(crate) mod without;
mod x86_64;

pub use base::ram_base;
pub use vmcoreinfo::VmcoreInfo;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use memchr::memmem;
use vmc::{AddressSpace, Limits, PageTables, PhysMemory, ReadExt, Vcpus, VirtAddr};

use crate::error::LinuxError;
use crate::identity::KernelIdentity;

/// What a kernel's banner begins with (`linux_banner`, `init/version.c`).
pub(crate) const BANNER: &[u8; 14] = b"Linux version ";

/// A kernel, found and verified.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) identity: KernelIdentity,
    pub(crate) tables: PageTables,
}

/// Finds the kernel in `memory`.
pub(crate) fn find(memory: &dyn PhysMemory, vcpus: &dyn Vcpus, limits: &Limits) -> Result<Found, LinuxError> {
    if let Some(found) = x86_64::find_by_tables(memory, vcpus) {
        return Ok(found);
    }
    search(memory, vcpus, limits)
}

/// Looks at the start of every page, until so many as the limit allows have looked right.
fn search(memory: &dyn PhysMemory, vcpus: &dyn Vcpus, limits: &Limits) -> Result<Found, LinuxError> {
    let roots: Vec<_> = x86_64::vcpu_roots(memory, vcpus).into_iter().map(PageTables::X86_64).collect();
    let runs = |found: &Found| match &found.tables {
        PageTables::Aarch64(tables) => aarch64::runs(memory, vcpus, tables),
        _ => roots.is_empty() || roots.iter().any(|root| runs(memory, root, found)),
    };
    let mut count = 0;
    let mut last = None;
    let mut not_running = None;
    'pages: for region in memory.regions() {
        for offset in (0..region.len).step_by(4096) {
            let Some(at) = region.start.checked_add(offset) else { break };
            let Some(info) = VmcoreInfo::at(memory, at) else { continue };
            if count == limits.kernel_candidates {
                break 'pages;
            }
            count += 1;
            match verify(memory, info) {
                Ok(found) if runs(&found) => return Ok(found),
                Ok(found) => not_running = Some(found),
                Err(why) => last = Some(why),
            }
        }
    }
    // What runs may have none, and one that is there be an earlier kernel's.
    if let Some(found) = x86_64::find_without(memory, vcpus) {
        return Ok(found);
    }
    // A vCPU may be in firmware or in a trampoline: what was verified by itself is then all there is to go by.
    match (not_running, last) {
        (Some(found), _) => Ok(found),
        (None, Some(Unverified::Because(reason))) => Err(LinuxError::NotVerified { count, reason }),
        (None, None) => Err(match (banner_hint(memory), x86_64::encrypted(memory, vcpus)) {
            (None, Some(root)) => LinuxError::Encrypted { root },
            (hint, _) => LinuxError::NotFound { mib: memory.total() >> 20, hint: hint.unwrap_or_default() },
        }),
    }
}

/// Do the page tables of a vCPU map the kernel that was found?
fn runs(memory: &dyn PhysMemory, root: &PageTables, found: &Found) -> bool {
    let stext = found.identity.stext;
    match (root.walk(memory, stext), found.tables.walk(memory, stext)) {
        (Ok(theirs), Ok(ours)) => theirs.physical == ours.physical,
        _ => false,
    }
}

/// Why a VMCOREINFO does not lead to a kernel.
#[derive(Debug)]
enum Unverified {
    /// Something that it says does not hold.
    Because(String),
}

/// Does what `info` says hold in memory?
fn verify(memory: &dyn PhysMemory, info: VmcoreInfo) -> Result<Found, Unverified> {
    if info.is_aarch64() {
        return aarch64::verify(memory, info);
    }
    x86_64::verify(memory, info)
}

/// The kernel's identity, if `space` has it where `info` says that its names are.
fn system_names(space: &AddressSpace<'_>, info: VmcoreInfo) -> Result<KernelIdentity, Unverified> {
    let wrong = Unverified::Because;
    let need = |name: &str| info.symbol(name).ok_or_else(|| wrong(format!("it does not tell {name}")));
    let (stext, uts) = (need("_stext")?, need("init_uts_ns")?);
    // struct new_utsname: sysname, nodename, release, version, machine, domainname, 65 bytes each. Where it lies in the
    // namespace is told since 5.11; before, a counter of references stands in front of it.
    let told = info.offset("uts_namespace.name").map(|offset| uts.wrapping_add(offset));
    let Some(names) = told.into_iter().chain([uts]).find_map(|at| names_at(space, at, info.release())) else {
        return Err(wrong(format!("init_uts_ns at {uts} does not hold release {}", info.release())));
    };
    Ok(KernelIdentity {
        release: info.release().to_string(),
        banner: None,
        build_id: info.build_id(),
        stext,
        names,
        kaslr_offset: info.kaslr_offset(),
        vmcoreinfo: Some(info),
    })
}

/// The `struct new_utsname` with this release at the start of a `struct uts_namespace`, or behind its counter of references.
pub(crate) fn names_at(space: &AddressSpace<'_>, namespace: VirtAddr, release: &str) -> Option<VirtAddr> {
    [0, 4, 8].map(|offset| namespace.wrapping_add(offset)).into_iter().find(|names| {
        let field = |index: u64| space.read_cstr(names.wrapping_add(index * 65), 65);
        field(0).is_ok_and(|system| system == b"Linux")
            && field(2).is_ok_and(|found| found == release.as_bytes())
    })
}

/// What else says that this is (or is not) a Linux guest: its banner.
fn banner_hint(memory: &dyn PhysMemory) -> Option<String> {
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
                    "; a banner says Linux {release}, but no page tables lead to its image"
                ));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use vmc::PhysAddr;
    use vmc::memory::FlatMemory;
    use vmc::vcpu::NoVcpus;

    use super::*;

    /// Memory whose every page is a VMCOREINFO with `text`.
    fn pages(text: &str, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count * 4096];
        for page in bytes.chunks_mut(4096) {
            page[..text.len()].copy_from_slice(text.as_bytes());
        }
        bytes
    }

    #[test]
    fn candidates_without_end_are_not_followed() {
        let bytes = pages("OSRELEASE=6.1\nSYMBOL(swapper_pg_dir)=ffffffff81000000\n", 40);
        let memory = FlatMemory::new(PhysAddr::new(0), &bytes);
        for (most, expected) in [(7, 7), (40, 40), (100, 40)] {
            let limits = Limits { kernel_candidates: most, ..Limits::default() };
            match find(&memory, &NoVcpus, &limits) {
                Err(LinuxError::NotVerified { count, .. }) => assert_eq!(count, expected),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_kernel_at_the_end_of_all_addresses_has_no_base() {
        let text = "OSRELEASE=6.1\nSYMBOL(swapper_pg_dir)=ffffffffffffff00\nSYMBOL(_stext)=fffffffffffff000\n\
            NUMBER(kimage_voffset)=0\nPAGESIZE=4096\n";
        let bytes = pages(text, 2);
        assert_eq!(ram_base(&FlatMemory::new(PhysAddr::new(0), &bytes)), None);
    }
}
