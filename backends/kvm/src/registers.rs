//! Registers that memory analysis does not need, but whoever looks at a kernel's entries does.

/// What a vCPU's system registers say beyond [`vmc::arch::Registers`], where they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SystemRegisters {
    /// EFER: long mode, no-execute, system calls.
    pub efer: Option<u64>,
    /// The interrupt descriptor table's virtual address.
    pub idt: Option<u64>,
    /// The global descriptor table's virtual address.
    pub gdt: Option<u64>,
    /// STAR: the segments of `syscall` and `sysret`. Only by an injected system call.
    pub star: Option<u64>,
    /// LSTAR: where `syscall` enters the kernel. Only by an injected system call.
    pub lstar: Option<u64>,
    /// SFMASK: the flags that `syscall` clears. Only by an injected system call.
    pub sfmask: Option<u64>,
}
