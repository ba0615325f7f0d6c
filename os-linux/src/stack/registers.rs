//! Where a thread stands in user mode: its vCPU's registers, or what it left when it entered the kernel.
//!
//! Source: `arch/x86/entry/entry_64.S`, `arch/x86/include/asm/processor.h`: each way into the kernel stores `struct pt_regs`
//! at the top of the task's kernel stack; with FRED 16 more bytes lie above it. `arch/arm64/include/asm/processor.h`: the same there,
//! where the structure begins with x0 to x30, sp, pc and pstate (`struct user_pt_regs` of the UAPI).

use alloc::boxed::Box;

use vmc::layout::{Field, Types};
use vmc::view::RowErrors;
use vmc::{Architecture, ReadExt, Registers, VirtAddr};

use crate::error::LinuxError;
use crate::task::Task;

/// Code selectors of user mode (`arch/x86/include/asm/segment.h`): 64-bit, 32-bit.
const USER_CODE: [u16; 2] = [0x33, USER_CODE_32];
pub(super) const USER_CODE_32: u16 = 0x23;
/// What may lie above `pt_regs`: nothing, FRED's two words.
const PADDING: [u64; 2] = [0, 16];
/// `PF_IO_WORKER`: a thread of a process that never runs its program. `PF_USER_WORKER`, of 6.4 and later, had other meanings
/// before: there the lack of stored registers tells.
const IO_WORKER: u32 = 0x10;
const USER_WORKER: u32 = 0x4000;

/// Where a thread's user part begins.
#[derive(Clone, Debug)]
pub(super) enum UserPart {
    /// At these registers.
    Registers(Box<Registers>),
    /// It has none.
    None,
    /// It is not to be had.
    Unknown,
}

impl Task<'_, '_> {
    /// Where its user part begins. What stands in the way is told in `errors`.
    pub(super) fn user_part(&self, errors: &mut RowErrors) -> UserPart {
        let limits = self.linux.limits();
        match self.find_user_part() {
            Ok(part) => part,
            Err(why) => {
                errors.push(limits, "user registers", &why);
                UserPart::Unknown
            }
        }
    }

    fn find_user_part(&self) -> Result<UserPart, LinuxError> {
        let flags =
            self.linux.task()?.flags.read(self.linux.space(), self.at).map_err(LinuxError::read("flags"))?;
        if self.is_kernel_thread()? || flags & IO_WORKER != 0 || self.mm()?.is_none() {
            return Ok(UserPart::None);
        }
        if self.on_cpu() {
            match self.linux.cpus().vcpu_of(self.at) {
                Some(index) => {
                    if let Ok(registers) = self.linux.vcpus().registers(index)
                        && registers.in_user_mode()
                    {
                        return Ok(UserPart::Registers(Box::new(registers)));
                    }
                    // In the kernel: what it left on its way in is at the top of its stack.
                }
                None => {
                    let reason = "it is on a CPU, and the target has no registers for it";
                    return Err(LinuxError::Broken { what: "the thread", at: self.at, reason });
                }
            }
        }
        match self.saved_registers() {
            Err(LinuxError::Broken { .. }) if flags & USER_WORKER != 0 => Ok(UserPart::None),
            saved => saved.map(|registers| UserPart::Registers(Box::new(registers))),
        }
    }

    /// The registers at the top of its kernel stack.
    pub(super) fn saved_registers(&self) -> Result<Registers, LinuxError> {
        let stack = self.pointer(self.linux.task()?.stack, "stack")?;
        let size = self.linux.types().size_of("pt_regs")?;
        let top = stack.wrapping_add(self.linux.stack_size());
        match self.linux.tables().architecture() {
            Architecture::X86_64 => {
                for padding in PADDING {
                    let registers = self.registers_at(top.wrapping_add((size + padding).wrapping_neg()))?;
                    if USER_CODE.contains(&registers.cs) && registers.ss & 3 == 3 {
                        return Ok(Registers::X86_64(registers));
                    }
                }
            }
            Architecture::Aarch64 => {
                let registers = self.aarch64_registers_at(top.wrapping_add(size.wrapping_neg()))?;
                // A thread that never ran a program has left zeros there.
                if registers.in_user_mode() && registers.pc != 0 {
                    return Ok(Registers::Aarch64(registers));
                }
            }
        }
        let reason = "no registers of user mode are stored at the top of its kernel stack";
        Err(LinuxError::Broken { what: "the kernel stack", at: stack, reason })
    }

    fn aarch64_registers_at(&self, at: VirtAddr) -> Result<vmc::arch::aarch64::Registers, LinuxError> {
        let read = LinuxError::read("pt_regs");
        let words = self.linux.space().read_value::<[[u64; 17]; 2]>(at).map_err(&read)?;
        let mut words = words.into_iter().flatten();
        let x = core::array::from_fn(|_| words.next().unwrap_or_default());
        let [sp, pc, pstate] = core::array::from_fn(|_| words.next().unwrap_or_default());
        Ok(vmc::arch::aarch64::Registers { x, sp, pc, pstate, ..Default::default() })
    }

    fn registers_at(&self, at: VirtAddr) -> Result<vmc::arch::x86_64::Registers, LinuxError> {
        let space = self.linux.space();
        let fields = self.linux.pt_regs()?;
        let word = |field: Field<u64>| field.read(space, at).map_err(LinuxError::read("pt_regs"));
        let selector = |short: Option<Field<u16>>, long: Option<Field<u64>>| match (short, long) {
            (Some(field), _) => field.read(space, at).map_err(LinuxError::read("pt_regs")),
            (None, Some(field)) => word(field).map(|word| word as u16),
            (None, None) => Ok(0),
        };
        // The order of DWARF's numbers.
        let order = [
            fields.rax, fields.rdx, fields.rcx, fields.rbx, fields.rsi, fields.rdi, fields.rbp, fields.rsp,
            fields.r8, fields.r9, fields.r10, fields.r11, fields.r12, fields.r13, fields.r14, fields.r15,
        ];
        let mut general = [0; 16];
        for (slot, field) in general.iter_mut().zip(order) {
            *slot = word(field)?;
        }
        Ok(vmc::arch::x86_64::Registers {
            general,
            rip: word(fields.rip)?,
            rflags: word(fields.flags)?,
            cs: selector(fields.cs, fields.cs_word)?,
            ss: selector(fields.ss, fields.ss_word)?,
            ..Default::default()
        })
    }
}
