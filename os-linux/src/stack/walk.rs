//! The walk over one thread's stack, and the names of its frames.

use vmc::text::lossless;
use vmc::view::{Frame, FrameSymbol, Space, Stack, Stop};
use vmc::{ReadExt, VirtAddr};
use vmc_unwind::{Cache, CodeAddress, Scratch, Unwinder, guess_callers};

use crate::stack::Stacks;
use crate::stack::modules::CodeOf;
use crate::stack::registers::UserPart;
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
        let unwinder = Unwinder::new(&code, memory, limits);
        let mut scratch = Scratch::new();
        let mut walk = unwinder.walk(&*registers, cache);
        for frame in walk.by_ref() {
            stack.frames.push(code.named(&frame, &mut scratch));
        }
        stack.stop = Some(walk.stop());
        if guess && stack.stop != Some(Stop::End) {
            // Behind the last frame; the first word is its own where it has taken none yet.
            let from = stack.frames.last().map(|frame| frame.sp);
            let guesses = from.map(|from| guess_callers(&code, memory, from, limits)).unwrap_or_default();
            stack.frames.extend(guesses.iter().map(|frame| code.named(frame, &mut scratch)));
        }
        // A page that the walk could not read, told in full.
        if let Some(Stop::NotResident(at)) = stack.stop
            && let Err(why) = memory.read_value::<u8>(at)
        {
            stack.errors.push(limits, "stack", &why);
        }
        stack
    }
}

impl CodeOf<'_, '_, '_> {
    /// The frame with the names of what it stands in.
    fn named(&self, frame: &vmc_unwind::Frame, scratch: &mut Scratch) -> Frame {
        let at = frame.address.address_for_lookup();
        let code = self.at(at);
        let symbol = code.and_then(|code| self.symbol(code.image, at, frame.address));
        let function_start = match &symbol {
            Some(symbol) => Some(symbol.start),
            None => code.and_then(|code| self.function_start(code.image?, at, scratch)),
        };
        Frame {
            ip: frame.address.address(),
            sp: frame.sp,
            cfa: frame.cfa,
            space: Space::User,
            symbol,
            function_start,
            module: code.and_then(|code| code.module.clone()),
            found_by: frame.found_by,
            signal: frame.interrupted_by_signal,
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
