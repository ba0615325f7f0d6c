//! Machines without a known system: where each vCPU stands, and its callers as long as frame pointers hold.

use vmc::arch::x86_64::{Levels, X86PageTables};
use vmc::{AddressSpace, PageTables, PhysAddr, PhysMemory, ReadExt, Registers, VirtAddr};
use vmc_unwind::CodeAddress;

/// Frames of one stack.
const FRAMES: usize = 64;
/// A caller's frame lies above, not farther away than this.
const FRAME_BYTES: u64 = 1 << 20;
/// CR0's bit for paging.
const PAGING: u64 = 1 << 31;

/// Where it stands.
pub(crate) const fn innermost(registers: &Registers) -> CodeAddress {
    CodeAddress::InstructionPointer(registers.instruction_pointer())
}

/// Where it stands, and its callers. Of a machine without paging, or of another architecture, where it stands alone.
pub(crate) fn walk(memory: &dyn PhysMemory, registers: &Registers) -> Vec<CodeAddress> {
    let mut found = vec![innermost(registers)];
    let Registers::X86_64(registers) = registers else { return found };
    if registers.cr0 & PAGING == 0 {
        return found;
    }
    let levels = if registers.five_levels() { Levels::Five } else { Levels::Four };
    let tables = X86PageTables::new(PhysAddr::new(registers.page_table_root()), levels);
    let space = AddressSpace::with_tlb(memory, PageTables::X86_64(tables), 16);
    let [_, _, _, _, _, _, mut frame, mut below, ..] = registers.general;
    while found.len() < FRAMES {
        // A frame pointer points above what lies below it, at the caller's, with the return address behind.
        let near = frame.checked_sub(below).is_some_and(|distance| distance < FRAME_BYTES);
        if !near || frame % 8 != 0 {
            break;
        }
        let Ok([next, back]) = space.read_value::<[u64; 2]>(VirtAddr::new(frame)) else { break };
        let code = space.walk(VirtAddr::new(back)).is_ok_and(|page| page.executable);
        if back == 0 || !code || next == frame {
            break;
        }
        found.push(CodeAddress::ReturnAddress(VirtAddr::new(back)));
        (below, frame) = (frame, next);
    }
    found
}
