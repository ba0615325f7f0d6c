//! Tables that firmware and boot loaders leave in memory, and that say where memory is.
//!
//! Sources: the ACPI specification, 5.2.5 and 5.2.6; `Documentation/arch/x86/zero-page.rst` and `boot.rst` of Linux; Firecracker
//! and Cloud Hypervisor put the page of boot parameters at 0x7000 (`ZERO_PAGE_START` in their layouts).

use vmc::bytes::{array_at, u8_at, u32_at, u64_at};
use vmc::{PhysAddr, PhysMemory, Region};

use super::VerifyError;

/// Where ACPI's pointer may be.
const RSDP_FROM: u64 = 0xe_0000;
const RSDP_TO: u64 = 0x10_0000;

/// Where boot parameters are, where a monitor loads Linux itself.
const BOOT_PARAMETERS: u64 = 0x7000;

/// A table of ACPI's is no longer than this.
const LONGEST: usize = 64 << 10;

/// What was confirmed; `pieces` says of which pieces.
pub(super) fn look(memory: &dyn PhysMemory, pieces: &mut [bool]) -> Result<Vec<String>, VerifyError> {
    let mut confirmed = Vec::new();
    confirmed.extend(acpi(memory)?);
    if boot_parameters(memory)? {
        // It names all RAM: the pieces' ends are confirmed by it.
        pieces.fill(true);
        confirmed.push("the memory map that the guest was booted with".to_owned());
    }
    Ok(confirmed)
}

/// ACPI's pointer in the last of the first MiB, and the table that it leads to.
fn acpi(memory: &dyn PhysMemory) -> Result<Option<String>, VerifyError> {
    let mut area = vec![0; (RSDP_TO - RSDP_FROM) as usize];
    if memory.read(PhysAddr::new(RSDP_FROM), &mut area).is_err() {
        return Ok(None);
    }
    let rsdp = (0..area.len()).step_by(16).find_map(|start| {
        let whole = area.get(start..start + 20)?;
        (whole.starts_with(b"RSD PTR ") && sum(whole) == 0).then_some(whole)
    });
    let Some(at) = rsdp.and_then(|rsdp| u32_at(rsdp, 16)).map(|at| PhysAddr::new(at.into())) else {
        return Ok(None);
    };
    let wrong = |reason| Err(VerifyError::Firmware { what: "ACPI's table RSDT", at, reason });
    if at.is_null() {
        return Ok(None);
    }
    let mut header = [0; 36];
    if memory.read(at, &mut header).is_err() {
        return wrong("is not in memory");
    }
    let len = u32_at(&header, 4).and_then(|len| usize::try_from(len).ok()).unwrap_or_default();
    if !header.starts_with(b"RSDT") || !(36..=LONGEST).contains(&len) {
        return wrong("is not there");
    }
    let mut table = vec![0; len];
    if memory.read(at, &mut table).is_err() || sum(&table) != 0 {
        return wrong("is damaged");
    }
    Ok(Some("ACPI's tables".to_owned()))
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

/// Boot parameters of Linux, and whether all RAM that they name is there. False where there are none.
fn boot_parameters(memory: &dyn PhysMemory) -> Result<bool, VerifyError> {
    let mut page = [0; 4096];
    let at = PhysAddr::new(BOOT_PARAMETERS);
    let magic = |page: &[u8; 4096]| array_at(page, 0x202) == Some(*b"HdrS");
    if memory.read(at, &mut page).is_err() || !magic(&page) {
        return Ok(false);
    }
    let count = usize::from(u8_at(&page, 0x1e8).unwrap_or_default()).min(128);
    let regions = memory.regions();
    let mut any = false;
    for entry in page.get(0x2d0..).unwrap_or_default().chunks_exact(20).take(count) {
        let (Some(start), Some(len), Some(1)) = (u64_at(entry, 0), u64_at(entry, 8), u32_at(entry, 16))
        else {
            continue;
        };
        if !is_covered(start, len, regions) {
            let what = "the memory map that the guest was booted with";
            return Err(VerifyError::Firmware { what, at, reason: "has RAM that the layout does not have" });
        }
        any |= len > 0;
    }
    Ok(any)
}

/// Regions that touch are one.
fn is_covered(start: u64, len: u64, regions: &[Region]) -> bool {
    let Some(end) = start.checked_add(len) else { return false };
    len == 0 || regions.iter().any(|region| region.start.get() <= start && end <= region.end().get())
}
