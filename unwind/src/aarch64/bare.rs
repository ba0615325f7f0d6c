//! A step from a frame whose code nothing describes: generated code, hand-written code, programs without tables.

use vmc::view::FoundBy;
use vmc::{VirtAddr, VirtualMemory};

use super::code::call_before;
use super::forward::to_return;
use super::reach::Window;
use super::registers::{Registers, X29};
use super::signal::{interrupted, returns_from_signal};
use crate::machine::{Bare, BareFrame, ReadCode};
use crate::module::Modules;
use crate::row_step::RegisterFile;

impl ReadCode for Registers {
    fn bare_step<M: Modules + ?Sized, V: VirtualMemory + ?Sized>(
        modules: &M,
        memory: &V,
        frame: &BareFrame<'_, Self>,
        steps: u32,
        searches: &mut u32,
    ) -> Bare<Self> {
        let BareFrame { range, address, registers, chained } = *frame;
        if returns_from_signal(memory, address.address()) {
            return Bare::Signal(interrupted(memory, registers));
        }
        if let Some(found) = to_return(modules, memory, registers, steps) {
            let caller = found.registers;
            // Nothing was stored, nothing was loaded: the link was there.
            let by_link = caller.sp() == registers.sp() && registers.link() == Some(caller.ip().get());
            let how = match found.by_frame_pointer {
                _ if by_link => FoundBy::LinkRegister,
                true => FoundBy::FramePointer,
                false => FoundBy::Code,
            };
            return Bare::Caller(caller, how);
        }
        if let Some(left) = searches.checked_sub(1)
            && let Some(window) = Window::around(memory, range.start, address.address())
        {
            *searches = left;
            if let Some(taken) = window.reached()
                && let Some(caller) = taken.caller(memory, registers)
                && is_returned_to(modules, memory, &caller)
            {
                let how = if taken.has_record() { FoundBy::FramePointer } else { FoundBy::Code };
                return Bare::Caller(caller, how);
            }
        }
        if chained && registers.get(gimli::AArch64::X29) == Some(0) {
            return Bare::Outermost;
        }
        Bare::Unknown
    }
}

/// Can `caller` be where a function returns to? Where a stack begins there is no address, and no frame pointer.
pub(in crate::aarch64) fn is_returned_to<M: Modules + ?Sized, V: VirtualMemory + ?Sized>(
    modules: &M,
    memory: &V,
    caller: &Registers,
) -> bool {
    let ip = caller.ip();
    if ip.is_null() {
        return caller.value(X29) == Some(0);
    }
    let known = ip.checked_sub(1).is_some_and(|at: VirtAddr| modules.find(at).is_some());
    // A handler returns to where nothing was called from.
    known && (call_before(memory, ip) || returns_from_signal(memory, ip))
}
