//! What /proc tells the child of a thread, read into memory that is there already.

use std::fs::File;
use std::io::{Read, Write};

/// The most bytes of a file that are looked at.
const MOST_BYTES: usize = 16 << 10;

/// Has thread `tid` of process `pid` a seccomp filter? True where that cannot be told.
pub(super) fn jailed(pid: i32, tid: i32) -> bool {
    let mut bytes = [0; MOST_BYTES];
    let status = read(pid, tid, "status", &mut bytes).unwrap_or_default();
    field(status, b"\nSeccomp:").is_none_or(|mode| mode != b"0")
}

/// Is `tid` a thread of process `pid`, and that the one that was started then?
pub(super) fn is_of(pid: i32, started: u64, tid: i32) -> bool {
    let mut bytes = [0; 1024];
    if read(pid, tid, "stat", &mut bytes).is_none() {
        return false;
    }
    let stat = read(pid, pid, "stat", &mut bytes).and_then(|stat| std::str::from_utf8(stat).ok());
    stat.and_then(start_time) == Some(started)
}

/// When the process was started, out of its `stat`: field 22 of proc(5).
pub(crate) fn start_time(stat: &str) -> Option<u64> {
    // The name stands in parentheses, and may hold some itself.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Fills `bytes` with the file's first; a path this short takes no memory.
fn read<'a>(pid: i32, tid: i32, name: &str, bytes: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut path = [0; 64];
    let mut rest = path.as_mut_slice();
    write!(rest, "/proc/{pid}/task/{tid}/{name}").ok()?;
    let left = rest.len();
    let path = path.get(..path.len() - left)?;
    let mut file = File::open(std::str::from_utf8(path).ok()?).ok()?;
    let mut len = 0;
    while let Some(place) = bytes.get_mut(len..).filter(|place| !place.is_empty()) {
        match file.read(place).ok()? {
            0 => break,
            more => len += more,
        }
    }
    bytes.get(..len)
}

/// What stands behind `name` on its line.
fn field<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(name.len()).position(|bytes| bytes == name)?;
    let line = text.get(at + name.len()..)?.split(|byte| *byte == b'\n').next()?;
    Some(line.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_told_and_so_is_doubt() {
        let text = b"Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(field(text, b"\nSeccomp:"), Some(b"2".as_slice()));
        assert_eq!(field(text, b"\nThreads:"), None);
        let pid = i32::try_from(std::process::id()).unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        assert_eq!(jailed(pid, pid), !status.contains("Seccomp:\t0\n"));
        assert!(jailed(i32::MAX, i32::MAX));
    }

    #[test]
    fn a_thread_of_another_process_is_told() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let started = start_time(&stat).unwrap();
        assert!(is_of(pid, started, pid));
        let tid = std::thread::spawn(move || {
            let tid = nix::unistd::gettid().as_raw();
            assert!(tid != pid && is_of(pid, started, tid));
            tid
        });
        let tid = tid.join().unwrap();
        assert!(!is_of(pid, started + 1, pid), "a process that was started later");
        assert!(!is_of(pid, started, 1), "a thread of init's");
        assert!(!is_of(tid, started, pid));
    }
}
