//! The walk over the kernel part of a thread's stack, and both parts joined.

use alloc::vec::Vec;

use vmc::view::{Frame, Space, Stack, Stop};
use vmc_unwind::Cache;
use vmc_unwind::aarch64::kernel as aarch64;
use vmc_unwind::orc::KernelUnwinder;

use super::code::{KernelCode, Rules};
use super::start::KernelPart;
use crate::error::LinuxError;
use crate::stack::walk::FrameSink;
use crate::stack::{Stacks, tell_missing_page};
use crate::task::Task;

impl KernelCode<'_, '_> {
    /// The frame with the names of what it stands in.
    fn frame<R>(&self, frame: &vmc_unwind::Frame<R>) -> Frame {
        let (module, symbol) = self.named(frame.address);
        Frame {
            function_start: symbol.as_ref().map(|symbol| symbol.start),
            ip: frame.address.address(),
            sp: frame.sp,
            cfa: frame.cfa,
            space: Space::Kernel,
            symbol,
            module,
            found_by: frame.found_by,
            signal: false,
        }
    }
}

/// Takes all frames of the kernel's code, with their names.
struct NamedFrames<'f, 'c, 'k, 'm> {
    code: &'c KernelCode<'k, 'm>,
    frames: &'f mut Vec<Frame>,
}

impl FrameSink for NamedFrames<'_, '_, '_, '_> {
    fn take<R>(&mut self, frames: impl Iterator<Item = vmc_unwind::Frame<R>>) {
        self.frames.extend(frames.map(|frame| self.code.frame(&frame)));
    }
}

impl<'k, 'm> Stacks<'k, 'm> {
    pub(in crate::stack) fn kernel_code(&self) -> Result<&KernelCode<'k, 'm>, LinuxError> {
        self.kernel.get(|| KernelCode::new(self.linux))
    }

    /// The kernel part of a thread's stack, innermost frame first. A thread that runs its program has none. It needs
    /// nothing that was gathered: the thread may be of any process.
    #[must_use]
    pub fn kernel_stack(&self, task: &Task<'_, '_>) -> Stack {
        let mut stack = Stack::default();
        let limits = self.linux.limits();
        let part = task.kernel_part(&mut stack.errors);
        let address = match &part {
            KernelPart::X86_64(_, address) | KernelPart::Aarch64(_, address, _) => *address,
            KernelPart::None => return stack,
            KernelPart::Unknown => {
                stack.kernel_stop = Some(Stop::NotResident(task.address()));
                return stack;
            }
        };
        let Some(code) = stack.errors.keep(limits, "the kernel's unwind tables", self.kernel_code()) else {
            stack.kernel_stop = Some(Stop::NoUnwindInfo(address.address()));
            return stack;
        };
        let mut named = NamedFrames { code, frames: &mut stack.frames };
        // Nothing for registers of one architecture with the kernel of another.
        let stop = self.walk_kernel(code, part, &mut named);
        stack.kernel_stop = Some(stop.unwrap_or(Stop::NoUnwindInfo(address.address())));
        tell_missing_page(self.linux.space(), stack.kernel_stop, "kernel stack", limits, &mut stack.errors);
        stack
    }

    /// Walks over the kernel part of a stack. Nothing where there is none, or none that this kernel's code can have.
    pub(in crate::stack) fn walk_kernel(
        &self,
        code: &KernelCode<'k, 'm>,
        part: KernelPart,
        sink: &mut impl FrameSink,
    ) -> Option<Stop> {
        let (space, limits) = (self.linux.space(), self.linux.limits());
        match (part, &code.rules) {
            (KernelPart::X86_64(registers, address), Rules::Orc(rules)) => {
                let mut walk =
                    KernelUnwinder::new(code, space, &rules.saved, limits).walk(registers, address);
                sink.take(walk.by_ref());
                Some(walk.stop())
            }
            (KernelPart::Aarch64(registers, address, stacks), Rules::Records(saved)) => {
                let unwinder = aarch64::KernelUnwinder::new(code, space, *saved, &stacks, limits);
                let mut walk = unwinder.walk(registers, address);
                sink.take(walk.by_ref());
                Some(walk.stop())
            }
            _ => None,
        }
    }

    /// A thread's whole stack: the kernel's frames, then its program's. The thread has to be of a process that these were
    /// [gathered](crate::Linux::stacks) for; `guess` and `cache` are [`user_stack`](Self::user_stack)'s.
    #[must_use]
    pub fn stack(&self, task: &Task<'_, '_>, guess: bool, cache: &mut Cache) -> Stack {
        let mut whole = self.kernel_stack(task);
        let user = self.user_stack(task, guess, cache);
        whole.frames.extend(user.frames);
        whole.stop = user.stop;
        whole.errors.append(self.linux.limits(), user.errors);
        whole
    }
}
