//! [`Unwinder`] and [`Walk`]: frame after frame.

use alloc::vec::Vec;
use core::fmt;

use vmc::view::{FoundBy, Stop};
use vmc::{Limits, VirtAddr, VirtualMemory};

use crate::cache::{Cache, Key};
use crate::cfi::{Described, RowError};
use crate::code_address::CodeAddress;
use crate::frame::Frame;
use crate::machine::{Bare, BareFrame, Machine};
use crate::module::{Found, Modules, NoTable};
use crate::row_step::{NoCaller, Notes, RowStep};
use crate::{aarch64, x86_64};

/// Walks stacks of one process: its modules, its memory, and the bounds.
pub struct Unwinder<'a, M: ?Sized, V: ?Sized> {
    pub(crate) modules: &'a M,
    pub(crate) memory: &'a V,
    pub(crate) limits: &'a Limits,
}

impl<'a, M: Modules + ?Sized, V: VirtualMemory + ?Sized> Unwinder<'a, M, V> {
    /// An unwinder over these.
    #[must_use]
    pub const fn new(modules: &'a M, memory: &'a V, limits: &'a Limits) -> Self {
        Self { modules, memory, limits }
    }

    /// The stack that these registers stand on, innermost frame first.
    pub fn walk<'c>(
        &self,
        registers: impl Into<x86_64::Registers>,
        cache: &'c mut Cache,
    ) -> Walk<'a, 'c, M, V> {
        self.start(registers.into(), cache)
    }

    /// The stack of an aarch64 program that these registers stand on, innermost frame first. They also say which bits of
    /// code addresses are signatures ([`aarch64::Registers::with_signature`]).
    pub fn walk_aarch64<'c>(
        &self,
        registers: impl Into<aarch64::Registers>,
        cache: &'c mut Cache,
    ) -> Walk<'a, 'c, M, V, aarch64::Registers> {
        self.start(registers.into(), cache)
    }

    fn start<'c, R: Machine>(&self, registers: R, cache: &'c mut Cache) -> Walk<'a, 'c, M, V, R> {
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
            searches: self.limits.code_searches,
            module: None,
            unread: None,
            signals: Vec::new(),
            stop: None,
        }
    }
}

impl<M: ?Sized, V: ?Sized> fmt::Debug for Unwinder<'_, M, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unwinder").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// An iterator over the frames of one stack, on x86_64 where nothing else is said; it ends, and then says why by
/// [`stop`](Self::stop).
pub struct Walk<'a, 'c, M: ?Sized, V: ?Sized, R = x86_64::Registers> {
    modules: &'a M,
    memory: &'a V,
    limits: &'a Limits,
    cache: &'c mut Cache,
    /// Of the next frame.
    registers: R,
    address: CodeAddress,
    found_by: FoundBy,
    interrupted: bool,
    /// How many frames may still come.
    left: usize,
    /// How many times the walk may still go to another stack.
    switches: usize,
    /// How many times it may still search code for a function's start.
    searches: u32,
    /// The module of the frame before: often the next one's too.
    module: Option<Found<'a>>,
    /// Where a saved register could not be read.
    unread: Option<VirtAddr>,
    /// Address and stack pointer of the signal frames so far.
    signals: Vec<(VirtAddr, VirtAddr)>,
    stop: Option<Stop>,
}

#[expect(private_bounds, reason = "the registers of known architectures are all that there are")]
impl<'a, M: Modules + ?Sized, V: VirtualMemory + ?Sized, R: Machine> Walk<'a, '_, M, V, R> {
    /// Why the walk ended. Before it has: [`Stop::Limit`], for then it is the caller who sets the bound.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.stop.unwrap_or(Stop::Limit)
    }

    /// From the frame at hand to its caller, or why there is none.
    #[inline]
    fn step(&mut self, cfa: &mut Option<VirtAddr>) -> Result<(), Stop> {
        let at = self.address.address_for_lookup();
        let module = match &self.module {
            Some(module) if module.range.start <= at && at < module.range.end => module,
            _ => {
                let found = self.modules.find(at).ok_or(Stop::NoUnwindInfo(self.address.address()))?;
                self.module.insert(found)
            }
        };
        let bias = module.bias;
        let table = match module.table {
            Ok(table) if table.address_size() == R::WORD => table,
            // Code of another kind: neither its tables nor its instructions are this walk's.
            Ok(_) => return Err(Stop::NoUnwindInfo(self.address.address())),
            Err(NoTable::None) => return self.step_bare(cfa, None),
            Err(NoTable::NotResident(missing)) => return self.step_bare(cfa, Some(missing)),
        };
        let link = at.get().wrapping_sub(bias);
        let key = Key::new(table.id(), link);
        let rule = match key.and_then(|key| R::rules(self.cache).get(key)) {
            Some(rule) => {
                self.cache.hit();
                rule
            }
            None => {
                self.cache.missed();
                if self.cache.scratch.spent > self.limits.unwind_walk_bytes {
                    return Err(Stop::Limit);
                }
                let described = table.describe::<R::Unfinished>(link, &mut self.cache.scratch);
                match &described {
                    Err(error) if error.leaves_the_code() => return self.step_bare(cfa, None),
                    // A program's tables are read when it throws; the code of a thread that waits was just run.
                    Err(RowError::NotResident { address }) => {
                        return self.step_bare(cfa, Some(VirtAddr::new(address.wrapping_add(bias))));
                    }
                    _ => {}
                }
                match described.map_err(|error| self.row_error(error, bias))? {
                    Described::Rule(rule) => {
                        if let Some(key) = key {
                            R::rules(self.cache).put(key, rule);
                        }
                        rule
                    }
                    Described::Row(row) => {
                        let step =
                            RowStep { table, memory: self.memory, steps: self.limits.expression_steps };
                        return self.step_by_row(&step, &row, cfa);
                    }
                }
            }
        };
        let mut notes = Notes::default();
        let stepped = self.registers.by_rule(&rule, self.memory, &mut notes);
        *cfa = notes.cfa;
        self.unread = self.unread.or(notes.unread);
        if let Err(why) = stepped {
            return Err(self.no_caller(why));
        }
        if notes.switched {
            self.note_switch()?;
        }
        self.found_by = FoundBy::Cfi;
        self.interrupted = false;
        self.arrive()
    }

    fn step_by_row(
        &mut self,
        step: &RowStep<'_, V>,
        row: &crate::cfi::Row,
        cfa: &mut Option<VirtAddr>,
    ) -> Result<(), Stop> {
        if row.signal_frame {
            self.note_signal()?;
        }
        let mut notes = Notes::default();
        let stepped = step.by_row(row, &mut self.registers, &mut notes);
        *cfa = notes.cfa;
        self.unread = self.unread.or(notes.unread);
        stepped.map_err(|why| self.no_caller(why))?;
        if notes.switched {
            self.note_switch()?;
        }
        self.interrupted = row.signal_frame;
        if row.signal_frame {
            self.found_by = FoundBy::SignalFrame;
            self.address = CodeAddress::InstructionPointer(self.registers.ip());
            return Ok(());
        }
        self.found_by = FoundBy::Cfi;
        self.arrive()
    }

    /// The walk goes on further down, on another stack.
    #[cold]
    fn note_switch(&mut self) -> Result<(), Stop> {
        self.switches = self.switches.checked_sub(1).ok_or(Stop::Limit)?;
        Ok(())
    }

    fn note_signal(&mut self) -> Result<(), Stop> {
        note_signal(&mut self.signals, (self.address.address(), self.registers.sp()), self.limits)
    }

    /// A step where no table describes the code, or the one that may is not in memory at `missing`.
    #[cold]
    fn step_bare(&mut self, cfa: &mut Option<VirtAddr>, missing: Option<VirtAddr>) -> Result<(), Stop> {
        let unknown = missing.map_or(Stop::NoUnwindInfo(self.address.address()), Stop::NotResident);
        let Some(module) = &self.module else { return Err(unknown) };
        let (modules, memory) = (self.modules, self.memory);
        let frame = BareFrame {
            range: &module.range,
            address: self.address,
            registers: &self.registers,
            chained: self.found_by == FoundBy::FramePointer,
        };
        let stepped = R::bare_step(modules, memory, &frame, self.limits.code_steps, &mut self.searches);
        let registers = match stepped {
            Bare::Outermost => return Err(Stop::End),
            Bare::Unknown => return Err(unknown),
            Bare::Signal(interrupted) => {
                self.note_signal()?;
                self.found_by = FoundBy::SignalFrame;
                let registers = interrupted.map_err(Stop::NotResident)?;
                self.interrupted = true;
                self.address = CodeAddress::InstructionPointer(registers.ip());
                *cfa = Some(registers.sp());
                self.registers = registers;
                return Ok(());
            }
            Bare::Caller(registers, _) if !self.is_above(&registers) => {
                return Err(Stop::BadFrame(self.address.address()));
            }
            Bare::Caller(registers, how) => {
                self.found_by = how;
                registers
            }
        };
        self.interrupted = false;
        *cfa = Some(registers.sp());
        self.registers = registers;
        self.arrive()
    }

    /// Does the walk get on with these as a caller's? A frame that has stored nothing may have its caller's stack pointer,
    /// where return addresses are in a register; of its caller that is not so.
    fn is_above(&self, caller: &R) -> bool {
        let (caller, callee) = (caller.sp(), self.registers.sp());
        caller > callee || (caller == callee && self.registers.link().is_some())
    }

    /// The registers are a caller's: is there one?
    #[inline]
    fn arrive(&mut self) -> Result<(), Stop> {
        if self.registers.ip().is_null() {
            return Err(Stop::End);
        }
        self.address = CodeAddress::ReturnAddress(self.registers.ip());
        Ok(())
    }

    #[cold]
    fn no_caller(&self, why: NoCaller) -> Stop {
        no_caller(why, self.unread, self.address.address())
    }

    #[cold]
    fn row_error(&self, error: RowError, bias: u64) -> Stop {
        row_error(error, bias, self.address.address())
    }
}

/// Every step but those over signal frames and to other stacks goes up, so a walk in circles comes by here. `here`: the
/// signal frame's address and stack pointer.
pub(crate) fn note_signal(
    signals: &mut Vec<(VirtAddr, VirtAddr)>,
    here: (VirtAddr, VirtAddr),
    limits: &Limits,
) -> Result<(), Stop> {
    if signals.contains(&here) {
        return Err(Stop::BadFrame(here.0));
    }
    if signals.len() >= limits.signal_frames {
        return Err(Stop::Limit);
    }
    signals.push(here);
    Ok(())
}

/// Why a walk ends at `ip`, where its frame has no caller. `unread`: where a saved register could not be read on the way.
pub(crate) fn no_caller(why: NoCaller, unread: Option<VirtAddr>, ip: VirtAddr) -> Stop {
    match why {
        NoCaller::Outermost => Stop::End,
        NoCaller::NotResident(at) => Stop::NotResident(at),
        // It is missing because memory was, further up.
        NoCaller::UnknownRegister => unread.map_or(Stop::BadFrame(ip), Stop::NotResident),
        NoCaller::Contradiction => Stop::BadFrame(ip),
    }
}

/// Why a walk ends at `ip`, where there is no row for it.
pub(crate) fn row_error(error: RowError, bias: u64, ip: VirtAddr) -> Stop {
    match error {
        RowError::NoFde { .. } => Stop::NoUnwindInfo(ip),
        RowError::NotResident { address } => Stop::NotResident(VirtAddr::new(address.wrapping_add(bias))),
        RowError::Malformed { .. } => Stop::BadFrame(ip),
    }
}

impl<M: Modules + ?Sized, V: VirtualMemory + ?Sized, R: Machine> Iterator for Walk<'_, '_, M, V, R> {
    type Item = Frame<R>;

    #[inline]
    fn next(&mut self) -> Option<Frame<R>> {
        if self.stop.is_some() {
            return None;
        }
        let Some(left) = self.left.checked_sub(1) else {
            self.stop = Some(Stop::Limit);
            return None;
        };
        self.left = left;
        // Copies in variables of their own: those that the caller of an inlined `next` does not look at cost nothing.
        let (address, found_by, interrupted_by_signal) = (self.address, self.found_by, self.interrupted);
        let registers = self.registers;
        let mut cfa = None;
        if let Err(stop) = self.step(&mut cfa) {
            self.stop = Some(stop);
        }
        Some(Frame { address, sp: registers.sp(), cfa, found_by, interrupted_by_signal, registers })
    }
}

impl<M: Modules + ?Sized, V: VirtualMemory + ?Sized, R: Machine> core::iter::FusedIterator
    for Walk<'_, '_, M, V, R>
{
}

impl<M: ?Sized, V: ?Sized, R: fmt::Debug> fmt::Debug for Walk<'_, '_, M, V, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Walk");
        debug.field("address", &self.address).field("registers", &self.registers).field("stop", &self.stop);
        debug.finish_non_exhaustive()
    }
}
