//! The walk over the kernel part of a thread's stack, and both parts joined.

use vmc::view::{Frame, Space, Stack, Stop};
use vmc_unwind::Cache;
use vmc_unwind::orc::KernelUnwinder;

use super::code::KernelCode;
use super::start::KernelPart;
use crate::error::LinuxError;
use crate::stack::{Stacks, tell_missing_page};
use crate::task::Task;

impl<'k, 'm> Stacks<'k, 'm> {
    fn kernel_code(&self) -> Result<&KernelCode<'k, 'm>, LinuxError> {
        self.kernel.get(|| KernelCode::new(self.linux))
    }

    /// The kernel part of a thread's stack, innermost frame first. A thread that runs its program has none. It needs
    /// nothing that was gathered: the thread may be of any process.
    #[must_use]
    pub fn kernel_stack(&self, task: &Task<'_, '_>) -> Stack {
        let mut stack = Stack::default();
        let limits = self.linux.limits();
        let (registers, address) = match task.kernel_part(&mut stack.errors) {
            KernelPart::Registers(registers, address) => (registers, address),
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
        let unwinder = KernelUnwinder::new(code, self.linux.space(), &code.saved, limits);
        let mut walk = unwinder.walk(registers, address);
        for frame in walk.by_ref() {
            let (module, symbol) = code.named(frame.address);
            let function_start = symbol.as_ref().map(|symbol| symbol.start);
            stack.frames.push(Frame {
                function_start,
                ip: frame.address.address(),
                sp: frame.sp,
                cfa: frame.cfa,
                space: Space::Kernel,
                symbol,
                module,
                found_by: frame.found_by,
                signal: false,
            });
        }
        stack.kernel_stop = Some(walk.stop());
        tell_missing_page(self.linux.space(), stack.kernel_stop, "kernel stack", limits, &mut stack.errors);
        stack
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
