//! One step from where a thread stands, or was interrupted, in the kernel: has its function made its record?

use core::ops::Range;

use vmc::view::FoundBy;
use vmc::{VirtAddr, VirtualMemory};

use super::walk::KernelCode;
use crate::aarch64::bare::is_returned_to;
use crate::aarch64::forward::to_return;
use crate::aarch64::reach::Window;
use crate::aarch64::registers::Registers;
use crate::module::{Found, Modules, NoTable};

/// A kernel's code, all of it without tables.
struct Bare<'c, C: ?Sized>(&'c C);

impl<C: KernelCode + ?Sized> Modules for Bare<'_, C> {
    fn find(&self, address: VirtAddr) -> Option<Found<'_>> {
        let range = Range { start: address, end: address.wrapping_add(1) };
        self.0.is_code(address).then_some(Found { range, bias: 0, table: Err(NoTable::None) })
    }
}

/// The caller of the function that stands at the registers' program counter, where its code tells of one that is not to be
/// found by its record: there is none yet, or none any more. `Ok(None)`: x29 points at its record.
pub(super) fn without_record<C: KernelCode + ?Sized, V: VirtualMemory + ?Sized>(
    code: &C,
    memory: &V,
    registers: &Registers,
    steps: u32,
) -> Option<(Registers, FoundBy)> {
    let modules = Bare(code);
    if let Some(found) = to_return(&modules, memory, registers, steps) {
        let how = if found.registers.sp() == registers.sp() { FoundBy::LinkRegister } else { FoundBy::Code };
        return Some((found.registers, how));
    }
    // It does not return from there: then from its start to there.
    let start = code.function_start(registers.ip())?;
    let window = Window::around(memory, start, registers.ip())?;
    let taken = window.reached_from_address(start)?;
    if taken.has_record() {
        return None;
    }
    let caller = taken.caller(memory, registers)?;
    let how = if taken.keeps_link() { FoundBy::LinkRegister } else { FoundBy::Code };
    is_returned_to(&modules, memory, &caller).then_some((caller, how))
}
