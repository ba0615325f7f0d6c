//! Which threads a process has, and which of them run vCPUs, as far as /proc tells.

use std::thread::sleep;
use std::time::Duration;

use super::proc_files::{Doing, doing, runs_its_code, task_count, threads};

/// How often a thread has to be seen on a processor, and how long lies between.
const LOOKS: usize = 4;
const BETWEEN: Duration = Duration::from_micros(500);

/// The threads that a process had at one time.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    /// The count by which a change is noticed.
    count: Option<u64>,
    tids: Vec<i32>,
}

impl Tasks {
    pub(super) fn now(pid: u32) -> Self {
        let count = task_count(pid);
        Self { count, tids: threads(pid) }
    }

    /// A thread that came since and runs a vCPU, as far as that can be told. It costs little where none came.
    pub(crate) fn newcomer(&self, pid: u32) -> Option<i32> {
        if task_count(pid) == self.count {
            return None;
        }
        let mut new = threads(pid);
        new.retain(|tid| !self.tids.contains(tid) && runs_its_code(pid, *tid));
        vcpu_runner(pid, new)
    }
}

/// One of these threads that runs a vCPU. One that stays on a processor may be in the guest, which /proc does not tell; a thread
/// that does something else is not there for long.
pub(crate) fn vcpu_runner(pid: u32, mut tids: Vec<i32>) -> Option<i32> {
    for look in 0..LOOKS {
        if look > 0 {
            sleep(BETWEEN);
        }
        let mut busy = Vec::new();
        for tid in tids {
            match doing(pid, tid) {
                Doing::KvmRun => return Some(tid),
                Doing::OnProcessor => busy.push(tid),
                Doing::Other => {}
            }
        }
        tids = busy;
        if tids.is_empty() {
            return None;
        }
    }
    tids.first().copied()
}
