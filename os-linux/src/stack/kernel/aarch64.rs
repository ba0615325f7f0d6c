//! The kernel part of a thread's stack on aarch64: where it begins, the stacks that it lies on, what its code is.
//!
//! Source: `cpu_switch_to` in `arch/arm64/kernel/entry.S` and `struct cpu_context` in `arch/arm64/include/asm/processor.h`: a thread that
//! was switched out has what a callee preserves in its `thread.cpu_context`. Stacks for interrupts are as large and as aligned as
//! threads' own (`arch/arm64/include/asm/vmap_stack.h`, `memory.h`).

use alloc::vec::Vec;
use core::ops::Range;

use vmc::layout::{LayoutError, Types};
use vmc::{ReadExt, VirtAddr};
use vmc_unwind::CodeAddress;
use vmc_unwind::aarch64::Registers;
use vmc_unwind::aarch64::kernel::SavedRegisters;
use vmc_unwind::gimli::{AArch64, Register};

use super::code::KernelCode;
use super::start::KernelPart;
use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::task::Task;

impl Task<'_, '_> {
    /// It is on a vCPU that is in the kernel.
    pub(super) fn on_vcpu_aarch64(
        &self,
        registers: &vmc::arch::aarch64::Registers,
    ) -> Result<KernelPart, LinuxError> {
        let own = self.kernel_stack_range()?;
        let (size, sp) = (self.linux.stack_size(), VirtAddr::new(registers.sp));
        let mut stacks = Vec::from([own.clone()]);
        // Not on its own: on one for interrupts or for overflows, which ends where it is aligned.
        let inside = own.contains(&sp) || sp == own.end;
        if !inside && let Some(last) = sp.checked_sub(1) {
            let start = last.align_down(size);
            stacks.extend(start.checked_add(size).map(|end| start..end));
        }
        let address = CodeAddress::InstructionPointer(VirtAddr::new(registers.pc));
        Ok(KernelPart::Aarch64(self.linux.unwound(registers), address, stacks))
    }

    /// What a switch to another task has kept of it.
    pub(super) fn switched_out_aarch64(&self) -> Result<KernelPart, LinuxError> {
        let linux = self.linux;
        let fields = linux.cpu_context()?;
        let read = LinuxError::read("the registers of a thread that was switched out");
        let word = |field: vmc::layout::Field<u64>| field.read(linux.space(), self.at).map_err(&read);
        let (pc, sp) = (word(fields.pc)?, VirtAddr::new(word(fields.sp)?));
        let mut registers = Registers::new(VirtAddr::new(pc), sp).with_signature(linux.signature());
        registers.set(AArch64::PC, pc);
        // x19 to x28 follow one another.
        let saved = linux.space().read_value::<[u64; 10]>(fields.x19.address(self.at)).map_err(&read)?;
        for (number, value) in (19u16..).zip(saved) {
            registers.set(Register(number), value);
        }
        registers.set(AArch64::X29, word(fields.fp)?);
        let ip = registers.ip();
        // A thread that never ran starts at a function's first byte; others return into their last one.
        let address = if linux.known.ret_from_fork == Some(ip) {
            CodeAddress::InstructionPointer(ip)
        } else {
            CodeAddress::ReturnAddress(ip)
        };
        Ok(KernelPart::Aarch64(registers, address, Vec::from([self.kernel_stack_range()?])))
    }

    fn kernel_stack_range(&self) -> Result<Range<VirtAddr>, LinuxError> {
        let stack = self.pointer(self.linux.task()?.stack, "stack")?;
        Ok(stack..stack.wrapping_add(self.linux.stack_size()))
    }
}

/// Where the record lies among the registers that each way into the kernel stores.
pub(super) fn saved_registers(linux: &Linux<'_>) -> Result<SavedRegisters, LinuxError> {
    let record = linux.types().member("pt_regs", "stackframe")?.offset;
    let damaged =
        LayoutError::Damaged { id: 0, reason: "the frame record of pt_regs lies among its registers" };
    SavedRegisters::new(record).ok_or_else(|| damaged.into())
}

impl vmc_unwind::aarch64::kernel::KernelCode for KernelCode<'_, '_> {
    fn is_code(&self, address: VirtAddr) -> bool {
        // What the start-up has left is unmapped, but idle threads were called from there.
        self.in_image(address)
            || self.linux().space().walk(address).is_ok_and(|walk| walk.executable && !walk.user)
    }

    fn function_start(&self, address: VirtAddr) -> Option<VirtAddr> {
        self.named(CodeAddress::InstructionPointer(address)).1.map(|symbol| symbol.start)
    }
}
