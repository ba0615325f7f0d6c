//! [`Cursor`]: where a walk stands, and how far it may still go.

use core::fmt;

use vmc::view::{FoundBy, Stop};
use vmc::{Limits, VirtAddr};

use crate::code_address::CodeAddress;
use crate::frame::Frame;
use crate::row_step::RegisterFile;

/// The next frame of a walk, and its bounds.
pub(crate) struct Cursor<R> {
    pub(crate) registers: R,
    pub(crate) address: CodeAddress,
    pub(crate) found_by: FoundBy,
    pub(crate) interrupted: bool,
    /// How many frames may still come, and how often the walk may still go to another stack.
    left: usize,
    switches: usize,
    pub(crate) stop: Option<Stop>,
}

impl<R: Copy> Cursor<R> {
    pub(crate) const fn new(registers: R, address: CodeAddress, limits: &Limits) -> Self {
        Self {
            registers,
            address,
            found_by: FoundBy::Registers,
            interrupted: false,
            left: limits.frames,
            switches: limits.stack_switches,
            stop: None,
        }
    }

    /// Where the frame at hand stands.
    pub(crate) const fn ip(&self) -> VirtAddr {
        self.address.address()
    }

    /// The walk goes on further down, on another stack.
    pub(crate) fn switch(&mut self) -> Result<(), Stop> {
        self.switches = self.switches.checked_sub(1).ok_or(Stop::Limit)?;
        Ok(())
    }

    /// The frame at hand, without a CFA; nothing where the walk has ended, or may not go on.
    pub(crate) fn frame(&mut self) -> Option<Frame<R>>
    where
        R: RegisterFile,
    {
        if self.stop.is_some() {
            return None;
        }
        let Some(left) = self.left.checked_sub(1) else {
            self.stop = Some(Stop::Limit);
            return None;
        };
        self.left = left;
        Some(Frame {
            address: self.address,
            sp: self.registers.sp(),
            cfa: None,
            found_by: self.found_by,
            interrupted_by_signal: self.interrupted,
            registers: self.registers,
        })
    }
}

impl<R: fmt::Debug> fmt::Debug for Cursor<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Walk");
        debug.field("address", &self.address).field("registers", &self.registers).field("stop", &self.stop);
        debug.finish_non_exhaustive()
    }
}
