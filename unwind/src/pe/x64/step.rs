//! From the registers of a frame to its caller's.

use vmc::view::{FoundBy, Stop};
use vmc::{VirtAddr, VirtualMemory};

use super::dwarf;
use super::epilog::Epilog;
use super::info::{Chained, InfoError, Operation, UnwindInfo};
use crate::code_address::CodeAddress;
use crate::pe::functions::{FunctionEntry, PeModule};
use crate::x86_64::{RIP, RSP, Registers};

/// How many parts of a function may be chained.
const CHAIN: usize = 32;
/// The registers that a callee preserves on Windows, by DWARF's numbers: rbx, rsi, rdi, rbp, r12 to r15.
const CALLEE_SAVED: u32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 0xf << 12;

/// Where a step has led.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) registers: Registers,
    /// The processor stored the registers: code was interrupted, in the mode that the code segment says.
    pub(super) machine_frame: Option<u16>,
    pub(super) found_by: FoundBy,
}

/// One step.
pub(super) struct Step<'a, V: ?Sized> {
    pub(super) memory: &'a V,
    pub(super) module: &'a PeModule,
    pub(super) address: CodeAddress,
}

impl<V: VirtualMemory + ?Sized> Step<'_, V> {
    fn word(&self, at: u64) -> Result<u64, Stop> {
        self.memory.read_u64(VirtAddr::new(at)).map_err(|error| Stop::NotResident(error.addr))
    }

    fn bad(&self) -> Stop {
        Stop::BadFrame(self.address.address())
    }

    fn info(&self, function: &FunctionEntry) -> Result<UnwindInfo, Stop> {
        let info = UnwindInfo::read(self.memory, self.module.at(function.unwind_info));
        info.map_err(|why| match why {
            InfoError::NotResident(at) => Stop::NotResident(at),
            InfoError::Version { .. } | InfoError::Code { .. } => self.bad(),
        })
    }

    /// The entry that has the unwind information of `rva`: where one points to another, that one.
    fn function(&self, rva: u32) -> Result<Option<FunctionEntry>, Stop> {
        let missing = |error: vmc::ReadError| Stop::NotResident(error.addr);
        let found = self.module.functions(self.memory).find(rva).map_err(missing)?;
        let Some(found) = found.filter(|entry| entry.unwind_info & 1 == 1) else { return Ok(found) };
        let real =
            FunctionEntry::read(self.memory, self.module.at(found.unwind_info & !1)).map_err(missing)?;
        if real.unwind_info & 1 == 1 {
            return Err(self.bad());
        }
        Ok(Some(FunctionEntry { unwind_info: real.unwind_info, ..found }))
    }

    /// The first part of the function that a part belongs to.
    fn primary(&self, part: FunctionEntry) -> Result<FunctionEntry, Stop> {
        let mut part = part;
        for _ in 0..CHAIN {
            match self.info(&part)?.chained {
                Chained::Parent(parent) => part = parent,
                Chained::Nothing | Chained::Handler(_) => return Ok(part),
            }
        }
        Err(self.bad())
    }

    /// The caller of the frame with these registers.
    pub(super) fn caller(&self, registers: &Registers) -> Result<Caller, Stop> {
        let nothing = Stop::NoUnwindInfo(self.address.address());
        let rva = self.module.rva(self.address.address_for_lookup()).ok_or(nothing)?;
        let Some(function) = self.function(rva)? else {
            // A leaf function has called nothing.
            if self.address.is_return_address() {
                return Err(nothing);
            }
            return self.returned(*registers, FoundBy::Pdata);
        };
        let here = self.module.rva(self.address.address()).ok_or(nothing)?;
        let info = self.info(&function)?;
        let offset = here.wrapping_sub(function.begin);
        if offset >= u32::from(info.prolog_size)
            && let Some(epilog) = self.epilog(registers, &function, &info)?
        {
            let mut caller = *registers;
            epilog.finish(self.memory, &mut caller).map_err(Stop::NotResident)?;
            return self.returned(caller, FoundBy::Pdata);
        }
        self.by_codes(registers, info, offset)
    }

    /// The epilog that the frame stands in, if it does.
    fn epilog(
        &self,
        registers: &Registers,
        function: &FunctionEntry,
        info: &UnwindInfo,
    ) -> Result<Option<Epilog>, Stop> {
        let end = self.module.at(function.end);
        if info.version == 2 {
            let left = end.offset_from(registers.ip()).unwrap_or(0);
            let inside = |(from, len): (u32, u32)| {
                left <= u64::from(from) && left > u64::from(from).saturating_sub(u64::from(len))
            };
            if !info.epilogs().any(inside) {
                return Ok(None);
            }
        }
        let frame = info.frame.map(|(register, _)| register);
        let Some(epilog) = Epilog::read(self.memory, registers, frame, end) else { return Ok(None) };
        let Some(target) = epilog.jump else { return Ok(Some(epilog)) };
        let Some(target) = self.module.rva(target) else { return Ok(Some(epilog)) };
        if function.contains(target) {
            // A jump to the begin is a tail call of itself, but not in a part that another one leads to.
            let whole = !matches!(info.chained, Chained::Parent(_));
            return Ok((whole && target == function.begin).then_some(epilog));
        }
        // A jump to another part of the same function leaves nothing.
        let Some(other) = self.function(target)? else { return Ok(Some(epilog)) };
        Ok((self.primary(other)? != self.primary(*function)?
            || target == other.begin && {
                matches!(self.info(&other)?.chained, Chained::Nothing | Chained::Handler(_))
            })
        .then_some(epilog))
    }

    /// By what the prolog has done up to `offset`.
    fn by_codes(&self, registers: &Registers, info: UnwindInfo, offset: u32) -> Result<Caller, Stop> {
        let mut caller = *registers;
        let (mut info, mut offset) = (info, offset);
        for _ in 0..CHAIN {
            if let Some(code_segment) = self.undo(&mut caller, &info, offset)? {
                return Ok(Caller {
                    registers: caller,
                    machine_frame: Some(code_segment),
                    found_by: FoundBy::Pdata,
                });
            }
            match info.chained {
                Chained::Parent(parent) => info = self.info(&parent)?,
                Chained::Nothing | Chained::Handler(_) => return self.returned(caller, FoundBy::Pdata),
            }
            // The parts before have done all of theirs.
            offset = u32::MAX;
        }
        Err(self.bad())
    }

    /// Undoes what one part's prolog did. The code segment, where a machine frame was met: that ends it.
    fn undo(&self, registers: &mut Registers, info: &UnwindInfo, offset: u32) -> Result<Option<u16>, Stop> {
        let done = |at: u8| u32::from(at) <= offset;
        let codes = || info.codes().map(|code| code.map_err(|_| self.bad()));
        let base_by = |frame: Option<(u8, u32)>, registers: &Registers| -> Option<u64> {
            let (register, distance) = frame?;
            Some(registers.value(dwarf(register))?.wrapping_sub(u64::from(distance)))
        };
        // Is the frame register made? Parts without a prolog of their own have it from their parent.
        let mut makes = codes().filter_map(|code| match code {
            Ok(code) if code.operation == Operation::SetFrame => Some(code.prolog_offset),
            _ => None,
        });
        let made = info.frame.is_some() && makes.next().is_none_or(done);
        let base =
            if made { base_by(info.frame, registers).ok_or(self.bad())? } else { registers.sp().get() };
        for code in codes() {
            let code = code?;
            if matches!(code.operation, Operation::Epilog { .. }) || !done(code.prolog_offset) {
                continue;
            }
            let sp = registers.sp().get();
            match code.operation {
                Operation::Push { register } => {
                    let value = self.word(sp)?;
                    registers.put(dwarf(register), value);
                    registers.put(RSP, sp.wrapping_add(8));
                }
                Operation::Allocate { size } => registers.put(RSP, sp.wrapping_add(u64::from(size))),
                Operation::SetFrame => {
                    registers.put(RSP, base_by(info.frame, registers).ok_or(self.bad())?);
                }
                Operation::Save { register, offset } => {
                    registers.put(dwarf(register), self.word(base.wrapping_add(u64::from(offset)))?);
                }
                Operation::MachineFrame { error_code } => {
                    let at = sp.wrapping_add(if error_code { 8 } else { 0 });
                    let word = |index: u64| self.word(at.wrapping_add(index * 8));
                    let (ip, code_segment, stack) = (word(0)?, word(1)?, word(3)?);
                    registers.put(RIP, ip);
                    registers.put(RSP, stack);
                    return Ok(Some(code_segment as u16));
                }
                Operation::SaveXmm { .. } | Operation::Epilog { .. } => {}
            }
        }
        Ok(None)
    }

    /// The return address is on top of the stack.
    fn returned(&self, registers: Registers, found_by: FoundBy) -> Result<Caller, Stop> {
        let mut caller = registers;
        let sp = caller.sp().get();
        let ip = self.word(sp)?;
        for number in (0..16).filter(|number| *number != RSP && CALLEE_SAVED >> number & 1 == 0) {
            caller.forget(gimli::Register(number));
        }
        caller.put(RIP, ip);
        caller.put(RSP, sp.wrapping_add(8));
        Ok(Caller { registers: caller, machine_frame: None, found_by })
    }
}
