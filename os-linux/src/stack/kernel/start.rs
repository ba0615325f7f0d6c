//! Where a thread stands in the kernel: its vCPU's registers, or what it left when another one was switched in.
//!
//! Source: `__switch_to_asm` in `arch/x86/entry/entry_64.S`, `__unwind_start()` in `arch/x86/kernel/unwind_orc.c`.

use alloc::vec::Vec;
use core::ops::Range;

use vmc::layout::Field;
use vmc::view::RowErrors;
use vmc::{Architecture, Registers, VirtAddr};
use vmc_unwind::CodeAddress;
use vmc_unwind::gimli::X86_64;

use crate::error::LinuxError;
use crate::task::Task;

/// Where a thread's kernel part begins.
#[derive(Clone, Debug)]
pub(in crate::stack) enum KernelPart {
    /// At these registers, of which the address is the instruction pointer.
    X86_64(vmc_unwind::x86_64::Registers, CodeAddress),
    /// The same, and the stacks that it may stand on.
    Aarch64(vmc_unwind::aarch64::Registers, CodeAddress, Vec<Range<VirtAddr>>),
    /// It has none: it runs its program, or its stack was freed.
    None,
    /// It is not to be had.
    Unknown,
}

impl Task<'_, '_> {
    /// Where its kernel part begins. What stands in the way is told in `errors`.
    pub(super) fn kernel_part(&self, errors: &mut RowErrors) -> KernelPart {
        match self.find_kernel_part() {
            Ok(part) => part,
            Err(why) => {
                errors.push(self.linux.limits(), "kernel registers", &why);
                KernelPart::Unknown
            }
        }
    }

    fn find_kernel_part(&self) -> Result<KernelPart, LinuxError> {
        let cpus = self.linux.cpus();
        let vcpu = cpus.vcpu_of(self.at);
        // While two tasks are being switched both count as on the CPU; the one that is not current has its registers saved.
        let vcpus = self.linux.vcpus().count();
        let switching = vcpu.is_none() && vcpus > 0 && cpus.running().count() == vcpus;
        if self.on_cpu() && !switching {
            let registers = vcpu.and_then(|index| self.linux.vcpus().registers(index).ok());
            let reason = "it is on a CPU, and the target has no registers for it";
            let unknown = LinuxError::Broken { what: "the thread", at: self.at, reason };
            return self.on_vcpu(&registers.ok_or(unknown)?);
        }
        // A dead task's stack goes before it does.
        if self.pointer(self.linux.task()?.stack, "stack")?.is_null() {
            return Ok(KernelPart::None);
        }
        match self.linux.tables().architecture() {
            Architecture::X86_64 => self.switched_out(),
            Architecture::Aarch64 => self.switched_out_aarch64(),
        }
    }

    /// It is on a vCPU, which has these registers.
    pub(in crate::stack) fn on_vcpu(&self, registers: &Registers) -> Result<KernelPart, LinuxError> {
        match registers {
            _ if registers.in_user_mode() => Ok(KernelPart::None),
            Registers::X86_64(x86) => {
                let address = CodeAddress::InstructionPointer(registers.instruction_pointer());
                Ok(KernelPart::X86_64(x86.into(), address))
            }
            Registers::Aarch64(arm) => self.on_vcpu_aarch64(arm),
            _ => Ok(KernelPart::Unknown),
        }
    }

    /// What a switch to another task has left on its stack.
    fn switched_out(&self) -> Result<KernelPart, LinuxError> {
        let linux = self.linux;
        let sp = linux.task()?.thread_sp.ok_or_else(|| vmc::layout::LayoutError::NoMember {
            structure: "task_struct".into(),
            member: "thread.sp".into(),
        })?;
        let at = self.pointer(sp, "thread.sp")?;
        let frame = linux.inactive_frame()?;
        let word = |field: Field<u64>| {
            field
                .read(linux.space(), at)
                .map_err(LinuxError::read("the frame of a thread that was switched out"))
        };
        let ip = VirtAddr::new(word(frame.return_address)?);
        let sp = frame.return_address.address(at).wrapping_add(8);
        let mut registers = vmc_unwind::x86_64::Registers::new(ip, sp);
        let saved = [
            (X86_64::RBX, frame.rbx),
            (X86_64::RBP, frame.rbp),
            (X86_64::R12, frame.r12),
            (X86_64::R13, frame.r13),
            (X86_64::R14, frame.r14),
            (X86_64::R15, frame.r15),
        ];
        for (register, field) in saved {
            registers.set(register, word(field)?);
        }
        // A thread that never ran starts at a function's first byte; others return into their last one.
        let started = [linux.known.ret_from_fork_asm, linux.known.ret_from_fork].contains(&Some(ip));
        let address =
            if started { CodeAddress::InstructionPointer(ip) } else { CodeAddress::ReturnAddress(ip) };
        Ok(KernelPart::X86_64(registers, address))
    }
}
