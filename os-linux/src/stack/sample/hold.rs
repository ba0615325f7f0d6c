//! What is read of a thread's stacks while the guest stands: a byte of each page that a walk over them will need.

use alloc::boxed::Box;

use hashbrown::HashMap;
use vmc::addr::PAGE_SIZE;
use vmc::{AddressSpace, PageTables, PhysAddr, ReadExt, Registers, VirtAddr};

use crate::mm::AddressSpaceOf;
use crate::stack::Stacks;
use crate::task::Task;

/// Pages of a kernel stack that are held where its stack pointer is on another one (an interrupt's): from the top.
const PAGES_BELOW_INTERRUPTS: u64 = 2;
/// Pages that one walk may have held in each of its parts.
pub(super) const MOST_PAGES: u64 = 256;
/// Bytes below the stack pointer that a function may use (System V ABI, `x86_64`): a walk reads them after an epilogue.
const RED_ZONE: u64 = 128;

/// What was held of a thread that is on a vCPU.
#[derive(Clone, Debug)]
pub struct Held<'k, 'm> {
    /// The thread.
    pub task: Task<'k, 'm>,
    /// The CPU, by the kernel's number.
    pub cpu: u32,
    /// Its registers in its program; nothing where it has none, or they are not to be had.
    pub(super) user: Option<Box<Registers>>,
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

    pub(super) fn has(&self, at: VirtAddr) -> bool {
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

    /// Holds up to `count` pages, the one of `from` and those above it, as far as they are there.
    fn hold_up(&mut self, space: &AddressSpace<'_>, from: VirtAddr, count: u64) {
        let mut at = from.align_down(PAGE_SIZE);
        for _ in 0..count.min(MOST_PAGES) {
            if !self.hold(space, at) {
                break;
            }
            at = at.wrapping_add(PAGE_SIZE);
        }
    }

    /// The same up to `end`.
    fn hold_to(&mut self, space: &AddressSpace<'_>, from: VirtAddr, end: VirtAddr) {
        let bytes = end.offset_from(from.align_down(PAGE_SIZE)).unwrap_or(0);
        self.hold_up(space, from, bytes.div_ceil(PAGE_SIZE));
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
        let kernel = !registers.in_user_mode();
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
            let sp = user.stack_pointer();
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
            held.hold_up(memory.tables(), sp, user_pages.max(1));
        }
        Some(held)
    }

    fn hold_kernel(&self, held: &mut Held<'k, 'm>, registers: &Registers) {
        let linux = self.linux;
        let size = linux.stack_size();
        let sp = registers.stack_pointer();
        let own = linux.task().ok().and_then(|fields| held.task.pointer(fields.stack, "stack").ok());
        let own = own.map(|start| start..start.wrapping_add(size));
        if let Some(own) = own.as_ref().filter(|own| own.contains(&sp)) {
            return held.hold_to(linux.space(), sp, own.end);
        }
        // An interrupt's stack, or another that a CPU has: as large as a thread's at the most, and so aligned. Its last word
        // leads back to where the thread was interrupted (`arch/x86/include/asm/irq_stack.h`).
        let end = sp.align_down(size).wrapping_add(size);
        held.hold_to(linux.space(), sp, end);
        if let Some(own) = own {
            let last = end.wrapping_add(8u64.wrapping_neg());
            let back = linux.space().read_pointer(last).ok();
            let from = back.filter(|back| own.contains(back) && held.has(last));
            let top = own.end.wrapping_add((PAGES_BELOW_INTERRUPTS * PAGE_SIZE).wrapping_neg());
            held.hold_to(linux.space(), from.unwrap_or(top), own.end);
        }
    }

    /// The memory of the process whose `mm_struct` lies at `mm`, if it was gathered.
    pub(super) fn memory_of(&self, mm: VirtAddr) -> Option<&AddressSpaceOf<'k, 'm>> {
        self.code_of(mm).map(|code| &code.process.memory)
    }
}
