//! A step from a frame whose code nothing describes: generated code, hand-written code, programs without tables.

use vmc::VirtualMemory;
use vmc::view::FoundBy;

use super::called::by_call;
use super::forward::to_return;
use super::frame_pointer::{begins_here, by_frame_pointer};
use super::reach::Window;
use super::registers::Registers;
use super::signal::{interrupted, returns_from_signal};
use crate::machine::{Bare, BareFrame, ReadCode};
use crate::module::Modules;

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
        if let Some(left) = searches.checked_sub(1)
            && let Some(window) = Window::around(memory, range.start, address.address())
        {
            *searches = left;
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
}
