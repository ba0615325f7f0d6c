//! The `NT_PRSTATUS` note of an aarch64 core: a vCPU's registers. QEMU's cores have no others but the floating-point ones: no page
//! table root, no SP_EL0.
//!
//! Source: `struct aarch64_elf_prstatus` in `target/arm/arch_dump.c` of QEMU, Linux' `struct elf_prstatus`: 112 bytes that say
//! nothing of a vCPU (a signal, process ids, times), then x0 to x30, sp, pc and pstate, then a word for floating point.

use vmc::arch::aarch64::Registers;
use vmc::bytes::u64_at;

const THREAD: usize = 32;
const GENERAL: usize = 112;
const SP: usize = GENERAL + 31 * 8;
const PC: usize = SP + 8;
const PSTATE: usize = PC + 8;

/// The registers in a note's description, if it is long enough.
pub(crate) fn registers(note: &[u8]) -> Option<Registers> {
    let mut registers = Registers {
        sp: u64_at(note, SP)?,
        pc: u64_at(note, PC)?,
        pstate: u64_at(note, PSTATE)?,
        ..Registers::default()
    };
    for (index, slot) in registers.x.iter_mut().enumerate() {
        *slot = u64_at(note, GENERAL + index * 8)?;
    }
    Some(registers)
}

/// The same, written: a note's description for the vCPU that debuggers shall know by the number `thread`.
pub(crate) fn description(thread: u32, registers: &Registers) -> Vec<u8> {
    let mut note = vec![0; GENERAL];
    if let Some(slot) = note.get_mut(THREAD..).and_then(|rest| rest.first_chunk_mut()) {
        *slot = thread.to_le_bytes();
    }
    // No floating-point registers follow.
    for register in registers.x.into_iter().chain([registers.sp, registers.pc, registers.pstate, 0]) {
        note.extend(register.to_le_bytes());
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_register_comes_from_its_place() {
        // 112 bytes of 0xff, then each register holds its number.
        let mut note = vec![0xff; 112];
        (0..34u64).for_each(|n| note.extend(n.to_le_bytes()));
        note.extend(0u64.to_le_bytes());
        assert_eq!(note.len(), 392);
        let registers = registers(&note).unwrap();
        assert_eq!((registers.x[0], registers.x[30]), (0, 30));
        assert_eq!((registers.sp, registers.pc, registers.pstate), (31, 32, 33));
        assert_eq!((registers.ttbr1, registers.sp_el0), (None, None));
        let written = description(5, &registers);
        assert_eq!(written[GENERAL..], note[GENERAL..]);
        assert_eq!(written.len(), 392);
        assert_eq!((written[32], written.iter().take(GENERAL).filter(|byte| **byte != 0).count()), (5, 1));
    }

    #[test]
    fn short_notes_are_refused() {
        assert_eq!(registers(&[0; 383]), None);
        assert_eq!(registers(&[]), None);
    }
}
