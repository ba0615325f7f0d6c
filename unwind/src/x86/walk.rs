//! [`Walk`]: frame after frame of a 32-bit stack.

use alloc::vec::Vec;
use core::fmt;

use vmc::view::{FoundBy, Stop};
use vmc::{Limits, VirtAddr, VirtualMemory};

use super::registers::Registers;
use super::signal::{interrupted, returns_from_signal};
use crate::cache::Cache;
use crate::cfi::{AddressSize, RowError};
use crate::code_address::CodeAddress;
use crate::frame::Frame;
use crate::module::{Found, Modules, NoTable};
use crate::row_step::{Notes, RowStep};
use crate::unwinder::{Unwinder, no_caller, note_signal, row_error};

impl<'a, M: Modules + ?Sized, V: VirtualMemory + ?Sized> Unwinder<'a, M, V> {
    /// The stack of a 32-bit program that these registers stand on, innermost frame first. Of `cache` only the memory for
    /// evaluating rules is used.
    pub fn walk_x86<'c>(&self, registers: impl Into<Registers>, cache: &'c mut Cache) -> Walk<'a, 'c, M, V> {
        let registers = registers.into();
        cache.scratch.spent = 0;
        Walk {
            modules: self.modules,
            memory: self.memory,
            limits: self.limits,
            cache,
            registers,
            address: CodeAddress::InstructionPointer(registers.ip()),
            found_by: FoundBy::Registers,
            interrupted: false,
            left: self.limits.frames,
            switches: self.limits.stack_switches,
            unread: None,
            signals: Vec::new(),
            stop: None,
        }
    }
}

/// An iterator over the frames of one stack; it ends, and then says why by [`stop`](Self::stop).
pub struct Walk<'a, 'c, M: ?Sized, V: ?Sized> {
    modules: &'a M,
    memory: &'a V,
    limits: &'a Limits,
    cache: &'c mut Cache,
    /// Of the next frame.
    registers: Registers,
    address: CodeAddress,
    found_by: FoundBy,
    interrupted: bool,
    /// How many frames may still come, and how often the walk may still go to another stack.
    left: usize,
    switches: usize,
    /// Where a saved register could not be read.
    unread: Option<VirtAddr>,
    /// Address and stack pointer of the signal frames so far.
    signals: Vec<(VirtAddr, VirtAddr)>,
    stop: Option<Stop>,
}

impl<M: Modules + ?Sized, V: VirtualMemory + ?Sized> Walk<'_, '_, M, V> {
    /// Why the walk ended. Before it has: [`Stop::Limit`], for then it is the caller who sets the bound.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.stop.unwrap_or(Stop::Limit)
    }

    /// From the frame at hand to its caller, or why there is none.
    fn step(&mut self, cfa: &mut Option<VirtAddr>) -> Result<(), Stop> {
        let ip = self.address.address();
        let at = self.address.address_for_lookup();
        let Found { bias, table, .. } = self.modules.find(at).ok_or(Stop::NoUnwindInfo(ip))?;
        let table = match table {
            Ok(table) if table.address_size() == AddressSize::Four => table,
            Ok(_) | Err(NoTable::None) => return self.step_bare(cfa),
            Err(NoTable::NotResident(missing)) => return Err(Stop::NotResident(missing)),
        };
        if self.cache.scratch.spent > self.limits.unwind_walk_bytes {
            return Err(Stop::Limit);
        }
        let row = match table.row_for(at.get().wrapping_sub(bias), &mut self.cache.scratch) {
            Ok(row) => row,
            Err(RowError::NoFde { .. }) => return self.step_bare(cfa),
            Err(error) => return Err(row_error(error, bias, ip)),
        };
        if row.signal_frame {
            note_signal(&mut self.signals, (ip, self.registers.sp()), self.limits)?;
        }
        let mut notes = Notes::default();
        let step = RowStep { table, memory: self.memory, steps: self.limits.expression_steps };
        let stepped = step.by_row(&row, &mut self.registers, &mut notes);
        *cfa = notes.cfa;
        self.unread = self.unread.or(notes.unread);
        stepped.map_err(|why| no_caller(why, self.unread, ip))?;
        if notes.switched {
            self.switches = self.switches.checked_sub(1).ok_or(Stop::Limit)?;
        }
        self.arrive(if row.signal_frame { FoundBy::SignalFrame } else { FoundBy::Cfi })
    }

    /// A step where no table describes the code: only a return from a signal is known by what it does.
    #[cold]
    fn step_bare(&mut self, cfa: &mut Option<VirtAddr>) -> Result<(), Stop> {
        let ip = self.address.address();
        let context = returns_from_signal(self.memory, ip).ok_or(Stop::NoUnwindInfo(ip))?;
        let sp = self.registers.sp();
        note_signal(&mut self.signals, (ip, sp), self.limits)?;
        self.registers = interrupted(self.memory, sp, context).map_err(Stop::NotResident)?;
        *cfa = Some(self.registers.sp());
        self.arrive(FoundBy::SignalFrame)
    }

    /// The registers are a caller's, or what a signal interrupted: is there such a frame?
    fn arrive(&mut self, how: FoundBy) -> Result<(), Stop> {
        let ip = self.registers.ip();
        self.found_by = how;
        self.interrupted = how == FoundBy::SignalFrame;
        if self.interrupted {
            self.address = CodeAddress::InstructionPointer(ip);
            return Ok(());
        }
        if ip.is_null() {
            return Err(Stop::End);
        }
        self.address = CodeAddress::ReturnAddress(ip);
        Ok(())
    }
}

impl<M: Modules + ?Sized, V: VirtualMemory + ?Sized> Iterator for Walk<'_, '_, M, V> {
    type Item = Frame<Registers>;

    fn next(&mut self) -> Option<Frame<Registers>> {
        if self.stop.is_some() {
            return None;
        }
        let Some(left) = self.left.checked_sub(1) else {
            self.stop = Some(Stop::Limit);
            return None;
        };
        self.left = left;
        let mut frame = Frame {
            address: self.address,
            sp: self.registers.sp(),
            cfa: None,
            found_by: self.found_by,
            interrupted_by_signal: self.interrupted,
            registers: self.registers,
        };
        if let Err(stop) = self.step(&mut frame.cfa) {
            self.stop = Some(stop);
        }
        Some(frame)
    }
}

impl<M: Modules + ?Sized, V: VirtualMemory + ?Sized> core::iter::FusedIterator for Walk<'_, '_, M, V> {}

impl<M: ?Sized, V: ?Sized> fmt::Debug for Walk<'_, '_, M, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Walk");
        debug.field("address", &self.address).field("registers", &self.registers).field("stop", &self.stop);
        debug.finish_non_exhaustive()
    }
}
