//! Run queues: the tasks that each CPU runs or is to run.
//!
//! Source: `kernel/sched/sched.h`. A queue knows the running task, the idle one and the stopper by pointers; those of the fair
//! class are on one list, whatever group they are in; real-time ones on a list a priority, groups with queues of their
//! own; deadline ones in a tree; those of a scheduler written in BPF on a list.

use alloc::vec::Vec;

use hashbrown::HashSet;
use vmc::VirtAddr;
use vmc::layout::{Field, Types};
use vmc::view::RowErrors;

use super::limited::Left;
use crate::error::LinuxError;
use crate::fields::{ListHead, RunQueueFields};
use crate::kernel::Linux;
use crate::lists::ListWalk;

/// What the run queues hold.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// All tasks on them.
    pub(super) tasks: Vec<VirtAddr>,
    /// The idle tasks, of all CPUs that there could be.
    pub(super) idle: HashSet<VirtAddr>,
    /// The CPUs whose queue was being changed when the machine stopped, or could not be read to its end.
    pub(super) changing: HashSet<u32>,
    /// Why queues could not be read to their end.
    pub(super) errors: RowErrors,
}

impl Queues {
    /// Walks the run queue of every CPU.
    pub(super) fn find(linux: &Linux<'_>) -> Result<Self, LinuxError> {
        let base = linux.need("runqueues", linux.cpus().run_queues(linux))?;
        let fields = linux.run_queue()?;
        let mut queues = Self::default();
        let mut left = Left(linux.limits().tasks);
        for (cpu, offset) in linux.cpus().possible(linux) {
            let queue = base.wrapping_add(offset);
            if let Err(why) = queues.queue(linux, fields, queue, cpu, &mut left) {
                queues.errors.push(linux.limits(), "run_queues", &why);
                queues.changing.insert(cpu);
            }
        }
        Ok(queues)
    }

    fn queue(
        &mut self,
        linux: &Linux<'_>,
        fields: &RunQueueFields,
        queue: VirtAddr,
        cpu: u32,
        left: &mut Left,
    ) -> Result<(), LinuxError> {
        let space = linux.space();
        let read = LinuxError::read("a run queue");
        let lock = fields.lock.map(|field| field.read(space, queue)).transpose().map_err(&read)?;
        if lock.unwrap_or(0) != 0 {
            self.changing.insert(cpu);
        }
        let idle = fields.idle.pointer(space, queue).map_err(&read)?;
        self.idle.insert(idle);
        let pointers = [Some(fields.current), fields.stop];
        for field in pointers.into_iter().flatten() {
            let task = field.pointer(space, queue).map_err(&read)?;
            if !task.is_null() {
                self.tasks.push(task);
            }
        }
        let ties = linux.task_ties()?;
        let lists = [(fields.fair, ties.fair_node), (fields.extended, ties.extended_node)];
        for (head, node) in lists {
            if let (Some(head), Some(node)) = (head, node) {
                self.list(linux, head.address(queue), node, left)?;
            }
        }
        if let (Some(root), Some(node)) = (fields.deadline, ties.deadline_node) {
            let root = root.pointer(space, queue).map_err(&read)?;
            let offset = node.address(VirtAddr::new(0)).get();
            let (tasks, ended) = linux.tree_nodes("the deadline queue", root, offset, left.0)?;
            left.0 = left.0.saturating_sub(tasks.len());
            // A queue's own servers of other classes stand among the tasks.
            let size = linux.types().size_of("rq")?;
            let server = |task: &VirtAddr| {
                let entity = task.wrapping_add(offset);
                entity.offset_from(queue).is_some_and(|into| into < size)
            };
            self.tasks.extend(tasks.into_iter().filter(|task| !server(task)));
            ended.map_or(Ok(()), Err)?;
        }
        if let Some(node) = ties.real_time_node {
            let at = linux.types().member("rq", "rt")?.offset;
            self.real_time(linux, queue.wrapping_add(at), node, left)?;
        }
        Ok(())
    }

    fn list(
        &mut self,
        linux: &Linux<'_>,
        head: VirtAddr,
        node: Field<ListHead>,
        left: &mut Left,
    ) -> Result<(), LinuxError> {
        let offset = node.address(VirtAddr::new(0)).get();
        for task in ListWalk::new(linux, "a run queue", head, offset, left.0) {
            left.take();
            self.tasks.push(task?);
        }
        Ok(())
    }

    /// The real-time tasks of a queue, and of the queues of groups in it.
    fn real_time(
        &mut self,
        linux: &Linux<'_>,
        queue: VirtAddr,
        node: Field<ListHead>,
        left: &mut Left,
    ) -> Result<(), LinuxError> {
        let lists = linux.types().member("rt_rq", "active.queue")?;
        let entity = linux.real_time_entity()?;
        let in_entity = entity.node.address(VirtAddr::new(0)).get();
        let in_task = node.address(VirtAddr::new(0)).get();
        let mut seen = HashSet::new();
        seen.insert(queue);
        let mut open = Vec::from([queue]);
        while let Some(queue) = open.pop() {
            // `MAX_RT_PRIO` is 100.
            for priority in 0..(lists.size / 16).min(128) {
                let head = queue.wrapping_add(lists.offset + priority * 16);
                for entry in ListWalk::new(linux, "a real-time queue", head, in_entity, left.0) {
                    let entry = entry?;
                    left.take();
                    let group = entity.group.and_then(|field| field.pointer(linux.space(), entry).ok());
                    match group.filter(|group| !group.is_null()) {
                        Some(group) if seen.insert(group) => open.push(group),
                        Some(_) => {}
                        None => self.tasks.extend(entry.wrapping_add(in_entity).checked_sub(in_task)),
                    }
                }
            }
        }
        Ok(())
    }
}
