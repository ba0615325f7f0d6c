//! Samples: the stacks of the threads that are on vCPUs, taken many times a second of a guest that stands for as little as can be.
//!
//! What has to be read while the guest stands is read by [`hold`](Stacks::hold), a byte a page: memory that keeps what was read
//! has those pages then. [`trace`](Stacks::trace) walks over them afterwards, while the guest runs, and cuts a walk where it
//! came to memory that was not held; [`name`](Stacks::name) is asked once for each new address.
//!
//! Translations are kept from sample to sample; those that a sample went by are held against the page tables when the guest
//! runs again ([`Held::moved`]).

use alloc::boxed::Box;
use alloc::vec::Vec;

use hashbrown::HashMap;
use vmc::addr::PAGE_SIZE;
use vmc::view::{Frame, Space, Stop};
use vmc::{AddressSpace, PageTables, PhysAddr, ReadExt, Registers, VirtAddr};
use vmc_unwind::aarch64::kernel as aarch64;
use vmc_unwind::orc::KernelUnwinder;
use vmc_unwind::{Cache, CodeAddress, Scratch, Unwinder};

use super::kernel::{KernelPart, Rules};
use super::registers::{USER_CODE_32, in_user_mode};
use crate::kernel::Linux;
use crate::mm::AddressSpaceOf;
use crate::stack::Stacks;
use crate::task::Task;

/// Pages of a kernel stack that are held where its stack pointer is on another one (an interrupt's): from the top.
const PAGES_BELOW_INTERRUPTS: u64 = 2;
/// Pages that one walk may have held in each of its parts.
const MOST_PAGES: u64 = 256;

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

/// What the mappings of a process are known by: two that are not equal are of different programs or mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Mark([u64; 6]);

/// What was held of a thread that is on a vCPU.
#[derive(Clone, Debug)]
pub struct Held<'k, 'm> {
    /// The thread.
    pub task: Task<'k, 'm>,
    /// The CPU, by the kernel's number.
    pub cpu: u32,
    /// Its registers in its program; nothing where it has none, or they are not to be had.
    user: Option<Box<Registers>>,
    kernel: bool,
    mm: Option<VirtAddr>,
    /// By which its program's pages were found.
    tables: Option<PageTables>,
    /// The pages that were held, by their addresses, with where they were taken to lie.
    pages: HashMap<u64, PhysAddr>,
}

impl<'k, 'm> Held<'k, 'm> {
    /// Its `mm_struct`: what tells its addresses from those of other processes.
    #[must_use]
    pub const fn mm(&self) -> Option<VirtAddr> {
        self.mm
    }

    /// How many pages were held.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// Was it in the kernel?
    #[must_use]
    pub const fn in_kernel(&self) -> bool {
        self.kernel
    }

    fn has(&self, at: VirtAddr) -> bool {
        self.pages.contains_key(&at.align_down(PAGE_SIZE).get())
    }

    fn hold(&mut self, space: &AddressSpace<'_>, at: VirtAddr) -> bool {
        let page = at.align_down(PAGE_SIZE);
        if self.pages.contains_key(&page.get()) {
            return true;
        }
        let Ok(physical) = space.translate(page) else { return false };
        let mut byte = [0];
        let read = space.memory().read(physical, &mut byte).is_ok();
        if read {
            self.pages.insert(page.get(), physical);
        }
        read
    }

    /// Do the page tables now say of any of its pages that it lies elsewhere than where it was read? Then translations of an
    /// earlier time were used: they are forgotten, and the sample is worth nothing.
    #[must_use]
    pub fn moved(&self, stacks: &Stacks<'k, 'm>) -> bool {
        let linux = stacks.linux;
        let moved = self.pages.iter().any(|(page, physical)| {
            let tables = match &self.tables {
                Some(tables) if page >> 63 == 0 => tables,
                _ => linux.tables(),
            };
            tables.walk(linux.memory(), VirtAddr::new(*page)).map(|walk| walk.physical) != Ok(*physical)
        });
        if moved {
            linux.space().forget();
            if let Some(process) = self.mm.and_then(|mm| stacks.memory_of(mm)) {
                process.tables().forget();
            }
        }
        moved
    }
}

impl<'m> Linux<'m> {
    /// The thread that runs on the vCPU `index` with these registers, and the CPU's number; of registers of now, whatever the
    /// target's were when the guest was opened.
    #[must_use]
    pub fn now_on(&self, index: usize, registers: &Registers) -> Option<(u32, Task<'_, 'm>)> {
        let (cpu, at) = self.cpus().now_on(self, index, registers)?;
        (at.get() >> 63 == 1).then_some((cpu, Task { linux: self, at }))
    }
}

impl<'k, 'm> Task<'k, 'm> {
    /// The thread that its process began with, whose name is the process'.
    ///
    /// # Errors
    /// [`LinuxError`](crate::LinuxError) where it cannot be told.
    pub fn leader(&self) -> Result<Self, crate::LinuxError> {
        let at = self.pointer(self.linux.task_fs()?.group_leader, "group_leader")?;
        Ok(Self { linux: self.linux, at })
    }

    /// When it was started, in nanoseconds since the guest's boot: tells it from others that have had its number or its place.
    ///
    /// # Errors
    /// [`LinuxError`](crate::LinuxError) where it cannot be read.
    pub fn started(&self) -> Result<u64, crate::LinuxError> {
        let field = self.linux.task()?.start_boottime;
        field.read(self.linux.space(), self.at).map_err(crate::LinuxError::read("start_time"))
    }

    /// What its process' mappings are known by; nothing for kernel threads.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        let mm = self.mm().ok()??;
        let fields = self.linux.mm().ok()?;
        let space = self.linux.space();
        let read = |field: Option<vmc::layout::Field<u64>>| {
            field.and_then(|field| field.read(space, mm).ok()).unwrap_or_default()
        };
        let sequence = fields.lock_sequence.and_then(|field| field.read(space, mm).ok()).unwrap_or_default();
        Some(Mark([
            read(Some(fields.exe_file)),
            read(Some(fields.arg_start)),
            read(fields.executable_pages),
            read(fields.start_code),
            read(fields.mmap_base),
            u64::from(sequence),
        ]))
    }
}

impl<'k, 'm> Stacks<'k, 'm> {
    /// Reads what a walk over the stack of the thread on a vCPU needs, to be called while the guest stands: its kernel stack from the
    /// stack pointer to its end, and of its program's as many pages as `user_pages` says for the task; none of the stacks where it
    /// says nothing. Nothing where no task is to be found.
    #[must_use]
    pub fn hold(
        &self,
        index: usize,
        registers: &Registers,
        user_pages: impl FnOnce(&Task<'k, 'm>) -> Option<u64>,
    ) -> Option<Held<'k, 'm>> {
        let linux = self.linux;
        let (cpu, task) = linux.now_on(index, registers)?;
        let mm = task.mm().ok().flatten().filter(|_| task.is_kernel_thread() == Ok(false));
        let kernel = !in_user_mode(registers);
        let mut held = Held { task, cpu, user: None, kernel, mm, tables: None, pages: HashMap::new() };
        let Some(user_pages) = user_pages(&task) else { return Some(held) };
        if kernel {
            self.hold_kernel(&mut held, registers);
        } else {
            held.user = Some(Box::new(registers.clone()));
        }
        let Some(mm) = mm else { return Some(held) };
        if kernel {
            held.user = task.saved_registers().ok().map(Box::new);
        }
        if let Some(user) = &held.user {
            let sp = stack_pointer(user);
            let made;
            let memory = match self.memory_of(mm) {
                Some(memory) => memory,
                None => {
                    made = AddressSpaceOf::new(linux, mm).ok()?;
                    &made
                }
            };
            held.tables = Some(*memory.tables().tables());
            let first = VirtAddr::new(sp.get().saturating_sub(RED_ZONE)).align_down(PAGE_SIZE);
            // The red zone is often of a page that was never touched.
            held.hold(memory.tables(), first);
            let mut at = sp.align_down(PAGE_SIZE);
            for _ in 0..user_pages.clamp(1, MOST_PAGES) {
                if !held.hold(memory.tables(), at) {
                    break;
                }
                at = at.wrapping_add(PAGE_SIZE);
            }
        }
        Some(held)
    }

    fn hold_kernel(&self, held: &mut Held<'k, 'm>, registers: &Registers) {
        let linux = self.linux;
        let size = linux.stack_size();
        let sp = stack_pointer(registers);
        let hold_to_end = |held: &mut Held<'k, 'm>, from: VirtAddr, end: VirtAddr| {
            let mut at = from.align_down(PAGE_SIZE);
            for _ in 0..MOST_PAGES {
                if at >= end || !held.hold(linux.space(), at) {
                    break;
                }
                at = at.wrapping_add(PAGE_SIZE);
            }
        };
        let own = linux.task().ok().and_then(|fields| held.task.pointer(fields.stack, "stack").ok());
        let own = own.map(|start| start..start.wrapping_add(size));
        if let Some(own) = own.as_ref().filter(|own| own.contains(&sp)) {
            return hold_to_end(held, sp, own.end);
        }
        // An interrupt's stack, or another that a CPU has: as large as a thread's at the most, and so aligned. Its last word
        // leads back to where the thread was interrupted (`arch/x86/include/asm/irq_stack.h`).
        let end = sp.align_down(size).wrapping_add(size);
        hold_to_end(held, sp, end);
        if let Some(own) = own {
            let back = linux.space().read_pointer(end.wrapping_add(8u64.wrapping_neg())).ok();
            let from =
                back.filter(|back| own.contains(back) && held.has(end.wrapping_add(8u64.wrapping_neg())));
            let top = own.end.wrapping_add((PAGES_BELOW_INTERRUPTS * PAGE_SIZE).wrapping_neg());
            hold_to_end(held, from.unwrap_or(top), own.end);
        }
    }

    /// The memory of the process whose `mm_struct` lies at `mm`, if it was gathered.
    pub(super) fn memory_of(&self, mm: VirtAddr) -> Option<&AddressSpaceOf<'k, 'm>> {
        self.code_of(mm).map(|code| &code.process.memory)
    }

    /// Is the process gathered?
    #[must_use]
    pub fn is_gathered(&self, mm: VirtAddr) -> bool {
        self.memory_of(mm).is_some()
    }

    /// Does code that is known of the process lie at `address`?
    #[must_use]
    pub fn knows(&self, mm: VirtAddr, address: VirtAddr) -> bool {
        self.code_of(mm).is_some_and(|code| code.at(address).is_some())
    }

    /// Walks over what was [held](Self::hold) of a thread, with the vCPU's registers of then. The thread's process has to be
    /// [gathered](Self::gather).
    #[must_use]
    pub fn trace(&self, held: &Held<'k, 'm>, registers: &Registers, cache: &mut Cache) -> Trace {
        let mut trace = Trace::default();
        if held.kernel {
            self.trace_kernel(held, registers, &mut trace);
        }
        trace.kernel = trace.points.len();
        if let (Some(user), Some(mm)) = (&held.user, held.mm) {
            self.trace_user(held, mm, user, &mut trace, cache);
        }
        trace
    }

    fn trace_kernel(&self, held: &Held<'k, 'm>, registers: &Registers, trace: &mut Trace) {
        let limits = self.linux.limits();
        let part = match registers {
            Registers::X86_64(registers) => {
                let address = CodeAddress::InstructionPointer(VirtAddr::new(registers.rip));
                KernelPart::X86_64(registers.into(), address)
            }
            Registers::Aarch64(registers) => match held.task.on_cpu_aarch64(registers) {
                Ok(part) => part,
                Err(_) => KernelPart::Unknown,
            },
            _ => KernelPart::Unknown,
        };
        let Ok(code) = self.kernel_code() else {
            trace.points.push(innermost(registers));
            trace.kernel_stop = Some(Stop::NoUnwindInfo(instruction_pointer(registers)));
            return;
        };
        let space = self.linux.space();
        let mut followed = Followed::new(held, Space::Kernel);
        let stop = match (part, &code.rules) {
            (KernelPart::X86_64(registers, address), Rules::Orc(rules)) => {
                let mut walk =
                    KernelUnwinder::new(code, space, &rules.saved, limits).walk(registers, address);
                followed.follow(walk.by_ref());
                walk.stop()
            }
            (KernelPart::Aarch64(registers, address, stacks), Rules::Records(saved)) => {
                let unwinder = aarch64::KernelUnwinder::new(code, space, *saved, &stacks, limits);
                let mut walk = unwinder.walk(registers, address);
                followed.follow(walk.by_ref());
                walk.stop()
            }
            _ => {
                followed.points.push(innermost(registers));
                Stop::NoUnwindInfo(instruction_pointer(registers))
            }
        };
        trace.cut |= followed.cut;
        trace.points.append(&mut followed.points);
        trace.kernel_stop = Some(stop);
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
        let (limits, memory) = (self.linux.limits(), &code.process.memory);
        let first = stack_pointer(registers);
        let mut user = Followed::new(held, Space::User);
        let unwinder = Unwinder::new(&code, memory, limits);
        let stop = match registers {
            Registers::X86_64(registers) if registers.cs == USER_CODE_32 => {
                let mut walk = unwinder.walk_x86(registers, cache);
                user.follow(walk.by_ref());
                walk.stop()
            }
            Registers::X86_64(registers) => {
                let mut walk = unwinder.walk(registers, cache);
                user.follow(walk.by_ref());
                walk.stop()
            }
            Registers::Aarch64(registers) if !registers.in_32_bit_mode() => {
                let mut walk = unwinder.walk_aarch64(self.linux.unwound(registers), cache);
                user.follow(walk.by_ref());
                walk.stop()
            }
            _ => {
                user.points.push(innermost(registers));
                Stop::NoUnwindInfo(instruction_pointer(registers))
            }
        };
        let Followed { cut, mut points, signals, needed, .. } = user;
        // Code that returns from a signal was never called: its frame stands on its first byte.
        for at in signals {
            if let Some(before) = at.checked_sub(1).and_then(|at| points.get_mut(at)) {
                before.address = CodeAddress::InstructionPointer(before.address.address());
            }
        }
        trace.points.append(&mut points);
        trace.cut |= cut;
        trace.stop = Some(stop);
        let bytes = needed.get().saturating_sub(first.align_down(PAGE_SIZE).get());
        trace.user_pages = (bytes / PAGE_SIZE + 1).min(MOST_PAGES);
    }

    /// The frame with the names of what it stands in; `mm` is the process' where it is one of a program.
    #[must_use]
    pub fn name(&self, mm: Option<VirtAddr>, point: &Point) -> Frame {
        let ip = point.address.address();
        let mut frame = Frame {
            ip,
            sp: point.sp,
            cfa: point.cfa,
            space: point.space,
            symbol: None,
            function_start: None,
            module: None,
            found_by: vmc::view::FoundBy::Registers,
            signal: false,
        };
        match point.space {
            Space::Kernel => {
                if let Ok(code) = self.kernel_code() {
                    (frame.module, frame.symbol) = code.named(point.address);
                    frame.function_start = frame.symbol.as_ref().map(|symbol| symbol.start);
                }
            }
            Space::User => {
                if let Some(code) = mm.and_then(|mm| self.code_of(mm)) {
                    (frame.symbol, frame.function_start, frame.module) =
                        code.names_at(point.address, &mut Scratch::new());
                }
            }
        }
        frame
    }
}

/// A caller whose stack pointer is farther away than this is on another stack (a signal's, a coroutine's).
const FRAME_BYTES: u64 = 1 << 20;
/// Bytes below the stack pointer that a function may use (System V ABI, `x86_64`): a walk reads them after an epilogue.
const RED_ZONE: u64 = 128;

/// A walk as far as what it goes by was held.
struct Followed<'h, 'k, 'm> {
    held: &'h Held<'k, 'm>,
    space: Space,
    points: Vec<Point>,
    /// The highest address of the first stack that was needed.
    needed: VirtAddr,
    cut: bool,
    /// The places of frames that a signal interrupted.
    signals: Vec<usize>,
}

impl<'h, 'k, 'm> Followed<'h, 'k, 'm> {
    fn new(held: &'h Held<'k, 'm>, space: Space) -> Self {
        let needed = VirtAddr::new(0);
        Self { held, space, points: Vec::new(), needed, cut: false, signals: Vec::new() }
    }

    fn follow<R>(&mut self, frames: impl Iterator<Item = vmc_unwind::Frame<R>>) {
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
            if frame.interrupted_by_signal {
                self.signals.push(self.points.len());
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

fn innermost(registers: &Registers) -> Point {
    let space = if in_user_mode(registers) { Space::User } else { Space::Kernel };
    let address = CodeAddress::InstructionPointer(instruction_pointer(registers));
    Point { address, space, sp: stack_pointer(registers), cfa: None }
}

fn stack_pointer(registers: &Registers) -> VirtAddr {
    match registers {
        Registers::X86_64(registers) => VirtAddr::new(registers.rsp()),
        Registers::Aarch64(registers) => VirtAddr::new(registers.sp),
        _ => VirtAddr::new(0),
    }
}

fn instruction_pointer(registers: &Registers) -> VirtAddr {
    match registers {
        Registers::X86_64(registers) => VirtAddr::new(registers.rip),
        Registers::Aarch64(registers) => VirtAddr::new(registers.pc),
        _ => VirtAddr::new(0),
    }
}
