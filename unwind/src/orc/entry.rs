//! One rule, decoded.

/// What a stack pointer or rbp is computed from (`ORC_REG_…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrcRegister {
    /// For rbp: it is what it was. For the stack pointer: nothing is known.
    Undefined,
    /// The caller's stack pointer.
    PreviousSp,
    /// rdx.
    Dx,
    /// rdi.
    Di,
    /// rbp.
    Bp,
    /// The stack pointer.
    Sp,
    /// r10.
    R10,
    /// r13.
    R13,
    /// The word at rbp and the offset.
    BpIndirect,
    /// The word at the stack pointer, and the offset.
    SpIndirect,
    /// rax (since 7.1).
    Ax,
    /// A number that no known kernel uses.
    Unknown,
}

impl OrcRegister {
    pub(super) const fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Undefined,
            1 => Self::PreviousSp,
            2 => Self::Dx,
            3 => Self::Di,
            4 => Self::Bp,
            5 => Self::Sp,
            6 => Self::R10,
            7 => Self::R13,
            8 => Self::BpIndirect,
            9 => Self::SpIndirect,
            10 => Self::Ax,
            _ => Self::Unknown,
        }
    }
}

/// What kind of frame the code has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrcKind {
    /// Nothing is known of it.
    Undefined,
    /// It is the outermost.
    EndOfStack,
    /// It was called: the return address lies below the caller's stack pointer.
    Call,
    /// It was entered with all registers stored.
    Registers,
    /// It was entered with only what the CPU stores by itself.
    PartialRegisters,
    /// A number that no known kernel uses.
    Unknown,
}

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrcEntry {
    /// What is added to get the caller's stack pointer, or the address of the stored registers.
    pub sp_offset: i16,
    /// What is added to get rbp's place.
    pub bp_offset: i16,
    /// What the stack pointer is computed from.
    pub sp: OrcRegister,
    /// What rbp's place is computed from.
    pub bp: OrcRegister,
    /// What kind of frame it is.
    pub kind: OrcKind,
    /// Was the next frame interrupted, rather than that it called?
    pub signal: bool,
}

impl OrcEntry {
    /// For the address 0: a call through a null pointer has pushed its return address, and no more.
    pub(super) const NULL_CALL: Self = Self {
        sp_offset: 8,
        bp_offset: 0,
        sp: OrcRegister::Sp,
        bp: OrcRegister::Undefined,
        kind: OrcKind::Call,
        signal: false,
    };
}
