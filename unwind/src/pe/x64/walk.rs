//! [`PeUnwinder`] and [`PeWalk`]: the frames of a stack of x64 code in PE images.

use core::fmt;

use vmc::view::Stop;
use vmc::{Limits, VirtAddr, VirtualMemory};

use super::step::Step;
use crate::code_address::CodeAddress;
use crate::cursor::Cursor;
use crate::frame::Frame;
use crate::module::NoTable;
use crate::pe::functions::{PeModule, PeModules};
use crate::x86_64::Registers;

/// Walks stacks of x64 code in PE images, in a program or in the kernel: which images there are, the memory, and the bounds.
pub struct PeUnwinder<'a, M: ?Sized, V: ?Sized> {
    modules: &'a M,
    memory: &'a V,
    limits: &'a Limits,
}

impl<'a, M: PeModules + ?Sized, V: VirtualMemory + ?Sized> PeUnwinder<'a, M, V> {
    /// An unwinder over these.
    #[must_use]
    pub const fn new(modules: &'a M, memory: &'a V, limits: &'a Limits) -> Self {
        Self { modules, memory, limits }
    }

    /// The stack that these registers stand on, innermost frame first. `address` is their instruction pointer: as it is for
    /// running code, a return address for what was switched out.
    #[must_use]
    pub const fn walk(&self, registers: Registers, address: CodeAddress) -> PeWalk<'a, M, V> {
        PeWalk {
            modules: self.modules,
            memory: self.memory,
            at: Cursor::new(registers, address, self.limits),
            module: None,
            left_to: None,
        }
    }
}

impl<M: ?Sized, V: ?Sized> fmt::Debug for PeUnwinder<'_, M, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeUnwinder").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// An iterator over the frames of one stack; it ends, and then says why by [`stop`](Self::stop).
pub struct PeWalk<'a, M: ?Sized, V: ?Sized> {
    modules: &'a M,
    memory: &'a V,
    at: Cursor<Registers>,
    /// The image of the last frame: the next one often lies in it too.
    module: Option<PeModule>,
    left_to: Option<Registers>,
}

impl<M: PeModules + ?Sized, V: VirtualMemory + ?Sized> PeWalk<'_, M, V> {
    /// Why the walk ended. Before it has: [`Stop::Limit`], for then it is the caller who sets the bound.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.at.stop.unwrap_or(Stop::Limit)
    }

    /// The registers of the user code that was left where this kernel stack begins: known when the walk has ended there.
    #[must_use]
    pub const fn entered_from(&self) -> Option<&Registers> {
        self.left_to.as_ref()
    }

    fn module(&mut self, address: VirtAddr) -> Result<&PeModule, Stop> {
        if self.module.as_ref().is_none_or(|module| !module.range.contains(&address)) {
            self.module = Some(self.modules.find(address).map_err(|why| match why {
                NoTable::None => Stop::NoUnwindInfo(self.at.ip()),
                NoTable::NotResident(at) => Stop::NotResident(at),
            })?);
        }
        self.module.as_ref().ok_or(Stop::NoUnwindInfo(self.at.ip()))
    }

    fn step(&mut self, cfa: &mut Option<VirtAddr>) -> Result<(), Stop> {
        let (memory, address, registers) = (self.memory, self.at.address, self.at.registers);
        let module = self.module(address.address_for_lookup())?;
        let caller = Step { memory, module, address }.caller(&registers)?;
        *cfa = Some(caller.registers.sp());
        if caller.registers.ip().is_null() {
            return Err(Stop::End);
        }
        // The code segment says the mode: the last two bits.
        if let Some(segment) = caller.machine_frame
            && segment & 3 == 3
            && is_kernel(registers.ip())
        {
            self.left_to = Some(caller.registers);
            return Err(Stop::End);
        }
        if caller.registers.sp() <= registers.sp() {
            if caller.machine_frame.is_none() {
                return Err(Stop::BadFrame(self.at.ip()));
            }
            self.at.switch()?;
        }
        self.at.registers = caller.registers;
        self.at.found_by = caller.found_by;
        self.at.interrupted = caller.machine_frame.is_some();
        self.at.address = match caller.machine_frame {
            Some(_) => CodeAddress::InstructionPointer(caller.registers.ip()),
            None => CodeAddress::ReturnAddress(caller.registers.ip()),
        };
        Ok(())
    }
}

/// Is it an address of the kernel's half?
const fn is_kernel(address: VirtAddr) -> bool {
    address.get() >> 63 == 1
}

impl<M: PeModules + ?Sized, V: VirtualMemory + ?Sized> Iterator for PeWalk<'_, M, V> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let mut frame = self.at.frame()?;
        if let Err(stop) = self.step(&mut frame.cfa) {
            self.at.stop = Some(stop);
        }
        Some(frame)
    }
}

impl<M: PeModules + ?Sized, V: VirtualMemory + ?Sized> core::iter::FusedIterator for PeWalk<'_, M, V> {}

impl<M: ?Sized, V: ?Sized> fmt::Debug for PeWalk<'_, M, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)
    }
}
