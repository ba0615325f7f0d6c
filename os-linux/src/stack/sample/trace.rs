//! The walk over what was held, cut where it comes to memory that was not.

use alloc::vec::Vec;

use vmc::addr::PAGE_SIZE;
use vmc::view::{Space, Stop};
use vmc::{Registers, VirtAddr};
use vmc_unwind::{Cache, CodeAddress};

use super::hold::{Held, MOST_PAGES};
use crate::stack::Stacks;
use crate::stack::kernel::KernelPart;
use crate::stack::walk::FrameSink;

/// A caller whose stack pointer is farther away than this is on another stack (a signal's, a coroutine's).
const FRAME_BYTES: u64 = 1 << 20;

/// A frame of a sample: where it stands, without a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Where it stands.
    pub address: CodeAddress,
    /// Kernel or user.
    pub space: Space,
    /// Its stack pointer.
    pub sp: VirtAddr,
    /// Its canonical frame address, where the walk got as far as that.
    pub cfa: Option<VirtAddr>,
}

/// The stack of a sample, innermost frame first.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The frames.
    pub points: Vec<Point>,
    /// How many of them are the kernel's.
    pub kernel: usize,
    /// Why the kernel's part ended, where there is one.
    pub kernel_stop: Option<Stop>,
    /// Why the program's part ended, where there is one.
    pub stop: Option<Stop>,
    /// How many pages of the program's stack the walk needed, or would have needed, for its next frame at least.
    pub user_pages: u64,
    /// Was it cut where it came to memory that was not held?
    pub cut: bool,
}

impl<'k, 'm> Stacks<'k, 'm> {
    /// Walks over what was [held](Self::hold) of a thread, with the vCPU's registers of then. The thread's process has to be
    /// [gathered](Self::gather).
    #[must_use]
    pub fn trace(&self, held: &Held<'k, 'm>, registers: &Registers, cache: &mut Cache) -> Trace {
        let mut trace = Trace::default();
        if held.in_kernel() {
            self.trace_kernel(held, registers, &mut trace);
        }
        trace.kernel = trace.points.len();
        if let (Some(user), Some(mm)) = (&held.user, held.mm()) {
            self.trace_user(held, mm, user, &mut trace, cache);
        }
        trace
    }

    fn trace_kernel(&self, held: &Held<'k, 'm>, registers: &Registers, trace: &mut Trace) {
        let part = held.task.on_vcpu(registers).unwrap_or(KernelPart::Unknown);
        let mut followed = Followed::new(held, Space::Kernel);
        let code = self.kernel_code().ok();
        let stop = code.and_then(|code| self.walk_kernel(code, part, &mut followed));
        trace.kernel_stop = Some(stop.unwrap_or_else(|| followed.not_walked(registers)));
        trace.cut |= followed.cut;
        trace.points.append(&mut followed.points);
    }

    fn trace_user(
        &self,
        held: &Held<'k, 'm>,
        mm: VirtAddr,
        registers: &Registers,
        trace: &mut Trace,
        cache: &mut Cache,
    ) {
        let Some(code) = self.code_of(mm) else { return };
        let mut followed = Followed::new(held, Space::User);
        let stop = self.walk_user(&code, registers, cache, &mut followed);
        trace.stop = Some(stop.unwrap_or_else(|| followed.not_walked(registers)));
        trace.cut |= followed.cut;
        trace.points.append(&mut followed.points);
        let first = registers.stack_pointer().align_down(PAGE_SIZE);
        let bytes = followed.needed.get().saturating_sub(first.get());
        trace.user_pages = (bytes / PAGE_SIZE + 1).min(MOST_PAGES);
    }
}

/// A walk as far as what it goes by was held.
struct Followed<'h, 'k, 'm> {
    held: &'h Held<'k, 'm>,
    space: Space,
    points: Vec<Point>,
    /// The highest address of the first stack that was needed.
    needed: VirtAddr,
    cut: bool,
}

impl<'h, 'k, 'm> Followed<'h, 'k, 'm> {
    fn new(held: &'h Held<'k, 'm>, space: Space) -> Self {
        Self { held, space, points: Vec::new(), needed: VirtAddr::new(0), cut: false }
    }

    /// The frame of registers that no walk goes on from, and why.
    fn not_walked(&mut self, registers: &Registers) -> Stop {
        let ip = registers.instruction_pointer();
        let address = CodeAddress::InstructionPointer(ip);
        self.points.push(Point { address, space: self.space, sp: registers.stack_pointer(), cfa: None });
        Stop::NoUnwindInfo(ip)
    }
}

impl FrameSink for Followed<'_, '_, '_> {
    fn take<R>(&mut self, frames: impl Iterator<Item = vmc_unwind::Frame<R>>) {
        for frame in frames {
            // What told this frame is on the stack between the stack pointer before and its own.
            if let Some(before) = self.points.last().map(|point| point.sp) {
                let told = frame.sp.wrapping_add(8u64.wrapping_neg());
                let above = told.offset_from(before).is_some_and(|bytes| bytes < FRAME_BYTES);
                if above {
                    self.needed = self.needed.max(told);
                }
                if !self.held.has(before) || (above && !self.held.has(told)) {
                    self.cut = true;
                    return;
                }
            }
            // Code that returns from a signal was never called: its frame stands on its first byte.
            if self.space == Space::User
                && frame.interrupted_by_signal
                && let Some(returns) = self.points.last_mut()
            {
                returns.address = CodeAddress::InstructionPointer(returns.address.address());
            }
            self.points.push(Point {
                address: frame.address,
                space: self.space,
                sp: frame.sp,
                cfa: frame.cfa,
            });
        }
    }
}
