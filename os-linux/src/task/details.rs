//! A process in detail: what `/proc/PID/status`, `stat`, `statm` and `cgroup` tell beside [the row](super::process).
//!
//! Source: `do_task_stat()` in `fs/proc/array.c`, `tty_devnum()` in `drivers/tty/tty_io.c`.

use alloc::format;
use alloc::string::String;

use vmc::VirtAddr;
use vmc::text::lossless;
use vmc::view::{ProcessDetails, RowErrors};

use crate::error::LinuxError;
use crate::task::Task;

/// `MAX_RT_PRIO`: where priorities of ordinary tasks begin.
const REAL_TIME: i32 = 100;
/// `DEFAULT_PRIO`: the priority whose niceness is zero.
const ORDINARY: i32 = 120;
/// `PIDTYPE_PGID` and `PIDTYPE_SID` (`include/linux/pid.h`).
const GROUP: usize = 2;
const SESSION: usize = 3;
/// `PFA_NO_NEW_PRIVS`.
const NO_NEW_PRIVILEGES: u64 = 1;

impl Task<'_, '_> {
    /// The process in detail; what cannot be read is absent, and `errors` says why.
    #[must_use]
    pub fn process_details(&self) -> ProcessDetails {
        let (linux, space, limits) = (self.linux, self.linux.space(), self.linux.limits());
        let mut errors = RowErrors::default();
        let mut row = ProcessDetails {
            credentials: errors.keep(limits, "credentials", self.credentials()),
            ..ProcessDetails::default()
        };
        if let Some(fields) = errors.keep(limits, "task", linux.task_details()) {
            let number = |field: vmc::layout::Field<u32>| field.read(space, self.at).map(u32::cast_signed);
            row.priority = errors
                .keep(limits, "priority", number(fields.priority))
                .map(|all| all.wrapping_sub(REAL_TIME));
            row.nice = errors
                .keep(limits, "nice", number(fields.static_priority))
                .map(|all| all.wrapping_sub(ORDINARY));
            row.policy = errors.keep(limits, "policy", fields.policy.read(space, self.at)).and_then(policy);
            row.seccomp =
                fields.seccomp.and_then(|field| errors.keep(limits, "seccomp", field.read(space, self.at)));
            let flags = errors.keep(limits, "no_new_privs", fields.flags.read(space, self.at));
            row.no_new_privileges = flags.map(|flags| flags & NO_NEW_PRIVILEGES != 0);
        }
        if let Some((numbers, _)) = errors.keep(limits, "nspid", self.numbers()) {
            row.numbers = numbers;
        }
        row.group = errors.keep(limits, "pgid", self.number_of(GROUP)).flatten();
        row.session = errors.keep(limits, "session", self.number_of(SESSION)).flatten();
        if let Some((number, name)) = errors.keep(limits, "tty", self.terminal()).flatten() {
            (row.tty_number, row.tty) = (Some(number), Some(name));
        }
        row.oom_score_adj = errors.keep(limits, "oom_score_adj", self.oom_score());
        if let Some(time) = errors.keep(limits, "cpu_user, cpu_system", self.cpu_time()) {
            (row.user_time, row.system_time) = (Some(time.user), Some(time.system));
        }
        let group = errors.keep(limits, "cgroup", self.control_group()).flatten();
        row.control_group = group.map(|path| lossless(&path));
        if let Some(Some(mm)) = errors.keep(limits, "mm", self.mm()) {
            let size = linux
                .mm_size()
                .map_err(LinuxError::from)
                .and_then(|fields| fields.pages.read(space, mm).map_err(LinuxError::read("total_vm")));
            let size = errors.keep(limits, "vsize_bytes", size);
            row.mapped_bytes = size.map(|pages| pages.saturating_mul(linux.page_size()));
            let counts = errors.keep(limits, "shared_bytes, swap_bytes", self.page_counts(mm));
            if let Some([files, _, swapped, shared]) = counts {
                row.shared_bytes = Some(self.pages(files.max(0).saturating_add(shared.max(0))));
                row.swapped_bytes = Some(self.pages(swapped));
            }
        }
        row.errors = errors;
        row
    }

    /// The number of its process group or session.
    fn number_of(&self, kind: usize) -> Result<Option<u32>, LinuxError> {
        let linux = self.linux;
        let space = linux.space();
        let Some(field) = linux.signal_details()?.numbers else { return Ok(None) };
        let signal = self.pointer(linux.task()?.signal, "signal")?;
        let read = LinuxError::read("a pid");
        let all = field.read(space, signal).map_err(&read)?;
        let Some(pid) = all.get(kind).copied().filter(|pid| *pid != 0) else { return Ok(None) };
        linux.outermost_number(VirtAddr::new(pid)).map(Some)
    }

    fn oom_score(&self) -> Result<i16, LinuxError> {
        let signal = self.pointer(self.linux.task()?.signal, "signal")?;
        let field = self.linux.signal_details()?.oom_score;
        let score = field.read(self.linux.space(), signal).map_err(LinuxError::read("oom_score_adj"))?;
        Ok(score.cast_signed())
    }

    /// The number of its terminal as `/proc/PID/stat` has it, and its name.
    fn terminal(&self) -> Result<Option<(u32, String)>, LinuxError> {
        let linux = self.linux;
        let space = linux.space();
        let read = LinuxError::read("a terminal");
        let signal = self.pointer(linux.task()?.signal, "signal")?;
        let at = linux.signal_details()?.terminal.pointer(space, signal).map_err(&read)?;
        if at.is_null() {
            return Ok(None);
        }
        let (fields, drivers) = (linux.tty()?, linux.tty_driver()?);
        let driver = fields.driver.pointer(space, at).map_err(&read)?;
        let major = drivers.major.read(space, driver).map_err(&read)?;
        let first = drivers.first_minor.read(space, driver).map_err(&read)?;
        let minor = first.wrapping_add(fields.index.read(space, at).map_err(&read)?);
        // new_encode_dev() (include/linux/kdev_t.h).
        let number = minor & 0xff | major.wrapping_shl(8) | (minor & !0xff).wrapping_shl(12);
        let name = fields.name.read(space, at).map_err(&read)?;
        let name = lossless(name.split(|byte| *byte == 0).next().unwrap_or_default());
        // A pseudo terminal's device lies in a directory.
        let name = match name.strip_prefix("pts") {
            Some(number) if !number.is_empty() && !number.starts_with('/') => format!("pts/{number}"),
            _ => name,
        };
        Ok(Some((number, name)))
    }
}

/// `SCHED_…` (`include/uapi/linux/sched.h`), by the words of chrt.
fn policy(number: u32) -> Option<&'static str> {
    Some(match number {
        0 => "other",
        1 => "fifo",
        2 => "rr",
        3 => "batch",
        5 => "idle",
        6 => "deadline",
        7 => "ext",
        _ => return None,
    })
}
