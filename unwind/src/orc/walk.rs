//! [`KernelUnwinder`] and [`KernelWalk`]: the frames of a kernel stack.

use core::fmt;

use gimli::X86_64;
use vmc::view::{FoundBy, Stop};
use vmc::{Limits, VirtAddr, VirtualMemory};

use super::entry::OrcEntry;
use super::saved::SavedRegisters;
use super::step::{NoStep, Step, Stepper, may_switch};
use super::table::OrcTable;
use crate::code_address::CodeAddress;
use crate::cursor::Cursor;
use crate::frame::Frame;
use crate::module::{BareCode, NoTable};
use crate::x86_64::{Registers, to_return};

/// Finds what describes a kernel's code.
pub trait OrcTables {
    /// The table that covers `address`.
    ///
    /// # Errors
    /// [`NoTable::None`] for code that none describes: the walk then goes by rbp, as the kernel itself does.
    fn find(&self, address: VirtAddr) -> Result<&OrcTable<'_>, NoTable>;

    /// Can there be code at `address`? What rbp leads to is believed only there.
    fn is_code(&self, address: VirtAddr) -> bool;

    /// Was the kernel built with frame pointers, in place of tables? Then a function that was interrupted is followed through its
    /// code, and all others by rbp (`arch/x86/kernel/unwind_frame.c`).
    fn frame_pointers(&self) -> bool;
}

/// Walks kernel stacks: a kernel's tables, its memory, how it stores registers, and the bounds.
pub struct KernelUnwinder<'a, T: ?Sized, V: ?Sized> {
    tables: &'a T,
    memory: &'a V,
    saved: &'a SavedRegisters,
    limits: &'a Limits,
}

impl<'a, T: OrcTables + ?Sized, V: VirtualMemory + ?Sized> KernelUnwinder<'a, T, V> {
    /// An unwinder over these.
    #[must_use]
    pub const fn new(tables: &'a T, memory: &'a V, saved: &'a SavedRegisters, limits: &'a Limits) -> Self {
        Self { tables, memory, saved, limits }
    }

    /// The stack that these registers stand on, innermost frame first. `address` is their instruction pointer: as it is for
    /// a running thread, a return address for one that was switched out.
    #[must_use]
    pub const fn walk(&self, registers: Registers, address: CodeAddress) -> KernelWalk<'a, T, V> {
        KernelWalk {
            tables: self.tables,
            stepper: Stepper { memory: self.memory, saved: self.saved },
            at: Cursor::new(registers, address, self.limits),
            code_steps: self.limits.code_steps,
        }
    }
}

impl<T: ?Sized, V: ?Sized> fmt::Debug for KernelUnwinder<'_, T, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelUnwinder").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// An iterator over the frames of one kernel stack; it ends, and then says why by [`stop`](Self::stop).
pub struct KernelWalk<'a, T: ?Sized, V: ?Sized> {
    tables: &'a T,
    stepper: Stepper<'a, V>,
    at: Cursor<Registers>,
    /// How many instructions a step may follow.
    code_steps: u32,
}

impl<T: OrcTables + ?Sized, V: VirtualMemory + ?Sized> KernelWalk<'_, T, V> {
    /// Why the walk ended. Before it has: [`Stop::Limit`], for then it is the caller who sets the bound.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.at.stop.unwrap_or(Stop::Limit)
    }

    /// From the frame at hand to its caller, or why there is none.
    fn step(&mut self, cfa: &mut Option<VirtAddr>) -> Result<(), Stop> {
        let at = self.at.address.address_for_lookup();
        let entry = if self.at.ip().is_null() {
            OrcEntry::NULL_CALL
        } else {
            match self.tables.find(at) {
                Ok(table) => table.find(at).ok_or(Stop::NoUnwindInfo(self.at.ip()))?,
                Err(NoTable::NotResident(missing)) => return Err(Stop::NotResident(missing)),
                Err(NoTable::None) => return self.step_by_frame_pointer(cfa),
            }
        };
        let step = self.stepper.by_entry(&entry, &self.at.registers, cfa);
        let step = step.map_err(|why| self.no_step(why))?;
        self.arrive(step, entry.signal, may_switch(&entry), FoundBy::Orc)
    }

    /// Code that no table describes: a kernel built with frame pointers, or machine code made at run time (BPF).
    fn step_by_frame_pointer(&mut self, cfa: &mut Option<VirtAddr>) -> Result<(), Stop> {
        let nothing = Stop::NoUnwindInfo(self.at.ip());
        let built_so = self.tables.frame_pointers();
        if !self.tables.is_code(self.at.address.address_for_lookup()) {
            return Err(nothing);
        }
        // Where it stands, or was interrupted, rbp may still be its caller's, or be it again.
        if built_so && !self.at.address.is_return_address() {
            let code = BareCode(|at| self.tables.is_code(at));
            let found = to_return(&code, self.stepper.memory, &self.at.registers, self.code_steps);
            if let Some(found) = found {
                *cfa = Some(found.registers.sp());
                let how = if found.by_frame_pointer { FoundBy::FramePointer } else { FoundBy::Code };
                return self.arrive(Step::Caller(found.registers), false, false, how);
            }
        }
        let step = match self.at.registers.get(X86_64::RBP) {
            // Each way into the kernel clears it: no function called its first one.
            Some(0) if built_so => Ok(Step::End),
            // Ways into a kernel with frame pointers leave the address of the stored registers, plus one.
            Some(bp) if built_so && bp & 1 == 1 => self.stepper.registers_at(bp - 1).map(Step::Interrupted),
            Some(bp) if bp != 0 => self.stepper.by_frame_pointer(bp, cfa),
            _ => return Err(nothing),
        };
        let step = step.map_err(|why| self.no_step(why))?;
        if let Step::Caller(caller) = &step
            && !self.tables.is_code(CodeAddress::ReturnAddress(caller.ip()).address_for_lookup())
        {
            return Err(nothing);
        }
        let interrupted = matches!(step, Step::Interrupted(_));
        // A chain goes on from an interrupt's stack to the one that was left.
        self.arrive(step, interrupted, interrupted || built_so, FoundBy::FramePointer)
    }

    /// Goes where a step leads, if that is on: up the stack, or to another one.
    fn arrive(&mut self, step: Step, signal: bool, switch: bool, found_by: FoundBy) -> Result<(), Stop> {
        let registers = match step {
            Step::End => return Err(Stop::End),
            // The user part is another walk's.
            Step::Interrupted(entered) if entered.from_user || entered.is_empty() => return Err(Stop::End),
            Step::Interrupted(entered) => entered.registers,
            Step::Caller(caller) => caller,
        };
        if registers.sp() <= self.at.registers.sp() {
            if !switch {
                return Err(Stop::BadFrame(self.at.ip()));
            }
            self.at.switch()?;
        }
        self.at.registers = registers;
        self.at.found_by = found_by;
        self.at.address = if signal {
            CodeAddress::InstructionPointer(registers.ip())
        } else {
            CodeAddress::ReturnAddress(registers.ip())
        };
        Ok(())
    }

    #[cold]
    fn no_step(&self, why: NoStep) -> Stop {
        match why {
            NoStep::Undefined => Stop::NoUnwindInfo(self.at.ip()),
            NoStep::Bad => Stop::BadFrame(self.at.ip()),
            NoStep::NotResident(at) => Stop::NotResident(at),
        }
    }
}

impl<T: OrcTables + ?Sized, V: VirtualMemory + ?Sized> Iterator for KernelWalk<'_, T, V> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let mut frame = self.at.frame()?;
        if let Err(stop) = self.step(&mut frame.cfa) {
            self.at.stop = Some(stop);
        }
        Some(frame)
    }
}

impl<T: OrcTables + ?Sized, V: VirtualMemory + ?Sized> core::iter::FusedIterator for KernelWalk<'_, T, V> {}

impl<T: ?Sized, V: ?Sized> fmt::Debug for KernelWalk<'_, T, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)
    }
}
