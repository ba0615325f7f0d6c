//! How a task stands with the kernel: what has to hold it, and whether it is a task at all.
//!
//! Source: `kernel/fork.c` (`copy_process()`), `kernel/exit.c` (`release_task()`), `kernel/sched/core.c`.

use vmc::{ReadError, ReadExt, VirtAddr, VirtualMemory};

use crate::error::LinuxError;
use crate::kernel::Linux;

/// `EXIT_DEAD`: `release_task()` is taking it off everything.
const EXIT_DEAD: u32 = 0x10;
/// `TASK_DEAD`: it was scheduled for the last time, or it was never to be.
const TASK_DEAD: u32 = 0x80;
/// `TASK_NEW`: `fork()` has not let go of it yet.
const TASK_NEW: u32 = 0x800;
/// `PF_IDLE` and `PF_EXITING` (`include/linux/sched.h`).
const IDLE: u32 = 0x2;
const EXITING: u32 = 0x4;
/// `PID_MAX_LIMIT`.
const HIGHEST_NUMBER: u32 = 1 << 22;
/// `TASK_ON_RQ_QUEUED`.
const QUEUED: u32 = 1;

/// How a task stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Its own number.
    pub(super) tid: u32,
    /// It is a process: it leads a group of threads.
    pub(super) leader: bool,
    /// It has ended, or was given up before it began: nothing has to hold it.
    pub(super) over: bool,
    /// It is being made: nothing has to hold it yet.
    pub(super) forming: bool,
    /// It says that it is on a run queue.
    pub(super) queued: bool,
    /// It says that it is what a CPU without work runs.
    pub(super) idle: bool,
    /// The CPU that it belongs to.
    pub(super) cpu: Option<u32>,
    /// Its `struct pid`.
    pub(super) number: VirtAddr,
}

impl Linux<'_> {
    /// How the task at `at` stands.
    pub(super) fn standing(&self, at: VirtAddr) -> Result<Standing, LinuxError> {
        let (fields, ties) = (self.task()?, self.task_ties()?);
        let space = self.space();
        let read = LinuxError::read("a task");
        let flags = fields.flags.read(space, at).map_err(&read)?;
        let exit_state = fields.exit_state.read(space, at).map_err(&read)?;
        let state = match (fields.state, fields.state_word) {
            (Some(field), _) => field.read(space, at).map_err(&read)?,
            (None, Some(field)) => field.read(space, at).map_err(&read)? as u32,
            (None, None) => 0,
        };
        let references = ties.references.read(space, at).map_err(&read)?;
        let tid = fields.pid.read(space, at).map_err(&read)?;
        let leader = ties.group_leader.pointer(space, at).map_err(&read)?;
        let process = fields.tgid.read(space, at).map_err(&read)?;
        let queue = ties.on_queue.and_then(|field| field.read(space, at).ok());
        let throttled = ties.throttled.and_then(|field| field.read(space, at).ok());
        let number = ties.thread_pid.map(|field| field.pointer(space, at)).transpose().map_err(&read)?;
        Ok(Standing {
            tid,
            leader: leader == at || tid == process,
            over: references == 0
                || (exit_state & EXIT_DEAD != 0 && flags & EXITING != 0)
                || (state & TASK_DEAD != 0 && exit_state == 0),
            forming: state & TASK_NEW != 0,
            queued: queue == Some(QUEUED) && throttled.unwrap_or(0) == 0,
            idle: flags & IDLE != 0 && tid == 0,
            cpu: fields.cpu.and_then(|field| field.read(space, at).ok()),
            number: number.unwrap_or_default(),
        })
    }

    /// Is there a task at `at`? The heads of its own lists lead back to it, whether they are empty or not: no copy of a
    /// task has that, and no part of another structure.
    pub(super) fn looks_like_task(&self, at: VirtAddr) -> bool {
        let (Ok(fields), Ok(ties)) = (self.task(), self.task_ties()) else { return false };
        let space = self.space();
        // A head whose neighbours on one side lead back: a list in which one word was changed still has the other.
        let leads_back = |head: VirtAddr| -> Result<bool, ReadError> {
            let [next, previous]: [u64; 2] = space.read_value(head)?;
            let back = |neighbour: u64, word: u64| {
                neighbour != 0
                    && neighbour.is_multiple_of(8)
                    && space.read_u64(VirtAddr::new(neighbour).wrapping_add(word)) == Ok(head.get())
            };
            Ok(back(next, 8) || back(previous, 0))
        };
        let number = |field: vmc::layout::Field<u32>| {
            field.read(space, at).is_ok_and(|number| number <= HIGHEST_NUMBER)
        };
        at.is_aligned(8)
            && leads_back(ties.ptraced.address(at)) == Ok(true)
            && leads_back(ties.children.address(at)) == Ok(true)
            && number(fields.pid)
            && number(fields.tgid)
            && fields.comm.read(space, at).is_ok_and(|comm| comm.contains(&0))
            && ties.group_leader.pointer(space, at).is_ok_and(|leader| !leader.is_null())
            // A structure that overlaps a task may share some of its lists, but not its parent.
            && fields.real_parent.pointer(space, at).is_ok_and(|parent| {
                leads_back(ties.children.address(parent)) == Ok(true)
                    && leads_back(ties.ptraced.address(parent)) == Ok(true)
            })
    }
}
