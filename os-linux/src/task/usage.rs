//! What a process has used: CPU time as `/proc/PID/stat` tells it, memory as `/proc/PID/statm` does.
//!
//! Source: `thread_group_cputime_adjusted()` and `cputime_adjust()` in `kernel/sched/cputime.c`; `task_statm()` in
//! `fs/proc/task_mmu.c`.

use vmc::VirtAddr;

use crate::error::LinuxError;
use crate::task::Task;

/// CPU time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CpuTime {
    pub(super) user: u64,
    pub(super) system: u64,
}

impl CpuTime {
    /// The time in programs and in the kernel: what ticks counted, scaled to the time `run` that the scheduler measured,
    /// and never less than what was `told` before.
    fn adjusted(self, run: u64, told: Self) -> Self {
        if told.user.saturating_add(told.system) >= run {
            return told;
        }
        let sum = u128::from(self.user) + u128::from(self.system);
        let mut system = match (self.user, self.system) {
            (_, 0) => 0,
            (0, _) => run,
            _ => u64::try_from(u128::from(self.system) * u128::from(run) / sum).unwrap_or(run),
        };
        system = system.max(told.system).min(run);
        let user = (run - system).max(told.user);
        Self { user, system: run.saturating_sub(user) }
    }
}

impl Task<'_, '_> {
    /// The CPU time of its process: of the threads that are, and of those that were. A thread that leads no process has its own.
    pub(super) fn cpu_time(&self) -> Result<CpuTime, LinuxError> {
        let linux = self.linux;
        let space = linux.space();
        let (fields, shared) = (linux.task_details()?, linux.signal_details()?);
        let read = LinuxError::read("CPU time");
        let leader = linux.task_ties()?.group_leader;
        let leads = |at: VirtAddr| Ok::<_, LinuxError>(leader.pointer(space, at).map_err(&read)? == self.at);
        if !leads(self.at)? {
            let own = CpuTime {
                user: fields.user_time.read(space, self.at).map_err(&read)?,
                system: fields.system_time.read(space, self.at).map_err(&read)?,
            };
            return Ok(own.adjusted(fields.run_time.read(space, self.at).map_err(&read)?, CpuTime::default()));
        }
        let signal = self.pointer(linux.task()?.signal, "signal")?;
        let mut time = CpuTime {
            user: shared.user_time.read(space, signal).map_err(&read)?,
            system: shared.system_time.read(space, signal).map_err(&read)?,
        };
        let mut run = shared.run_time.read(space, signal).map_err(&read)?;
        for thread in self.threads()? {
            let at = thread?.at;
            // Each thread is one process': many that share a list must not each go through all of it.
            if !leads(at)? {
                let reason = "its list of threads holds one of another process";
                return Err(LinuxError::Broken { what: "CPU time", at, reason });
            }
            time.user = time.user.saturating_add(fields.user_time.read(space, at).map_err(&read)?);
            time.system = time.system.saturating_add(fields.system_time.read(space, at).map_err(&read)?);
            run = run.saturating_add(fields.run_time.read(space, at).map_err(&read)?);
        }
        let (Some(user), Some(system)) = (shared.told_user, shared.told_system) else { return Ok(time) };
        let told = CpuTime {
            user: user.read(space, signal).map_err(&read)?,
            system: system.read(space, signal).map_err(&read)?,
        };
        Ok(time.adjusted(run, told))
    }

    /// Pages by kind (`include/linux/mm_types_task.h`): of files, anonymous, swapped out, shared memory. Counters that CPUs keep
    /// apart may be below zero for a moment.
    pub(super) fn page_counts(&self, mm: VirtAddr) -> Result<[i64; 4], LinuxError> {
        let linux = self.linux;
        if let Some(field) = linux.mm()?.rss_counters {
            let counters = field.read(linux.space(), mm).map_err(LinuxError::read("rss_stat"))?;
            return Ok(counters.map(u64::cast_signed));
        }
        let types = linux.types();
        let first = vmc::layout::Types::member(types, "mm_struct", "rss_stat")?.offset;
        let size = vmc::layout::Types::size_of(types, "percpu_counter")?;
        let mut counts = [0; 4];
        for (kind, count) in counts.iter_mut().enumerate() {
            *count = linux.cpus().percpu_counter(linux, mm.wrapping_add(first + kind as u64 * size))?;
        }
        Ok(counts)
    }

    /// Pages in bytes.
    pub(super) fn pages(&self, count: i64) -> u64 {
        count.max(0).cast_unsigned().saturating_mul(self.linux.page_size())
    }
}

#[cfg(test)]
mod tests {
    use super::CpuTime;

    #[test]
    fn ticks_are_scaled_to_what_the_scheduler_measured() {
        let none = CpuTime::default();
        let ticks = |user, system| CpuTime { user, system };
        // Two ticks in programs, two in the kernel, six measured: three each.
        assert_eq!(ticks(2, 2).adjusted(6, none), ticks(3, 3));
        // All of it where the ticks saw one side alone.
        assert_eq!(ticks(5, 0).adjusted(7, none), ticks(7, 0));
        assert_eq!(ticks(0, 1).adjusted(7, none), ticks(0, 7));
        assert_eq!(ticks(0, 0).adjusted(7, none), ticks(7, 0));
        // What was told does not go back.
        assert_eq!(ticks(2, 2).adjusted(6, ticks(1, 4)), ticks(2, 4));
        assert_eq!(ticks(2, 2).adjusted(6, ticks(6, 1)), ticks(6, 1));
        assert_eq!(ticks(u64::MAX, u64::MAX).adjusted(u64::MAX, none).system, u64::MAX / 2);
    }
}
