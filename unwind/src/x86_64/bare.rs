//! A step from a frame whose code nothing describes: generated code, hand-written code, programs without tables.

use core::ops::Range;

use vmc::view::FoundBy;
use vmc::{VirtAddr, VirtualMemory};

use super::called::by_call;
use super::forward::to_return;
use super::frame_pointer::{begins_here, by_frame_pointer};
use super::reach::Window;
use super::registers::Registers;
use super::signal::{interrupted, returns_from_signal};
use crate::code_address::CodeAddress;
use crate::module::Modules;

/// What lies above such a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bare {
    /// A caller.
    Caller(Registers, FoundBy),
    /// What a signal interrupted, or where its registers should have been.
    Signal(Result<Registers, VirtAddr>),
    /// Nothing: it is the outermost.
    Outermost,
    /// What cannot be told.
    Unknown,
}

/// Where the frame at `address`, in executable memory of `range`, was called from. `chained`: it was found by frame pointers.
pub(crate) fn bare_step<M: Modules + ?Sized, V: VirtualMemory + ?Sized>(
    modules: &M,
    memory: &V,
    range: &Range<VirtAddr>,
    address: CodeAddress,
    registers: &Registers,
    (chained, steps): (bool, u32),
) -> Bare {
    if returns_from_signal(memory, address.address()) {
        return Bare::Signal(interrupted(memory, registers.sp()));
    }
    let at = address.address_for_lookup();
    if begins_here(memory, at, registers) {
        return Bare::Outermost;
    }
    if let Some(found) = to_return(modules, memory, registers, steps) {
        let how = if found.by_frame_pointer { FoundBy::FramePointer } else { FoundBy::Code };
        return Bare::Caller(found.registers, how);
    }
    if let Some(window) = Window::around(memory, range.start, address.address()) {
        if let Some(caller) = by_frame_pointer(modules, memory, &window, registers) {
            return Bare::Caller(caller, FoundBy::FramePointer);
        }
        if let Some(caller) = by_call(modules, memory, &window, registers) {
            return Bare::Caller(caller, FoundBy::Code);
        }
    }
    if chained && registers.get(gimli::X86_64::RBP) == Some(0) {
        return Bare::Outermost;
    }
    Bare::Unknown
}
