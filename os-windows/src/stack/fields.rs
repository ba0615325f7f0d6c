//! Where threads and processors keep what their stacks begin with.

use vmc::layout::{Field, LayoutError, Types};
use vmc::{ReadError, VirtAddr, VirtualMemory};
use vmc_unwind::gimli;
use vmc_unwind::x86_64::Registers;

use crate::types::KernelTypes;

/// Members of `_KTHREAD`, `_KTRAP_FRAME` and `_KPCR`.
#[derive(Debug)]
pub(super) struct StackFields {
    pub kernel_stack: Field<u64>,
    pub stack_base: Field<u64>,
    pub stack_limit: Field<u64>,
    pub trap_frame: Option<Field<u64>>,
    /// Where `_KPCR` has the processor's control block.
    pub control_block: Option<u64>,
    trap: Option<TrapFields>,
}

/// `_KTRAP_FRAME`: the registers that an entry into the kernel always stores.
#[derive(Debug)]
struct TrapFields {
    ip: Field<u64>,
    sp: Field<u64>,
    rbp: Field<u64>,
    segment: Field<u16>,
}

impl StackFields {
    pub(super) fn new(types: &KernelTypes) -> Result<Self, LayoutError> {
        const K: &str = "_KTHREAD";
        Ok(Self {
            kernel_stack: Field::new(types, K, "KernelStack")?,
            stack_base: Field::new(types, K, "StackBase")?,
            stack_limit: Field::new(types, K, "StackLimit")?,
            trap_frame: Field::new(types, K, "TrapFrame").ok(),
            control_block: types.member("_KPCR", "Prcb").ok().map(|member| member.offset),
            trap: TrapFields::new(types).ok(),
        })
    }

    /// The registers of user mode in the trap frame at `at`, as far as every entry stores them; nothing where it was not entered
    /// from user mode.
    pub(super) fn trapped<V: VirtualMemory + ?Sized>(
        &self,
        memory: &V,
        at: VirtAddr,
    ) -> Option<Result<Registers, ReadError>> {
        let trap = self.trap.as_ref()?;
        let read = || {
            let from_user = trap.segment.read(memory, at)? & 3 == 3;
            let mut registers = Registers::new(trap.ip.pointer(memory, at)?, trap.sp.pointer(memory, at)?);
            registers.set(gimli::X86_64::RBP, trap.rbp.read(memory, at)?);
            Ok(from_user.then_some(registers))
        };
        read().transpose()
    }
}

impl TrapFields {
    fn new(types: &KernelTypes) -> Result<Self, LayoutError> {
        const T: &str = "_KTRAP_FRAME";
        Ok(Self {
            ip: Field::new(types, T, "Rip")?,
            sp: Field::new(types, T, "Rsp")?,
            rbp: Field::new(types, T, "Rbp")?,
            segment: Field::new(types, T, "SegCs")?,
        })
    }
}
