//! The `NT_PRSTATUS` note of an aarch64 core: a vCPU's registers. QEMU's cores have no others but the floating-point ones: no page
//! table root, no SP_EL0.
//!
//! Source: `struct aarch64_elf_prstatus` in `target/arm/arch_dump.c` of QEMU, Linux' `struct elf_prstatus`: 112 bytes that say
//! nothing of a vCPU (a signal, process ids, times), then x0 to x30, sp, pc and pstate, then a word for floating point.

use vmc::arch::aarch64::Registers;
use vmc::bytes::u64_at;

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
    }

    #[test]
    fn short_notes_are_refused() {
        assert_eq!(registers(&[0; 383]), None);
        assert_eq!(registers(&[]), None);
    }
}
