//! A process' files under `/proc`, read up to a bound.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::PathBuf;

use crate::error::ProcessError;
use crate::maps::{self, Map};

/// As much as is read of a file of text: a process can make its own list of mappings long.
const MOST_TEXT: u64 = 256 << 20;

/// As much as is read of a command line; the kernel's own bound is about as large.
const MOST_COMMAND: u64 = 4 << 20;

/// As many descriptors as are looked at.
const MOST_DESCRIPTORS: usize = 1 << 20;

/// What a process has mapped.
pub(crate) fn maps(pid: u32) -> Result<Vec<Map>, ProcessError> {
    maps::parse(pid, &text(pid, "maps", "the list of mappings")?)
}

/// What a process has mapped, with flags.
pub(crate) fn maps_with_flags(pid: u32) -> Result<Vec<Map>, ProcessError> {
    maps::parse(pid, &text(pid, "smaps", "the list of mappings")?)
}

/// The words of its command line.
pub(crate) fn command_line(pid: u32) -> Result<Vec<String>, ProcessError> {
    let bytes = bytes(pid, "cmdline", "the command line", MOST_COMMAND)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(text.trim_end_matches('\0').split('\0').map(str::to_owned).collect())
}

/// The path of its program.
pub(crate) fn program(pid: u32) -> Result<PathBuf, ProcessError> {
    fs::read_link(path(pid, "exe")).map_err(|error| ProcessError::io(pid, "the program", error))
}

/// Its descriptors that are `name`, as `/proc/PID/fd` tells it.
pub(crate) fn descriptors(pid: u32, name: &str) -> Result<Vec<i32>, ProcessError> {
    let wrong = |error| ProcessError::io(pid, "the list of open files", error);
    let mut found = Vec::new();
    for (count, entry) in fs::read_dir(path(pid, "fd")).map_err(wrong)?.enumerate() {
        if count >= MOST_DESCRIPTORS {
            return Err(ProcessError::TooLong { pid, what: "the list of open files" });
        }
        let entry = entry.map_err(wrong)?;
        let is = match fs::read_link(entry.path()) {
            Ok(target) => target.as_os_str() == name,
            // Closed in between.
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(wrong(error)),
        };
        if let Some(fd) = entry.file_name().to_str().filter(|_| is).and_then(|fd| fd.parse().ok()) {
            found.push(fd);
        }
    }
    found.sort_unstable();
    Ok(found)
}

pub(crate) fn path(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

fn text(pid: u32, name: &str, what: &'static str) -> Result<String, ProcessError> {
    Ok(String::from_utf8_lossy(&bytes(pid, name, what, MOST_TEXT)?).into_owned())
}

fn bytes(pid: u32, name: &str, what: &'static str, most: u64) -> Result<Vec<u8>, ProcessError> {
    let wrong = |error| ProcessError::io(pid, what, error);
    let mut bytes = Vec::new();
    let file = File::open(path(pid, name)).map_err(wrong)?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() as u64 > most { Err(ProcessError::TooLong { pid, what }) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_is_read() {
        let pid = std::process::id();
        let here = (&raw const pid).addr() as u64;
        assert!(maps(pid).unwrap().iter().any(|map| map.contains(here) && map.writable));
        assert!(maps_with_flags(pid).unwrap().iter().all(|map| !map.flags.is_empty()));
        assert_eq!(command_line(pid).unwrap()[0], std::env::args().next().unwrap());
        assert_eq!(program(pid).unwrap(), std::env::current_exe().unwrap());
        let file = File::open("/dev/null").unwrap();
        use std::os::fd::AsRawFd as _;
        assert!(descriptors(pid, "/dev/null").unwrap().contains(&file.as_raw_fd()));
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = maps(u32::MAX).unwrap_err();
        assert_eq!(error.to_string(), format!("there is no process {}", u32::MAX));
    }
}
