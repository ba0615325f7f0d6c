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
    /// rax.
    Ax,
    /// A number that no known kernel uses.
    Unknown,
}

/// How the registers are numbered: their names are macros, of which a kernel keeps nothing but a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrcNumbering {
    /// Until 7.0. (Some have rax as an eleventh.)
    Until70,
    /// Since 7.1: in the order of the CPU's own numbers.
    Since71,
}

impl OrcNumbering {
    pub(super) fn register(self, number: u64) -> OrcRegister {
        use OrcRegister::{Ax, Bp, BpIndirect, Di, Dx, PreviousSp, R10, R13, Sp, SpIndirect, Undefined};
        let registers = match self {
            Self::Until70 => [Undefined, PreviousSp, Dx, Di, Bp, Sp, R10, R13, BpIndirect, SpIndirect, Ax],
            Self::Since71 => [Undefined, Ax, Dx, Sp, Bp, Di, R10, R13, PreviousSp, SpIndirect, BpIndirect],
        };
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        registers.get(index).copied().unwrap_or(OrcRegister::Unknown)
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
