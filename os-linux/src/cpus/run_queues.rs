//! The CPUs' run queues, by symbol or reached by the tasks that wait on them; in them stands who runs.
//!
//! Source: `kernel/sched/sched.h`: a task's `se.cfs_rq` is of the CPU that it is on or was last on, and leads to that CPU's `struct rq`. Each
//! CPU has threads of its own (`ksoftirqd/N`), so that every CPU that ever ran is met.

use alloc::collections::BTreeMap;

use hashbrown::HashSet;
use vmc::VirtAddr;

use crate::error::LinuxError;
use crate::kernel::Linux;

/// A CPU's run queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunQueue {
    pub(super) at: VirtAddr,
    /// The task that runs; a CPU's idle task where none does.
    pub(super) current: VirtAddr,
    pub(super) online: bool,
}

/// The run queues by CPU number; empty where the kernel's types do not lead to them.
pub(super) fn run_queues(linux: &Linux<'_>) -> Result<BTreeMap<u32, RunQueue>, LinuxError> {
    let (task, group) = (linux.task_queue()?, linux.group_queue()?);
    let space = linux.space();
    let mut seen = HashSet::new();
    let mut found = BTreeMap::new();
    for at in linux.processes()? {
        // What can be reached before the list ends counts.
        let Ok(at) = at else { break };
        let Ok(queue) = task.queue.pointer(space, at.address()) else { continue };
        if queue.is_null() || !seen.insert(queue) {
            continue;
        }
        let Ok(at) = group.of_cpu.pointer(space, queue) else { continue };
        if !seen.insert(at) {
            continue;
        }
        if let Some((cpu, queue)) = run_queue(linux, at)
            && found.len() < linux.limits().cpus
        {
            found.entry(cpu).or_insert(queue);
        }
    }
    Ok(found)
}

/// The run queues where a symbol and each CPU's `offsets` tell of them.
pub(super) fn run_queues_at(linux: &Linux<'_>, base: VirtAddr, offsets: &[u64]) -> BTreeMap<u32, RunQueue> {
    let mut queues = BTreeMap::new();
    for (cpu, offset) in (0u32..).zip(offsets) {
        // CPUs that there cannot be share one offset, or have none.
        if let Some((number, queue)) = run_queue(linux, base.wrapping_add(*offset))
            && number == cpu
        {
            queues.insert(cpu, queue);
        }
    }
    queues
}

/// The run queue at `at`, if its idle task is one, on the same CPU, and its number is one that a CPU can have.
fn run_queue(linux: &Linux<'_>, at: VirtAddr) -> Option<(u32, RunQueue)> {
    let (space, fields, task) = (linux.space(), linux.cpu_queue().ok()?, linux.task().ok()?);
    let cpu = fields.cpu.read(space, at).ok().filter(|cpu| (*cpu as usize) < linux.limits().cpus)?;
    let idle = fields.idle.pointer(space, at).ok()?;
    let idles_there = task.pid.read(space, idle) == Ok(0)
        && task.cpu.is_none_or(|field| field.read(space, idle) == Ok(cpu));
    let current = fields.current.pointer(space, at).ok()?;
    let online = fields.online.read(space, at).ok()? != 0;
    idles_there.then_some((cpu, RunQueue { at, current, online }))
}
