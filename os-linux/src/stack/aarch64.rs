//! From the registers of an aarch64 vCPU to those that are unwound.

use vmc::VirtAddr;
use vmc_unwind::aarch64::{Registers, Signature};
use vmc_unwind::gimli::AArch64;

use crate::kernel::Linux;

impl Linux<'_> {
    /// Which bits of code addresses are signatures or tags: all above those that the CPU translates
    /// (`arch/arm64/include/asm/pointer_auth.h`), whether it signs or not.
    pub(super) fn signature(&self) -> Signature {
        let info = self.identity().vmcoreinfo.as_ref();
        let told = info.and_then(|info| info.number("TCR_EL1_T1SZ"));
        let told = told.and_then(|size| 64u32.checked_sub(u32::try_from(size).ok()?));
        let walked = || match self.tables() {
            vmc::PageTables::Aarch64(tables) => tables.upper().map(|half| u32::from(half.bits)),
            _ => None,
        };
        told.or_else(walked).map_or_else(Signature::default, Signature::of_address_bits)
    }

    /// A vCPU's registers, all of them known.
    pub(super) fn unwound(&self, registers: &vmc::arch::aarch64::Registers) -> Registers {
        let (pc, sp) = (VirtAddr::new(registers.pc), VirtAddr::new(registers.sp));
        let mut unwound = Registers::with_all(pc, sp, registers.x).with_signature(self.signature());
        // Once more, now that it is known how long addresses are.
        unwound.set(AArch64::PC, registers.pc);
        unwound
    }
}
