//! Is what should be code mapped, and is it code?

use vmc::{PageTables, PhysMemory, VirtAddr};

use super::VerifyError;

/// Bytes that are looked at.
const LOOK: usize = 16;

/// The code that a vCPU executes. None where it cannot be told: an address below 4 GiB may be a 32-bit kernel's, whose page
/// tables are others.
pub(super) fn executed(
    memory: &dyn PhysMemory,
    tables: &PageTables,
    vcpu: usize,
    address: VirtAddr,
) -> Result<Option<String>, VerifyError> {
    match look(memory, tables, address) {
        Ok(()) => Ok(Some(format!("the code that vCPU {vcpu} executes"))),
        Err(_) if address.get() < 1 << 32 => Ok(None),
        Err(reason) => Err(VerifyError::Code { vcpu, what: "code", address, reason }),
    }
}

/// Code that the kernel is entered by.
pub(super) fn entry(
    memory: &dyn PhysMemory,
    tables: &PageTables,
    vcpu: usize,
    address: VirtAddr,
) -> Result<String, VerifyError> {
    match look(memory, tables, address) {
        Ok(()) => Ok(format!("the kernel's entry at {address}")),
        Err(reason) => Err(VerifyError::Code { vcpu, what: "entry to the kernel", address, reason }),
    }
}

fn look(memory: &dyn PhysMemory, tables: &PageTables, address: VirtAddr) -> Result<(), String> {
    let walk = tables.walk(memory, address).map_err(|why| format!("is not mapped: {why}"))?;
    if !walk.executable {
        return Err("is not mapped as code".to_owned());
    }
    let left = usize::try_from(walk.page_size - address.offset_in(walk.page_size)).unwrap_or(LOOK);
    let mut bytes = [0; LOOK];
    let bytes = bytes.get_mut(..left.min(LOOK)).unwrap_or_default();
    memory.read(walk.physical, bytes).map_err(|why| format!("is mapped to nothing: {why}"))?;
    // Memory that nobody has written to, and what fills gaps.
    match bytes.first() {
        Some(first @ (0 | 0xff)) if bytes.iter().all(|byte| byte == first) => {
            Err(format!("holds nothing but {first:#04x}"))
        }
        _ => Ok(()),
    }
}
