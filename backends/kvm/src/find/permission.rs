//! Who may look into a process: what forbids it, in words that help.
//!
//! Source: ptrace(2), "Ptrace access mode checking"; Documentation/admin-guide/LSM/Yama.rst.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::unistd::geteuid;

/// The name of a process: its program's, or what it calls itself. None where there is no such process.
pub(crate) fn name(pid: u32) -> Option<String> {
    let program = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let program =
        program.as_ref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    let own = || fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    let name = program.or_else(own)?;
    Some(name.chars().filter(|one| !one.is_control()).take(64).collect())
}

/// Why `pid` may not be traced, and what would change that.
pub(crate) fn why_not(pid: u32) -> String {
    let number = |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<i64>().ok());
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if let Some(tracer) = field("TracerPid:").filter(|tracer| *tracer != "0") {
        return format!("process {tracer} traces it already; end that first");
    }
    let user = geteuid();
    let scope = number("/proc/sys/kernel/yama/ptrace_scope").unwrap_or(0);
    if scope >= 3 {
        return "kernel.yama.ptrace_scope is 3: nobody may trace until the host is booted anew".to_owned();
    }
    if user.is_root() {
        return "CAP_SYS_PTRACE is missing here: in a container, give it that capability and the host's process numbers".to_owned();
    }
    let owner = fs::metadata(format!("/proc/{pid}")).map(|meta| meta.uid()).ok();
    let owner_by_status = field("Uid:").and_then(|ids| ids.split_ascii_whitespace().next()?.parse().ok());
    match owner_by_status.or(owner) {
        Some(owner) if owner != user.as_raw() => {
            format!(
                "it is user {owner}'s and you are user {user}: run as that user or as root, or give vmc the right (setcap \
                 cap_sys_ptrace,cap_dac_read_search+ep vmc)"
            )
        }
        _ if scope > 0 => {
            format!(
                "kernel.yama.ptrace_scope is {scope}: run as root, or give vmc the right (setcap cap_sys_ptrace+ep vmc)"
            )
        }
        _ => "it has made itself undumpable, or has more rights than you: run as root".to_owned(),
    }
}
