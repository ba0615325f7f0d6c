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
use crate::cursor::Cursor;
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
            at: Cursor::new(registers, CodeAddress::InstructionPointer(registers.ip()), self.limits),
            unread: None,
            signals: Vec::new(),
        }
    }
}

/// An iterator over the frames of one stack; it ends, and then says why by [`stop`](Self::stop).
pub struct Walk<'a, 'c, M: ?Sized, V: ?Sized> {
    modules: &'a M,
    memory: &'a V,
    limits: &'a Limits,
    cache: &'c mut Cache,
    at: Cursor<Registers>,
    /// Where a saved register could not be read.
    unread: Option<VirtAddr>,
    /// Address and stack pointer of the signal frames so far.
    signals: Vec<(VirtAddr, VirtAddr)>,
}

impl<M: Modules + ?Sized, V: VirtualMemory + ?Sized> Walk<'_, '_, M, V> {
    /// Why the walk ended. Before it has: [`Stop::Limit`], for then it is the caller who sets the bound.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.at.stop.unwrap_or(Stop::Limit)
    }

    /// From the frame at hand to its caller, or why there is none.
    fn step(&mut self, cfa: &mut Option<VirtAddr>) -> Result<(), Stop> {
        let ip = self.at.ip();
        let at = self.at.address.address_for_lookup();
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
            note_signal(&mut self.signals, (ip, self.at.registers.sp()), self.limits)?;
        }
        let mut notes = Notes::default();
        let step = RowStep { table, memory: self.memory, steps: self.limits.expression_steps };
        let stepped = step.by_row(&row, &mut self.at.registers, &mut notes);
        *cfa = notes.cfa;
        self.unread = self.unread.or(notes.unread);
        stepped.map_err(|why| no_caller(why, self.unread, ip))?;
        if notes.switched {
            self.at.switch()?;
        }
        self.arrive(if row.signal_frame { FoundBy::SignalFrame } else { FoundBy::Cfi })
    }

    /// A step where no table describes the code: only a return from a signal is known by what it does.
    #[cold]
    fn step_bare(&mut self, cfa: &mut Option<VirtAddr>) -> Result<(), Stop> {
        let ip = self.at.ip();
        let context = returns_from_signal(self.memory, ip).ok_or(Stop::NoUnwindInfo(ip))?;
        let sp = self.at.registers.sp();
        note_signal(&mut self.signals, (ip, sp), self.limits)?;
        self.at.registers = interrupted(self.memory, sp, context).map_err(Stop::NotResident)?;
        *cfa = Some(self.at.registers.sp());
        self.arrive(FoundBy::SignalFrame)
    }

    /// The registers are a caller's, or what a signal interrupted: is there such a frame?
    fn arrive(&mut self, how: FoundBy) -> Result<(), Stop> {
        let ip = self.at.registers.ip();
        self.at.found_by = how;
        self.at.interrupted = how == FoundBy::SignalFrame;
        if self.at.interrupted {
            self.at.address = CodeAddress::InstructionPointer(ip);
            return Ok(());
        }
        if ip.is_null() {
            return Err(Stop::End);
        }
        self.at.address = CodeAddress::ReturnAddress(ip);
        Ok(())
    }
}

impl<M: Modules + ?Sized, V: VirtualMemory + ?Sized> Iterator for Walk<'_, '_, M, V> {
    type Item = Frame<Registers>;

    fn next(&mut self) -> Option<Frame<Registers>> {
        let mut frame = self.at.frame()?;
        if let Err(stop) = self.step(&mut frame.cfa) {
            self.at.stop = Some(stop);
        }
        Some(frame)
    }
}

impl<M: Modules + ?Sized, V: VirtualMemory + ?Sized> core::iter::FusedIterator for Walk<'_, '_, M, V> {}

impl<M: ?Sized, V: ?Sized> fmt::Debug for Walk<'_, '_, M, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)
    }
}
