//! [`Frame`]: what a walk yields.

use vmc::VirtAddr;
use vmc::view::FoundBy;

use crate::code_address::CodeAddress;
use crate::x86_64::Registers;

/// One frame of a stack, on x86_64 where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<R = Registers> {
    /// Where it stands.
    pub address: CodeAddress,
    /// Its stack pointer.
    pub sp: VirtAddr,
    /// Its canonical frame address: on x86 where its caller's stack pointer will be. Nothing where the walk ended
    /// before it was computed.
    pub cfa: Option<VirtAddr>,
    /// How it was found.
    pub found_by: FoundBy,
    /// Was it interrupted, so that a signal handler runs above it?
    pub interrupted_by_signal: bool,
    /// Its registers, as far as they are known.
    pub registers: R,
}
