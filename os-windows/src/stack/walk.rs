//! The walk over one thread's stack.

use alloc::vec::Vec;

use vmc::view::{Frame, FrameSymbol, RowErrors, Space, Stack, Stop};
use vmc::{VirtAddr, VirtualMemory};
use vmc_unwind::CodeAddress;
use vmc_unwind::gimli;
use vmc_unwind::pe::x64::PeUnwinder;
use vmc_unwind::x86_64::Registers;

use super::modules::{InMemory, ModuleMap};
use super::names;
use super::{OfProcess, Stacks};
use crate::process::UserMemory;
use crate::thread::Thread;

/// `KSWITCH_FRAME`: what `SwapContext` leaves on the stack of the thread that it leaves.
const SWITCH_RBP: u64 = 0x30;
const SWITCH_RETURN: u64 = 0x38;
const SWITCH_BYTES: u64 = 0x40;

/// Where a walk begins.
enum Start {
    /// In the kernel.
    Kernel(Registers, CodeAddress),
    /// In user mode.
    User(Registers),
}

impl Stacks<'_> {
    pub(super) fn walk(&self, thread: &Thread<'_>, kernel: bool, user: bool) -> Stack {
        let mut stack = Stack::default();
        let part = self.processes.get(&thread.process().object());
        let limits = self.windows.limits();
        let mut errors = RowErrors::default();
        match self.start(thread) {
            Ok(Start::User(registers)) if user => self.user_part(part, registers, &mut stack),
            Ok(Start::User(_)) => {}
            Ok(Start::Kernel(registers, address)) => {
                let memory = self.kernel_memory(part);
                let (frames, stop, left) =
                    self.frames(&self.kernel, memory, registers, address, Space::Kernel);
                if kernel {
                    stack.frames = frames;
                    stack.kernel_stop = Some(stop);
                }
                // Where the walk does not get there, the thread itself has the frame of its entry.
                let left = left.or_else(|| if stop == Stop::End { None } else { self.trapped(thread) });
                if let Some(registers) = left.filter(|_| user) {
                    self.user_part(part, registers, &mut stack);
                }
            }
            Err(why) => {
                errors.push(limits, "stack", &why);
                // What is left of the thread: where it entered the kernel. Of one that runs that is a former time.
                let left = if user && thread.running_on().is_none() { self.trapped(thread) } else { None };
                if let Some(registers) = left {
                    self.user_part(part, registers, &mut stack);
                }
            }
        }
        stack.errors.append(limits, errors);
        stack
    }

    /// Where the thread stands.
    fn start(&self, thread: &Thread<'_>) -> Result<Start, alloc::string::String> {
        use alloc::string::ToString;
        if let Some(on) = self.running.iter().find(|on| on.thread == thread.object()) {
            let from = &on.registers;
            let registers = Registers::with_all(VirtAddr::new(from.rip), from.general);
            return Ok(if from.in_user_mode() {
                Start::User(registers)
            } else {
                Start::Kernel(registers, CodeAddress::InstructionPointer(registers.ip()))
            });
        }
        if thread.running_on().is_some() {
            return Err("it runs on a processor whose registers the target does not have".into());
        }
        let fields = self.fields.as_ref().map_err(ToString::to_string)?;
        let kernel = self.windows.kernel();
        let frame = fields.kernel_stack.pointer(kernel, thread.object()).map_err(|why| why.to_string())?;
        let bounds = (
            fields.stack_limit.pointer(kernel, thread.object()),
            fields.stack_base.pointer(kernel, thread.object()),
        );
        let (Ok(limit), Ok(base)) = bounds else {
            return Err("the bounds of its kernel stack cannot be read".into());
        };
        let inside = frame >= limit && frame.checked_add(SWITCH_BYTES).is_some_and(|end| end <= base);
        if !inside {
            return Err(alloc::format!(
                "its stack pointer {frame} lies outside its kernel stack ({limit} to {base})"
            ));
        }
        let word = |at: u64| kernel.read_u64(frame.wrapping_add(at)).map_err(|why| why.to_string());
        let ip = VirtAddr::new(word(SWITCH_RETURN)?);
        if ip.is_null() {
            return Err("there is no switch frame on its kernel stack: it was never switched out".into());
        }
        let mut registers = Registers::new(ip, frame.wrapping_add(SWITCH_BYTES));
        registers.set(gimli::X86_64::RBP, word(SWITCH_RBP)?);
        Ok(Start::Kernel(registers, CodeAddress::ReturnAddress(ip)))
    }

    /// The registers of user mode in the trap frame that the thread itself names.
    fn trapped(&self, thread: &Thread<'_>) -> Option<Registers> {
        let fields = self.fields.as_ref().ok()?;
        let kernel = self.windows.kernel();
        let at = fields.trap_frame?.pointer(kernel, thread.object()).ok().filter(|at| !at.is_null())?;
        fields.trapped(kernel, at)?.ok()
    }

    fn user_part(&self, part: Option<&OfProcess<'_>>, registers: Registers, stack: &mut Stack) {
        let limits = self.windows.limits();
        match part.map(|part| (part, &part.memory)) {
            Some((part, Ok(memory))) => {
                // No stack pointer of the program leads into the kernel.
                let memory = &UserMemory::new(memory);
                let address = CodeAddress::InstructionPointer(registers.ip());
                let (frames, stop, _) = self.frames(&part.modules, memory, registers, address, Space::User);
                stack.frames.extend(frames);
                stack.stop = Some(stop);
            }
            Some((_, Err(why))) => stack.errors.push(limits, "user stack", why),
            None => stack.errors.push(limits, "user stack", &"its process was not made ready"),
        }
    }

    fn frames(
        &self,
        modules: &ModuleMap,
        memory: &dyn VirtualMemory,
        registers: Registers,
        address: CodeAddress,
        space: Space,
    ) -> (Vec<Frame>, Stop, Option<Registers>) {
        let images = InMemory { modules, memory };
        let limits = self.windows.limits();
        let mut walk = PeUnwinder::new(&images, memory, limits).walk(registers, address);
        let frames = walk.by_ref().map(|frame| self.named(&frame, modules, memory, space)).collect();
        (frames, walk.stop(), walk.entered_from().copied())
    }

    /// A frame with its names.
    fn named(
        &self,
        frame: &vmc_unwind::Frame,
        modules: &ModuleMap,
        memory: &dyn VirtualMemory,
        space: Space,
    ) -> Frame {
        let (at, ip) = (frame.address.address_for_lookup(), frame.address.address());
        let entry = modules.find(at);
        let kernel = self.windows.identity();
        let own = space == Space::Kernel && at >= kernel.base && at < kernel.base.wrapping_add(kernel.size);
        let symbol = if own {
            names::symbol(self.windows.symbols(), VirtAddr::new(0), at)
        } else {
            entry.and_then(|entry| entry.names.at(memory, entry.base(), at, self.windows.limits()))
        };
        let symbol =
            symbol.map(|symbol| FrameSymbol { offset: ip.get().wrapping_sub(symbol.start.get()), ..symbol });
        let function_start = symbol.as_ref().map(|symbol| symbol.start).or_else(|| {
            let table = entry?.table(memory).as_ref().ok()?;
            let found = table.functions(memory).find(table.rva(at)?).ok()??;
            Some(table.at(found.begin))
        });
        Frame {
            ip,
            sp: frame.sp,
            cfa: frame.cfa,
            space,
            symbol,
            function_start,
            module: entry.map(|entry| alloc::sync::Arc::clone(&entry.module)),
            found_by: frame.found_by,
            signal: frame.interrupted_by_signal,
        }
    }
}
