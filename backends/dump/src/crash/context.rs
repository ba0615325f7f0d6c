//! The processor's `CONTEXT` in the header: the registers of the processor that crashed.
//!
//! Source: `CONTEXT` and `ARM64_NT_CONTEXT` of the Windows SDK (`winnt.h`). A CONTEXT has general registers, flags and segment selectors.
//! It has no control registers, no descriptor tables and no bases of FS and GS: those stay zero (`kernel_gs_base` is not known), but for
//! CR3, which the header has as `DirectoryTableBase`. ARM64's system registers are not known.

use vmc::arch::{aarch64, x86_64};
use vmc::bytes::{u16_at, u32_at, u64_at};
use vmc::{Architecture, Registers};

/// `CONTEXT_AMD64` with control and integer registers; `CONTEXT_ARM64` with both.
const X64_FLAGS: u32 = 0x10_0003;
const ARM64_FLAGS: u32 = 0x40_0003;

/// The registers in `context`, if it is filled in.
pub(crate) fn registers(architecture: Architecture, context: &[u8], root: u64) -> Option<Registers> {
    match architecture {
        Architecture::X86_64 => x64(context, root).map(Registers::X86_64),
        Architecture::Aarch64 => arm64(context).map(Registers::Aarch64),
    }
}

fn x64(context: &[u8], root: u64) -> Option<x86_64::Registers> {
    if u32_at(context, 0x30)? & X64_FLAGS != X64_FLAGS {
        return None;
    }
    // A CONTEXT has rax rcx rdx rbx rsp rbp rsi rdi, DWARF rax rdx rcx rbx rsi rdi rbp rsp.
    let mut general = [0; 16];
    for (slot, index) in general.iter_mut().zip([0, 2, 1, 3, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15]) {
        *slot = u64_at(context, 0x78 + index * 8)?;
    }
    Some(x86_64::Registers {
        general,
        rip: u64_at(context, 0xf8)?,
        rflags: u32_at(context, 0x44)?.into(),
        cs: u16_at(context, 0x38)?,
        ss: u16_at(context, 0x42)?,
        cr3: root,
        ..x86_64::Registers::default()
    })
}

fn arm64(context: &[u8]) -> Option<aarch64::Registers> {
    if u32_at(context, 0)? & ARM64_FLAGS != ARM64_FLAGS {
        return None;
    }
    let mut x = [0; 31];
    for (index, slot) in x.iter_mut().enumerate() {
        *slot = u64_at(context, 8 + index * 8)?;
    }
    Some(aarch64::Registers {
        x,
        sp: u64_at(context, 0x100)?,
        pc: u64_at(context, 0x108)?,
        pstate: u32_at(context, 4)?.into(),
        ..aarch64::Registers::default()
    })
}
