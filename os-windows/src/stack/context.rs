//! Registers that the kernel saved of a processor that it made to stand still.
//!
//! A crash or a debugger sends all other processors an interrupt in which they save their state and wait. Their control blocks say
//! so (`KPRCB.IpiFrozen`), and lead to a `CONTEXT` (winnt.h of the Windows SDK fixes its layout). In a running system what is there
//! is old, or nothing.

use vmc::arch::x86_64::Registers;
use vmc::bytes::{u16_at, u32_at, u64_at};
use vmc::{ReadExt, VirtAddr, VirtualMemory};

use super::fields::FrozenFields;

/// `IpiFrozen` of a processor that waits; the bit says that the debugger looks at it.
const FROZEN: u32 = 2;
const ACTIVE: u32 = 0x20;

/// `CONTEXT_AMD64` with control and integer registers.
const FLAGS: u32 = 0x10_0003;

/// `CONTEXT` up to and with Rip.
const BYTES: usize = 0x100;

/// Where a `CONTEXT` has the general registers in their order here, counted from Rax in 8 bytes.
const ORDER: [usize; 16] = [0, 2, 1, 3, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15];

/// The registers of the processor with this control block, if it is frozen.
pub(super) fn frozen<V: VirtualMemory + ?Sized>(
    memory: &V,
    fields: &FrozenFields,
    block: VirtAddr,
) -> Option<Registers> {
    if fields.state.read(memory, block).ok()? & !ACTIVE != FROZEN {
        return None;
    }
    let pointed = fields.context.and_then(|field| field.pointer(memory, block).ok());
    let places = [pointed, fields.within.map(|offset| block.wrapping_add(offset))];
    places.into_iter().flatten().find_map(|at| saved(memory, at))
}

/// The registers in the `CONTEXT` at `at`, if they are filled in.
fn saved<V: VirtualMemory + ?Sized>(memory: &V, at: VirtAddr) -> Option<Registers> {
    let context: [u8; BYTES] = memory.read_value(at).ok()?;
    if u32_at(&context, 0x30)? & FLAGS != FLAGS {
        return None;
    }
    let mut general = [0; 16];
    for (register, index) in general.iter_mut().zip(ORDER) {
        *register = u64_at(&context, 0x78 + index * 8)?;
    }
    Some(Registers {
        general,
        rip: u64_at(&context, 0xf8)?,
        rflags: u32_at(&context, 0x44)?.into(),
        cs: u16_at(&context, 0x38)?,
        ss: u16_at(&context, 0x42)?,
        ..Registers::default()
    })
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
