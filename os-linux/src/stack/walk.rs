//! The walk over one thread's stack, and the names of its frames.

use alloc::sync::Arc;
use alloc::vec::Vec;

use vmc::text::lossless;
use vmc::view::{Frame, FrameModule, FrameSymbol, Space, Stack, Stop};
use vmc::{Registers, VirtAddr};
use vmc_unwind::{
    Cache, CodeAddress, Scratch, Unwinder, guess_callers, guess_callers_aarch64, guess_callers_x86,
};

use crate::stack::modules::CodeOf;
use crate::stack::registers::{USER_CODE_32, UserPart};
use crate::stack::{Stacks, tell_missing_page};
use crate::task::Task;

impl Stacks<'_, '_> {
    /// The user part of a thread's stack, innermost frame first. The thread has to be of a process that these were
    /// [gathered](crate::Linux::stacks) for.
    ///
    /// With `guess`, what looks like return addresses is added where the walk stopped short ([`FoundBy::Scan`](vmc::view::FoundBy::Scan)).
    ///
    /// `cache` keeps unwind rules from stack to stack; each worker has its own.
    #[must_use]
    pub fn user_stack(&self, task: &Task<'_, '_>, guess: bool, cache: &mut Cache) -> Stack {
        let mut stack = Stack::default();
        let registers = match task.user_part(&mut stack.errors) {
            UserPart::Registers(registers) => registers,
            UserPart::None => return stack,
            UserPart::Unknown => {
                stack.stop = Some(Stop::NotResident(task.address()));
                return stack;
            }
        };
        let limits = self.linux.limits();
        let Some(Some(mm)) = stack.errors.keep(limits, "mm", task.mm()) else { return stack };
        let Some(code) = self.code_of(mm) else {
            stack.errors.push(limits, "stack", &"its process is not among those that were gathered");
            return stack;
        };
        let memory = &code.process.memory;
        let frames = &mut stack.frames;
        let walked = self.walk_user(&code, &registers, cache, &mut NamedFrames { code: &code, frames });
        stack.stop = Some(walked.unwrap_or_else(|| {
            stack.errors.push(
                limits,
                "stack",
                &"it runs a program of 32 bits (AArch32), which is not walked",
            );
            Stop::NoUnwindInfo(registers.instruction_pointer())
        }));
        code.name_signal_returns(frames);
        // Behind the last frame; the first word is its own where it has taken none yet.
        if guess
            && stack.stop != Some(Stop::End)
            && let Some(from) = frames.last().map(|frame| frame.sp)
        {
            match &*registers {
                Registers::X86_64(registers) if registers.cs == USER_CODE_32 => {
                    code.extend(frames, guess_callers_x86(&code, memory, from, limits).into_iter());
                }
                Registers::X86_64(_) => {
                    code.extend(frames, guess_callers(&code, memory, from, limits).into_iter());
                }
                Registers::Aarch64(_) => {
                    let signature = self.linux.signature();
                    let guesses = guess_callers_aarch64(&code, memory, from, limits, signature);
                    code.extend(frames, guesses.into_iter());
                }
                _ => {}
            }
        }
        tell_missing_page(memory, stack.stop, "stack", limits, &mut stack.errors);
        stack
    }

    /// Walks over the stack of a program's code from these registers on. Nothing where code of their kind is not walked
    /// (AArch32).
    pub(super) fn walk_user(
        &self,
        code: &CodeOf<'_, '_, '_>,
        registers: &Registers,
        cache: &mut Cache,
        sink: &mut impl FrameSink,
    ) -> Option<Stop> {
        let unwinder = Unwinder::new(code, &code.process.memory, self.linux.limits());
        match registers {
            Registers::X86_64(registers) if registers.cs == USER_CODE_32 => {
                let mut walk = unwinder.walk_x86(registers, cache);
                sink.take(walk.by_ref());
                Some(walk.stop())
            }
            Registers::X86_64(registers) => {
                let mut walk = unwinder.walk(registers, cache);
                sink.take(walk.by_ref());
                Some(walk.stop())
            }
            Registers::Aarch64(registers) if !registers.in_32_bit_mode() => {
                let mut walk = unwinder.walk_aarch64(self.linux.unwound(registers), cache);
                sink.take(walk.by_ref());
                Some(walk.stop())
            }
            _ => None,
        }
    }
}

/// What takes the frames of a walk, as many of them as it wants.
pub(super) trait FrameSink {
    fn take<R>(&mut self, frames: impl Iterator<Item = vmc_unwind::Frame<R>>);
}

/// Takes all frames of a program's code, with their names.
struct NamedFrames<'f, 'c, 's, 'k, 'm> {
    code: &'c CodeOf<'s, 'k, 'm>,
    frames: &'f mut Vec<Frame>,
}

impl FrameSink for NamedFrames<'_, '_, '_, '_, '_> {
    fn take<R>(&mut self, frames: impl Iterator<Item = vmc_unwind::Frame<R>>) {
        self.code.extend(self.frames, frames);
    }
}

impl CodeOf<'_, '_, '_> {
    /// Adds the frames of a walk, with their names.
    fn extend<R>(&self, frames: &mut Vec<Frame>, found: impl Iterator<Item = vmc_unwind::Frame<R>>) {
        let mut scratch = Scratch::new();
        frames.extend(found.map(|frame| self.named(&frame, &mut scratch)));
    }

    /// What an address stands in: its function, where that begins, and its image.
    pub(super) fn names_at(
        &self,
        address: CodeAddress,
        scratch: &mut Scratch,
    ) -> (Option<FrameSymbol>, Option<VirtAddr>, Option<Arc<FrameModule>>) {
        let at = address.address_for_lookup();
        let code = self.at(at);
        let symbol = code.and_then(|code| self.symbol(code.image, at, address));
        let function_start = match &symbol {
            Some(symbol) => Some(symbol.start),
            None => code.and_then(|code| self.function_start(code.image?, at, scratch)),
        };
        (symbol, function_start, code.and_then(|code| code.module.clone()))
    }

    /// The frame with the names of what it stands in.
    fn named<R>(&self, frame: &vmc_unwind::Frame<R>, scratch: &mut Scratch) -> Frame {
        let (symbol, function_start, module) = self.names_at(frame.address, scratch);
        Frame {
            ip: frame.address.address(),
            sp: frame.sp,
            cfa: frame.cfa,
            space: Space::User,
            symbol,
            function_start,
            module,
            found_by: frame.found_by,
            signal: frame.interrupted_by_signal,
        }
    }

    /// Code that returns from a signal was never called: its frame stands on its first byte, where no call lies before.
    fn name_signal_returns(&self, frames: &mut [Frame]) {
        let mut later = frames.iter_mut().rev();
        let mut interrupted = later.next().is_some_and(|frame| frame.signal);
        for frame in later {
            if interrupted && let Some(code) = self.at(frame.ip) {
                let symbol = self.symbol(code.image, frame.ip, CodeAddress::InstructionPointer(frame.ip));
                if let Some(symbol) = symbol.filter(|symbol| symbol.start == frame.ip) {
                    frame.function_start = Some(symbol.start);
                    frame.symbol = Some(symbol);
                }
            }
            interrupted = frame.signal;
        }
    }

    /// Where the function begins that has no name, by the table for unwinding.
    fn function_start(
        &self,
        (image, bias): (usize, u64),
        at: VirtAddr,
        scratch: &mut Scratch,
    ) -> Option<VirtAddr> {
        let address = at.get().wrapping_sub(bias);
        let table = self.stacks.images.get(image)?.table_at(address).0.ok()?;
        let function = table.function_at(address, scratch)?;
        Some(VirtAddr::new(function.start.wrapping_add(bias)))
    }

    fn symbol(&self, image: Option<(usize, u64)>, at: VirtAddr, ip: CodeAddress) -> Option<FrameSymbol> {
        let (symbols, bias) = match image {
            Some((image, bias)) => (self.stacks.images.get(image)?.symbols(), bias),
            None => (self.process.generated(), 0),
        };
        let symbol = symbols.at(at.get().wrapping_sub(bias))?;
        let start = VirtAddr::new(symbol.address.wrapping_add(bias));
        Some(FrameSymbol {
            name: lossless(symbol.name),
            offset: ip.address().get().wrapping_sub(start.get()),
            start,
        })
    }
}
