//! [`KernelUnwinder`] and [`KernelWalk`]: the frames of a kernel stack.

use core::fmt;
use core::ops::Range;

use vmc::view::{FoundBy, Stop};
use vmc::{Limits, VirtAddr, VirtualMemory};

use super::saved::{Record, SavedRegisters};
use super::step::without_record;
use crate::aarch64::reach::Taken;
use crate::aarch64::registers::{Registers, X29};
use crate::code_address::CodeAddress;
use crate::cursor::Cursor;
use crate::frame::Frame;
use crate::row_step::RegisterFile;

/// What a walk asks of a kernel's code.
pub trait KernelCode {
    /// Can there be code of the kernel or of its modules at `address`? Code of the start-up is such, even if it was freed since:
    /// idle threads were called from there.
    fn is_code(&self, address: VirtAddr) -> bool;

    /// Where the function begins that `address` lies in, if that is known: by it CFAs are found, and callers of functions that
    /// do not return.
    fn function_start(&self, address: VirtAddr) -> Option<VirtAddr>;
}

/// Walks kernel stacks: a kernel's code, its memory, how it stores registers, its stacks, and the bounds.
pub struct KernelUnwinder<'a, C: ?Sized, V: ?Sized> {
    code: &'a C,
    memory: &'a V,
    saved: SavedRegisters,
    stacks: &'a [Range<VirtAddr>],
    limits: &'a Limits,
}

impl<'a, C: KernelCode + ?Sized, V: VirtualMemory + ?Sized> KernelUnwinder<'a, C, V> {
    /// An unwinder over these. `stacks`: where records may lie (the thread's own stack; of the CPU that it runs on those for
    /// interrupts, overflows and firmware events). With none, anywhere, but only up.
    #[must_use]
    pub const fn new(
        code: &'a C,
        memory: &'a V,
        saved: SavedRegisters,
        stacks: &'a [Range<VirtAddr>],
        limits: &'a Limits,
    ) -> Self {
        Self { code, memory, saved, stacks, limits }
    }

    /// The stack that these registers stand on, innermost frame first. `address` is their program counter: as it is for a
    /// running thread (then all of them have to be known), a return address for one that was switched out (then x29 has to).
    #[must_use]
    pub fn walk(&self, registers: Registers, address: CodeAddress) -> KernelWalk<'a, C, V> {
        KernelWalk {
            code: self.code,
            memory: self.memory,
            saved: self.saved,
            stacks: self.stacks,
            limits: self.limits,
            at: Cursor::new(registers, address, self.limits),
            last: None,
        }
    }
}

impl<C: ?Sized, V: ?Sized> fmt::Debug for KernelUnwinder<'_, C, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelUnwinder").field("stacks", &self.stacks).finish_non_exhaustive()
    }
}

/// An iterator over the frames of one kernel stack; it ends, and then says why by [`stop`](Self::stop).
///
/// Where a frame was found by a record, only its program counter, x29 and stack pointer are known. The latter is its callee's
/// CFA; where the callee's start is not known that has none, and the caller's record stands for its stack pointer, below which
/// compilers put little.
pub struct KernelWalk<'a, C: ?Sized, V: ?Sized> {
    code: &'a C,
    memory: &'a V,
    saved: SavedRegisters,
    stacks: &'a [Range<VirtAddr>],
    limits: &'a Limits,
    at: Cursor<Registers>,
    /// Where the record before lies.
    last: Option<u64>,
}

impl<C: KernelCode + ?Sized, V: VirtualMemory + ?Sized> KernelWalk<'_, C, V> {
    /// Why the walk ended. Before it has: [`Stop::Limit`], for then it is the caller who sets the bound.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.at.stop.unwrap_or(Stop::Limit)
    }

    /// From the frame at hand to its caller, or to what it interrupted, or why there is neither.
    fn step(&mut self, frame: &mut Frame<Registers>) -> Result<(), Stop> {
        let ip = self.at.ip();
        if !self.at.address.is_return_address() {
            let found = without_record(self.code, self.memory, &self.at.registers, self.limits.code_steps);
            if let Some((caller, how)) = found {
                frame.cfa = Some(caller.sp());
                return self.arrive(caller, how);
            }
            if !self.code.is_code(ip) {
                // A call of nothing has only left its link.
                let mut caller = self.at.registers;
                let link = caller.link().ok_or(Stop::NoUnwindInfo(ip))?;
                caller.keep_callee_saved();
                caller.return_to(link);
                return self.arrive(caller, FoundBy::LinkRegister);
            }
        }
        let fp = self.at.registers.value(X29).ok_or(Stop::BadFrame(ip))?;
        // Before 5.14 a chain ends with none.
        if fp == 0 {
            return Err(Stop::End);
        }
        self.check_progress(fp)?;
        let record = self.saved.read_record(self.memory, fp, &self.at.registers);
        let record = record.map_err(|error| Stop::NotResident(error.addr))?;
        if self.at.found_by == FoundBy::FramePointer && !matches!(record, Record::Caller { .. }) {
            // A way into the kernel, or a thread's first function: the stack ends with the registers.
            frame.sp = self.saved.around(fp);
        }
        match record {
            Record::Last => Err(Stop::End),
            // The user part is another walk's.
            Record::Interrupted(entered) if entered.from_user => Err(Stop::End),
            Record::Interrupted(entered) => {
                self.at.registers = entered.registers;
                self.at.found_by = FoundBy::FramePointer;
                self.at.address = CodeAddress::InstructionPointer(self.at.registers.ip());
                Ok(())
            }
            Record::Caller { fp: next, link } => {
                let start = self.code.function_start(self.at.address.address_for_lookup());
                let taken = start.and_then(|start| Taken::with_record(self.memory, start));
                frame.cfa = taken.and_then(|taken| taken.cfa_by_record(fp)).map(VirtAddr::new);
                let least = VirtAddr::new(fp.wrapping_add(16));
                let sp = frame.cfa.unwrap_or(VirtAddr::new(next)).max(least);
                let mut caller =
                    Registers::new(VirtAddr::new(0), sp).with_signature(self.at.registers.signature());
                caller.put(X29, next);
                caller.return_to(link);
                self.arrive(caller, FoundBy::FramePointer)
            }
        }
    }

    fn arrive(&mut self, caller: Registers, how: FoundBy) -> Result<(), Stop> {
        if caller.ip().is_null() {
            return Err(Stop::End);
        }
        let address = CodeAddress::ReturnAddress(caller.ip());
        if !self.code.is_code(address.address_for_lookup()) {
            return Err(Stop::BadFrame(self.at.ip()));
        }
        self.at.registers = caller;
        self.at.found_by = how;
        self.at.address = address;
        Ok(())
    }

    /// Is a record at `fp` further up than the one before, or on another stack?
    fn check_progress(&mut self, fp: u64) -> Result<(), Stop> {
        let bad = Stop::BadFrame(self.at.ip());
        let stack_of = |at: u64| {
            let holds = |stack: &Range<VirtAddr>| {
                stack.start.get() <= at && at.checked_add(16).is_some_and(|end| end <= stack.end.get())
            };
            self.stacks.iter().position(holds)
        };
        let stack = stack_of(fp);
        if !fp.is_multiple_of(8) || (stack.is_none() && !self.stacks.is_empty()) {
            return Err(bad);
        }
        if let Some(last) = self.last
            && fp <= last
        {
            if stack_of(last) == stack {
                return Err(bad);
            }
            self.at.switch()?;
        }
        self.last = Some(fp);
        Ok(())
    }
}

impl<C: KernelCode + ?Sized, V: VirtualMemory + ?Sized> Iterator for KernelWalk<'_, C, V> {
    type Item = Frame<Registers>;

    fn next(&mut self) -> Option<Frame<Registers>> {
        let mut frame = self.at.frame()?;
        if let Err(stop) = self.step(&mut frame) {
            self.at.stop = Some(stop);
        }
        Some(frame)
    }
}

impl<C: KernelCode + ?Sized, V: VirtualMemory + ?Sized> core::iter::FusedIterator for KernelWalk<'_, C, V> {}

impl<C: ?Sized, V: ?Sized> fmt::Debug for KernelWalk<'_, C, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)
    }
}
