//! One step from where a thread stands, or was interrupted, in the kernel: has its function made its record?

use vmc::VirtualMemory;
use vmc::view::FoundBy;

use super::walk::KernelCode;
use crate::aarch64::bare::is_returned_to;
use crate::aarch64::forward::to_return;
use crate::aarch64::reach::Window;
use crate::aarch64::registers::Registers;
use crate::module::BareCode;

/// The caller of the function that stands at the registers' program counter, where its code tells of one that is not to be
/// found by its record: there is none yet, or none any more. Nothing: then x29 points at its record.
pub(super) fn without_record<C: KernelCode + ?Sized, V: VirtualMemory + ?Sized>(
    code: &C,
    memory: &V,
    registers: &Registers,
    steps: u32,
) -> Option<(Registers, FoundBy)> {
    let modules = BareCode(|at| code.is_code(at));
    // From its start to there: what is behind a call that does not come back is not mistaken for its own.
    let reached = code.function_start(registers.ip()).and_then(|start| {
        let window = Window::around(memory, start, registers.ip())?;
        window.reached_from_address(start)
    });
    if let Some(taken) = reached {
        if taken.has_record() {
            return None;
        }
        let caller =
            taken.caller(memory, registers).filter(|caller| is_returned_to(&modules, memory, caller));
        if let Some(caller) = caller {
            let how = if taken.keeps_link() { FoundBy::LinkRegister } else { FoundBy::Code };
            return Some((caller, how));
        }
    }
    // From there to its return.
    let found = to_return(&modules, memory, registers, steps)?;
    let how = if found.registers.sp() == registers.sp() { FoundBy::LinkRegister } else { FoundBy::Code };
    Some((found.registers, how))
}
