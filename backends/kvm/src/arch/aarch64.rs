//! aarch64: `KVM_GET_ONE_REG`, a register a call. By the kernel's interfaces; **not run**.
//!
//! Sources: `arch/arm64/include/uapi/asm/kvm.h` and `arch/arm64/include/asm/sysreg.h` of Linux 6.12: a core register's id is its
//! place in `struct kvm_regs` in words of 4 bytes, a system register's is its op0, op1, CRn, CRm and op2.
//!
//! There are no registers in `struct kvm_run` here, so without injection there are none at all. A sleep that is interrupted begins
//! anew rather than going on with what was left of it: the kernel decides that by the program counter, which is borrowed then.

use vmc::arch::Registers;
use vmc::arch::aarch64;

use super::{Arch, Ask, BLOCK, Frame, SCRATCH, done, get, put, set, word};
use crate::registers::SystemRegisters;

/// `KVM_GET_ONE_REG`: `_IOW(0xAE, 0xab, struct kvm_one_reg)`.
const KVM_GET_ONE_REG: u64 = 0x4010_aeab;

/// `KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE`.
const CORE: u64 = 0x6030_0000_0010_0000;
/// `KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM64_SYSREG`.
const SYSTEM: u64 = 0x6030_0000_0013_0000;

/// A system register by `op0 op1 CRn CRm op2`.
const fn system(op0: u64, op1: u64, crn: u64, crm: u64, op2: u64) -> u64 {
    SYSTEM | op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2
}

/// Core registers: x0 to x30 and sp (that of EL0), pc, pstate of `struct user_pt_regs`, then sp_el1.
const CORES: usize = 35;

/// System registers that the kernel may not have, behind the core ones.
const SYSTEMS: [u64; 7] = [
    system(3, 0, 2, 0, 0),  // TTBR0_EL1
    system(3, 0, 2, 0, 1),  // TTBR1_EL1
    system(3, 0, 2, 0, 2),  // TCR_EL1
    system(3, 3, 13, 0, 2), // TPIDR_EL0
    system(3, 0, 13, 0, 4), // TPIDR_EL1
    system(3, 0, 12, 0, 0), // VBAR_EL1
    system(3, 0, 10, 2, 0), // MAIR_EL1
];

/// Where a block has the mask of the registers that are known: behind their values.
const KNOWN: usize = 8 * (CORES + SYSTEMS.len());

/// Where the value of a `kvm_one_reg` is put: behind it in the scratch memory.
const VALUE: usize = 16;

const SP_EL0: usize = 31;
const PC: usize = 32;
const PSTATE: usize = 33;
const SP_EL1: usize = 34;

/// A host of 64-bit Arm.
#[derive(Debug)]
pub(crate) struct Arm;

/// The id of the `step`th register.
fn id(step: usize) -> Option<u64> {
    match step.checked_sub(CORES) {
        None => Some(CORE | (2 * step as u64)),
        Some(index) => SYSTEMS.get(index).copied(),
    }
}

fn value(block: &[u8], step: usize) -> Option<u64> {
    (word(block, KNOWN) >> step & 1 == 1).then(|| word(block, 8 * step))
}

impl Arch for Arm {
    const WORDS: usize = 34;
    /// `svc #0`.
    const SYSTEM_CALL: &'static [u8] = &[0x01, 0x00, 0x00, 0xd4];
    const IOCTL: u64 = 29;
    const RED_ZONE: u64 = 0;
    const SYNC_WANTED: u64 = 0;
    const SYNC_LEN: usize = 0;
    const SYNC_MARK: usize = 0;

    fn pc(frame: &Frame) -> u64 {
        get(frame, PC)
    }

    fn sp(frame: &Frame) -> u64 {
        get(frame, SP_EL0)
    }

    /// x8 holds the number while the call runs, and x0 its result: the descriptor is not known.
    fn system_call(frame: &Frame) -> Option<(u64, u64, u64)> {
        Some((get(frame, 8), u64::MAX, get(frame, 1)))
    }

    fn call(frame: &mut Frame, pc: u64, number: u64, arguments: [u64; 3]) {
        let [first, second, third] = arguments;
        for (index, value) in [(PC, pc), (8, number), (0, first), (1, second), (2, third)] {
            set(frame, index, value);
        }
    }

    fn result(frame: &Frame) -> i64 {
        get(frame, 0).cast_signed()
    }

    fn ask(step: usize, _: &mut u64, at: u64, scratch: &mut [u8; SCRATCH]) -> Option<Ask> {
        put(scratch, 0, &id(step)?.to_le_bytes());
        put(scratch, 8, &at.wrapping_add(VALUE as u64).to_le_bytes());
        Some(Ask { request: KVM_GET_ONE_REG, put: VALUE, take: VALUE + 8 })
    }

    fn answer(
        step: usize,
        _: &mut u64,
        result: i64,
        scratch: &[u8; SCRATCH],
        block: &mut [u8; BLOCK],
    ) -> Result<(), i32> {
        if step == 0 {
            put(block, KNOWN, &[0; 8]);
        }
        match done(result) {
            Err(error) if step <= PSTATE => Err(error),
            Err(_) => Ok(()),
            Ok(()) => {
                put(block, 8 * step, &word(scratch, VALUE).to_le_bytes());
                let known = word(block, KNOWN) | 1 << step;
                put(block, KNOWN, &known.to_le_bytes());
                Ok(())
            }
        }
    }

    fn from_sync(_: &[u8], _: &mut [u8; BLOCK]) {}

    fn registers(block: &[u8]) -> Registers {
        let mut x = [0; 31];
        for (index, place) in x.iter_mut().enumerate() {
            *place = word(block, 8 * index);
        }
        let pstate = word(block, 8 * PSTATE);
        let (sp_el0, sp_el1) = (value(block, SP_EL0), value(block, SP_EL1));
        // EL1h has a stack pointer of its own; EL0 and EL1t use that of EL0.
        let sp = if pstate & 0xf == 5 { sp_el1 } else { sp_el0 };
        let system = |index: usize| value(block, CORES + index);
        Registers::Aarch64(aarch64::Registers {
            x,
            sp: sp.unwrap_or(0),
            pc: word(block, 8 * PC),
            pstate,
            ttbr0: system(0),
            ttbr1: system(1),
            tcr: system(2),
            sp_el0,
            sp_el1,
            tpidr_el0: system(3),
            tpidr_el1: system(4),
            vbar: system(5),
            mair: system(6),
        })
    }

    fn system_registers(_: &[u8]) -> SystemRegisters {
        SystemRegisters::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ids are those that the kernel's own documentation spells out: `KVM_GET_ONE_REG` in Documentation/virt/kvm/api.rst.
    #[test]
    fn ids_are_those_of_the_documentation() {
        assert_eq!(id(0), Some(0x6030_0000_0010_0000)); // x0
        assert_eq!(id(1), Some(0x6030_0000_0010_0002)); // x1
        assert_eq!(id(SP_EL0), Some(0x6030_0000_0010_003e));
        assert_eq!(id(PC), Some(0x6030_0000_0010_0040));
        assert_eq!(id(PSTATE), Some(0x6030_0000_0010_0042));
        assert_eq!(id(SP_EL1), Some(0x6030_0000_0010_0044));
        assert_eq!(id(CORES), Some(0x6030_0000_0013_c100)); // TTBR0_EL1
        assert_eq!(id(CORES + SYSTEMS.len()), None);
    }

    #[test]
    fn what_kvm_lacks_stays_unknown() {
        let (mut scratch, mut block, mut state) = ([0; SCRATCH], [0xee; BLOCK], 0);
        let mut step = 0;
        while let Some(ask) = Arm::ask(step, &mut state, 0x7000, &mut scratch) {
            assert_eq!((ask.request, word(&scratch, 8)), (KVM_GET_ONE_REG, 0x7010));
            put(&mut scratch, VALUE, &(1000 + step as u64).to_le_bytes());
            // No TCR_EL1; EL1h.
            if step == PSTATE {
                put(&mut scratch, VALUE, &0x3c5u64.to_le_bytes());
            }
            Arm::answer(step, &mut state, if step == CORES + 2 { -2 } else { 0 }, &scratch, &mut block)
                .unwrap();
            step += 1;
        }
        let Registers::Aarch64(registers) = Arm::registers(&block) else {
            panic!("not of this architecture")
        };
        assert_eq!((registers.x[30], registers.pc, registers.sp), (1030, 1032, 1034));
        assert_eq!((registers.ttbr0, registers.tcr, registers.mair), (Some(1035), None, Some(1041)));
        assert_eq!(Arm::answer(3, &mut state, -22, &scratch, &mut block), Err(22));
    }
}
