//! Where threads and processors keep what their stacks begin with.
//!
//! A trap frame has rbx, rsi and rdi where it is of a system call alone (`ExceptionActive`, see `KTRAP_FRAME` in the Windows kit).

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
    /// What a processor's control block has of a processor that was made to stand still.
    pub frozen: Option<FrozenFields>,
    trap: Option<TrapFields>,
}

/// `_KTRAP_FRAME`: the registers that an entry into the kernel always stores.
#[derive(Debug)]
struct TrapFields {
    ip: Field<u64>,
    sp: Field<u64>,
    rbp: Field<u64>,
    segment: Field<u16>,
    service: Option<ServiceFields>,
}

/// What the frame of a system call has besides: the entry stores these registers, those of interrupts and exceptions do not.
#[derive(Debug)]
struct ServiceFields {
    kind: Field<u8>,
    saved: [(gimli::Register, Field<u64>); 3],
}

/// `_KTRAP_FRAME.ExceptionActive` of a system call; 0 is an interrupt, 1 an exception.
const SERVICE_FRAME: u8 = 2;

/// `_KPRCB`: is the processor frozen (by a crash or a debugger), and where are its registers (`CONTEXT`) then?
#[derive(Debug)]
pub(super) struct FrozenFields {
    pub state: Field<u32>,
    /// A pointer, in kernels that save more than a `CONTEXT`.
    pub context: Option<Field<u64>>,
    /// One within the block.
    pub within: Option<u64>,
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
            frozen: FrozenFields::new(types).ok(),
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
            if let Some(service) = &trap.service
                && service.kind.read(memory, at)? == SERVICE_FRAME
            {
                for (register, field) in &service.saved {
                    registers.set(*register, field.read(memory, at)?);
                }
            }
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
            service: ServiceFields::new(types).ok(),
        })
    }
}

impl ServiceFields {
    fn new(types: &KernelTypes) -> Result<Self, LayoutError> {
        const T: &str = "_KTRAP_FRAME";
        Ok(Self {
            kind: Field::new(types, T, "ExceptionActive")?,
            saved: [
                (gimli::X86_64::RBX, Field::new(types, T, "Rbx")?),
                (gimli::X86_64::RSI, Field::new(types, T, "Rsi")?),
                (gimli::X86_64::RDI, Field::new(types, T, "Rdi")?),
            ],
        })
    }
}

impl FrozenFields {
    fn new(types: &KernelTypes) -> Result<Self, LayoutError> {
        const P: &str = "_KPRCB";
        Ok(Self {
            state: Field::new(types, P, "IpiFrozen")?,
            context: Field::new(types, P, "Context").ok(),
            within: types.member(P, "ProcessorState.ContextFrame").ok().map(|member| member.offset),
        })
    }
}
