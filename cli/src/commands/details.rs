//! A process' details as fields: credentials, capabilities, use of CPU and memory.

use serde_json::{Value, json};
use vmc::view::{Credentials, ProcessDetails};

use crate::output::optional;

/// The fields that details add to a process' row.
pub(crate) const FIELDS: [&str; 34] = [
    "euid",
    "suid",
    "fsuid",
    "egid",
    "sgid",
    "fsgid",
    "groups",
    "cap_inheritable",
    "cap_permitted",
    "cap_effective",
    "cap_bounding",
    "cap_ambient",
    "capabilities",
    "no_new_privs",
    "seccomp",
    "nspid",
    "pid_inside",
    "pgid",
    "session",
    "tty",
    "tty_nr",
    "priority",
    "nice",
    "policy",
    "cpu_user",
    "cpu_system",
    "vsize_bytes",
    "shared_bytes",
    "swap_bytes",
    "oom_score_adj",
    "cgroup",
    // Those of the row that stand behind.
    "object",
    "page_table",
    "errors",
];

/// Capabilities by their numbers (`include/uapi/linux/capability.h`).
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// The names of a set of capabilities; one without a name by its number.
fn names(set: u64) -> Vec<String> {
    let has = |bit: &u32| set >> bit & 1 != 0;
    let name =
        |bit: u32| CAPABILITIES.get(bit as usize).map_or_else(|| bit.to_string(), |name| (*name).to_owned());
    (0..64).filter(has).map(name).collect()
}

/// A set as `/proc/PID/status` shows it.
fn hex(set: u64) -> Value {
    Value::String(format!("{set:016x}"))
}

/// Nanoseconds as seconds.
#[allow(clippy::cast_precision_loss, reason = "a fraction of a second that a person reads")]
pub(crate) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// The details as fields of JSON.
pub(crate) fn fields(row: &ProcessDetails) -> Vec<(&'static str, Value)> {
    let mut fields = row.credentials.as_ref().map(credentials).unwrap_or_default();
    let inside = if row.numbers.len() > 1 { row.numbers.last() } else { None };
    fields.extend([
        ("no_new_privs", json!(row.no_new_privileges)),
        ("seccomp", json!(row.seccomp)),
        ("nspid", if row.numbers.is_empty() { Value::Null } else { json!(row.numbers) }),
        ("pid_inside", json!(inside)),
        ("pgid", json!(row.group)),
        ("session", json!(row.session)),
        ("tty", json!(row.tty)),
        ("tty_nr", json!(row.tty_number)),
        ("priority", json!(row.priority)),
        ("nice", json!(row.nice)),
        ("policy", json!(row.policy)),
        ("cpu_user", optional(row.user_time, |time| json!(seconds(time)))),
        ("cpu_system", optional(row.system_time, |time| json!(seconds(time)))),
        ("vsize_bytes", json!(row.mapped_bytes)),
        ("shared_bytes", json!(row.shared_bytes)),
        ("swap_bytes", json!(row.swapped_bytes)),
        ("oom_score_adj", json!(row.oom_score_adj)),
        ("cgroup", json!(row.control_group)),
    ]);
    fields
}

fn credentials(row: &Credentials) -> Vec<(&'static str, Value)> {
    Vec::from([
        ("euid", json!(row.euid)),
        ("suid", json!(row.suid)),
        ("fsuid", json!(row.fsuid)),
        ("egid", json!(row.egid)),
        ("sgid", json!(row.sgid)),
        ("fsgid", json!(row.fsgid)),
        ("groups", json!(row.groups)),
        ("cap_inheritable", hex(row.inheritable)),
        ("cap_permitted", hex(row.permitted)),
        ("cap_effective", hex(row.effective)),
        ("cap_bounding", hex(row.bounding)),
        ("cap_ambient", hex(row.ambient)),
        ("capabilities", json!(names(row.effective))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_the_names_of_their_numbers() {
        assert_eq!(names(1 << 21 | 1 << 12 | 1), ["chown", "net_admin", "sys_admin"]);
        assert_eq!(names(1 << 40 | 1 << 63), ["checkpoint_restore", "63"]);
        assert_eq!(hex(0x1ff_ffff_ffff), json!("000001ffffffffff"));
    }
}
