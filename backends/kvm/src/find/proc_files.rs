//! The files of /proc and debugfs that are read, each with a bound.
//!
//! Sources: proc(5); `/sys/kernel/debug/kvm/PID-FD/vcpuN/pid` of `virt/kvm/kvm_main.c`.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};

use super::permission::why_not;
use crate::arch::vcpu_run;
use crate::error::AttachError;
use crate::tracer::start_time;

/// The most bytes of a file that are read.
const MOST_BYTES: u64 = 32 << 20;
/// The most descriptors and threads that are looked at.
const MOST_ENTRIES: usize = 1 << 16;

/// Flags of a thread in field 9 of `stat`: threads of the kernel's own in the process, which carry the registers of the thread that
/// made them, but never return to its program. `PF_IO_WORKER`, `PF_USER_WORKER`, `PF_KTHREAD` of `include/linux/sched.h`.
const WORKERS: u64 = 0x10 | 0x4000 | 0x20_0000;

/// A mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) executable: bool,
    pub(super) name: String,
}

fn text(path: &str) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The descriptors, ascending, and what each leads to.
pub(super) fn read_fds(pid: u32, name: &str) -> Result<Vec<(i32, String)>, AttachError> {
    let path = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => AttachError::NoProcess { pid },
        ErrorKind::PermissionDenied => {
            AttachError::NotPermitted { pid, name: name.to_owned(), why: why_not(pid) }
        }
        _ => AttachError::Proc { path, source },
    })?;
    let mut fds = Vec::new();
    for entry in entries.flatten().take(MOST_ENTRIES) {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let (Some(number), Ok(target)) = (number, fs::read_link(entry.path())) {
            fds.push((number, target.to_string_lossy().into_owned()));
        }
    }
    fds.sort_unstable();
    Ok(fds)
}

/// What is mapped where.
pub(super) fn mappings(pid: u32) -> Result<Vec<Mapping>, AttachError> {
    let path = format!("/proc/{pid}/maps");
    let text = text(&path).map_err(|source| AttachError::Proc { path, source })?;
    Ok(text.lines().filter_map(mapping).collect())
}

fn mapping(line: &str) -> Option<Mapping> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let executable = words.next()?.contains('x');
    let name = words.skip(3).collect::<Vec<_>>().join(" ");
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(Mapping { start: number(start)?, end: number(end)?, executable, name })
}

/// The threads, ascending.
pub(super) fn threads(pid: u32) -> Vec<i32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let tids =
        entries.flatten().take(MOST_ENTRIES).filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut threads: Vec<i32> = tids.collect();
    threads.sort_unstable();
    threads
}

/// Does the thread run code of the process? Not where it is one of the kernel's own, or has ended.
pub(super) fn runs_its_code(pid: u32, tid: i32) -> bool {
    state(pid, tid).is_some_and(|(_, flags)| flags & WORKERS == 0)
}

/// Is the process' program one of 32 bits?
pub(super) fn is_narrow(pid: u32) -> bool {
    let mut head = [0; 5];
    let read = File::open(format!("/proc/{pid}/exe")).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && narrow(head)
}

/// Source: `EI_CLASS` of the ELF specification: 1 is `ELFCLASS32`.
fn narrow(head: [u8; 5]) -> bool {
    matches!(head, [0x7f, b'E', b'L', b'F', 1])
}

/// How many threads the process has: its directory of them has a link for each.
pub(super) fn task_count(pid: u32) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(format!("/proc/{pid}/task")).ok().map(|metadata| metadata.nlink())
}

/// When the process was started, in ticks of the clock since the host was.
pub(super) fn started(pid: u32) -> Option<u64> {
    start_time(&text(&format!("/proc/{pid}/stat")).ok()?)
}

/// The state's letter, and the flags.
fn state(pid: u32, tid: i32) -> Option<(char, u64)> {
    let stat = text(&format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    // The name stands in parentheses, and may hold some itself.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let letter = fields.next()?.chars().next()?;
    Some((letter, fields.nth(5)?.parse().ok()?))
}

/// The system call that the thread sleeps in, with its first two arguments.
pub(super) fn system_call(pid: u32, tid: i32) -> Option<(u64, u64, u64)> {
    parse_system_call(&text(&format!("/proc/{pid}/task/{tid}/syscall")).ok()?)
}

/// `16 0xd 0xae80 …`; `running` and `-1 …` are no system call.
fn parse_system_call(text: &str) -> Option<(u64, u64, u64)> {
    let mut words = text.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    let mut hex = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    Some((number, hex()?, hex()?))
}

/// The thread that last ran a vCPU, where debugfs is mounted and may be read.
pub(super) fn by_debugfs(pid: u32, vm: i32, vcpu: u32) -> Option<i32> {
    let text = text(&format!("/sys/kernel/debug/kvm/{pid}-{vm}/vcpu{vcpu}/pid")).ok()?;
    text.trim().parse().ok().filter(|tid| *tid > 0)
}

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// It is in `KVM_RUN`, and sleeps there.
    KvmRun,
    /// It is on a processor: in the guest or not.
    OnProcessor,
    /// Neither.
    Other,
}

pub(super) fn doing(pid: u32, tid: i32) -> Doing {
    let Ok(text) = text(&format!("/proc/{pid}/task/{tid}/syscall")) else { return Doing::Other };
    if text.starts_with("running") {
        return Doing::OnProcessor;
    }
    match parse_system_call(&text).and_then(vcpu_run) {
        Some(_) => Doing::KvmRun,
        None => Doing::Other,
    }
}

/// Is the process stopped, as SIGSTOP does it? A thread that is traced besides has another letter.
pub(crate) fn stopped_by_signal(pid: u32) -> bool {
    i32::try_from(pid)
        .ok()
        .and_then(|tid| state(pid, tid))
        .is_some_and(|(letter, _)| matches!(letter, 'T' | 't'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::KVM_RUN;

    #[test]
    fn lines_are_read() {
        let line = "7f2a-7f2f rw-s 00000000 00:0f 9 anon_inode:kvm-vcpu:1";
        let name = "anon_inode:kvm-vcpu:1".to_owned();
        assert_eq!(mapping(line), Some(Mapping { start: 0x7f2a, end: 0x7f2f, executable: false, name }));
        assert_eq!(mapping("10-20 r-xp 0 0:0 0").unwrap().name, "");
        for bad in ["", "10 r-xp", "10-20", "x-y r-xp 0 0:0 0"] {
            assert_eq!(mapping(bad), None, "{bad:?}");
        }
        assert_eq!(parse_system_call("16 0xd 0xae80 0x0 0x0\n"), Some((16, 13, KVM_RUN)));
        assert_eq!(parse_system_call("running\n"), None);
        assert_eq!(parse_system_call("-1 0x7ffc 0x7f\n"), None);
    }

    #[test]
    fn programs_of_32_bits_are_told() {
        assert!(!is_narrow(std::process::id()));
        assert!(narrow(*b"\x7fELF\x01") && !narrow(*b"\x7fELF\x02") && !narrow(*b"#!/bi"));
    }

    #[test]
    fn this_thread_is_found() {
        let pid = std::process::id();
        let tid = i32::try_from(pid).unwrap();
        assert!(threads(pid).contains(&tid) && runs_its_code(pid, tid));
    }
}
