//! The registers of an x86_64 vCPU, as far as memory analysis and unwinding need them.

/// General, segment and control registers.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Registers {
    /// rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8 to r15: the order of the System V ABI's DWARF numbers.
    pub general: [u64; 16],
    /// The instruction pointer.
    pub rip: u64,
    /// The flags.
    pub rflags: u64,
    /// The code segment's selector; its low two bits are the privilege level.
    pub cs: u16,
    /// The stack segment's selector.
    pub ss: u16,
    /// FS' base: thread-local storage of user programs.
    pub fs_base: u64,
    /// GS' base: in the kernel, its per-CPU area.
    pub gs_base: u64,
    /// What `swapgs` would bring in, where the backend knows it.
    pub kernel_gs_base: Option<u64>,
    /// CR0.
    pub cr0: u64,
    /// CR2: the last page fault's address.
    pub cr2: u64,
    /// CR3: the page table root, with PCID and, under KPTI, the user half's bit.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
}

impl Registers {
    /// DWARF's number of the stack pointer, and so its place in [`general`](Self::general).
    pub const RSP: usize = 7;

    /// Is the vCPU in user mode?
    #[must_use]
    pub const fn in_user_mode(&self) -> bool {
        self.cs & 3 == 3
    }

    /// The stack pointer.
    #[must_use]
    pub const fn rsp(&self) -> u64 {
        let [_, _, _, _, _, _, _, rsp, ..] = self.general;
        rsp
    }

    /// Are five levels of page tables in use (CR4.LA57)?
    #[must_use]
    pub const fn five_levels(&self) -> bool {
        self.cr4 & (1 << 12) != 0
    }

    /// The physical address of the page table root: CR3 without PCID and flags.
    #[must_use]
    pub const fn page_table_root(&self) -> u64 {
        self.cr3 & 0x000f_ffff_ffff_f000
    }
}
