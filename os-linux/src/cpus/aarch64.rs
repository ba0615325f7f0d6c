//! Who runs where on aarch64. Registers in images lack SP_EL0, in which the kernel keeps the current task, so its run
//! queues say who runs on which CPU, and registers only which vCPU that is.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use vmc::bytes::u64_at;
use vmc::{Registers, VirtAddr};

use super::Cpus;
use super::run_queues::{RunQueue, run_queues, run_queues_at};
use crate::kernel::Linux;
use crate::task::Task;

impl Cpus {
    pub(super) fn find_aarch64(linux: &Linux<'_>) -> Self {
        let mut cpus = Self::default();
        if linux.known.per_cpu_offset.is_some() {
            cpus.read_symbols(linux);
        }
        let mut queues = match linux.known.run_queues {
            Some(base) => run_queues_at(linux, base, &cpus.offsets),
            None => BTreeMap::new(),
        };
        if queues.is_empty() {
            // Kernels whose types do not tell are shown without CPUs; each thread's own flag still says whether it is on one.
            queues = run_queues(linux).unwrap_or_default();
        }
        if cpus.offsets.is_empty()
            && let Some((base, offsets)) = offsets(linux, &queues)
        {
            (cpus.run_queues, cpus.offsets) = (Some(base), offsets);
        }
        if !queues.is_empty() {
            let online = queues.values().filter(|queue| queue.online).count();
            cpus.online = cpus.online.or_else(|| u32::try_from(online).ok());
        }
        cpus.running = running(linux, &queues);
        cpus
    }
}

impl Cpus {
    /// The CPU that a vCPU is, and who runs on it: the CPU's per-CPU offset is in TPIDR_EL1 where the backend knows it, the
    /// current task in SP_EL0 while the vCPU is in the kernel; else they are told by the run queue of the vCPU's number.
    pub(super) fn now_on_aarch64(
        &self,
        linux: &Linux<'_>,
        index: usize,
        registers: &vmc::arch::aarch64::Registers,
    ) -> Option<(u32, VirtAddr)> {
        let by_offset = registers.tpidr_el1.filter(|offset| *offset != 0);
        let place = by_offset.and_then(|told| self.offsets.iter().position(|offset| *offset == told));
        let place = place.unwrap_or(index);
        let cpu = u32::try_from(place).ok()?;
        if !registers.in_user_mode()
            && let Some(current) = registers.sp_el0.filter(|current| current >> 63 == 1)
        {
            return Some((cpu, VirtAddr::new(current)));
        }
        let queue = self.run_queues(linux)?.wrapping_add(*self.offsets.get(place)?);
        let current = linux.cpu_queue().ok()?.current.pointer(linux.space(), queue).ok()?;
        Some((cpu, current))
    }
}

/// The tasks that run, each with its vCPU.
fn running(linux: &Linux<'_>, queues: &BTreeMap<u32, RunQueue>) -> Vec<(VirtAddr, usize)> {
    let count = linux.vcpus().count().min(linux.limits().cpus);
    let mut free: Vec<(usize, VirtAddr)> = queues
        .iter()
        .filter(|(_, queue)| queue.online)
        .map(|(cpu, queue)| (*cpu as usize, queue.current))
        .collect();
    let mut left: Vec<usize> = (0..count).collect();
    let mut running = Vec::new();
    // A vCPU is the CPU of its number where its registers fit that, else the one whose task they fit; where nothing tells (it is on
    // another stack than its task's), its number has to do.
    let rules: [&dyn Fn(usize, usize, VirtAddr) -> bool; 3] = [
        &|vcpu, cpu, task| vcpu == cpu && fits(linux, vcpu, task),
        &|vcpu, _, task| fits(linux, vcpu, task),
        &|vcpu, cpu, _| vcpu == cpu,
    ];
    for rule in rules {
        left.retain(|vcpu| {
            let Some(place) = free.iter().position(|(cpu, task)| rule(*vcpu, *cpu, *task)) else {
                return true;
            };
            let (_, task) = free.remove(place);
            running.push((task, *vcpu));
            false
        });
    }
    running
}

/// Do a vCPU's registers fit `task`? In the kernel its stack pointer lies in the task's stack, in a program the program
/// counter in its code.
fn fits(linux: &Linux<'_>, vcpu: usize, task: VirtAddr) -> bool {
    let Ok(Registers::Aarch64(registers)) = linux.vcpus().registers(vcpu) else { return false };
    let task = Task { linux, at: task };
    if registers.in_user_mode() {
        let Ok(memory) = task.memory() else { return false };
        // A walk through the page tables costs little; this is asked for each vCPU and each queue.
        let page = memory.tables().walk(VirtAddr::new(registers.pc));
        return page.is_ok_and(|page| page.user && page.executable);
    }
    let Ok(fields) = linux.task() else { return false };
    let stack = fields.stack.pointer(linux.space(), task.at);
    let into = stack.ok().and_then(|stack| VirtAddr::new(registers.sp).offset_from(stack));
    into.is_some_and(|into| into <= linux.stack_size())
}

/// `__per_cpu_offset`, found by its content: for every CPU the distance of its run queue from one place in the image, which comes
/// with it.
fn offsets(linux: &Linux<'_>, queues: &BTreeMap<u32, RunQueue>) -> Option<(VirtAddr, Vec<u64>)> {
    /// Run queues are aligned to a cache line.
    const CACHE_LINE: u64 = 64;
    let (first, first_queue) = queues.first_key_value()?;
    let image = linux.image();
    let last = queues.last_key_value().map_or(*first, |(cpu, _)| *cpu);
    image.find_words(linux.space(), |_, bytes| {
        let offset = |cpu: u32| u64_at(bytes, cpu as usize * 8);
        let base = first_queue.at.get().wrapping_sub(offset(*first)?);
        // A cheap look at what nearly no word passes comes first.
        let at = VirtAddr::new(base);
        if !image.spans(at) || !at.is_aligned(CACHE_LINE) {
            return None;
        }
        let all = queues.iter().all(|(cpu, queue)| {
            offset(*cpu).is_some_and(|offset| base.wrapping_add(offset) == queue.at.get())
        });
        all.then(|| (at, (0..=last).map_while(offset).collect()))
    })
}
