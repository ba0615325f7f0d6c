//! Has the virtual machine ended? Asked where something went wrong: the cause is then said, and not what came of it.

use std::fs;

use vmc::{LiveError, LiveGuest};

/// What shows that the machine of `guest` has ended, if it has and its process on this host is known.
pub(crate) fn gone(guest: &dyn LiveGuest) -> Option<LiveError> {
    let pid = guest.facts().pid?;
    has_ended(pid).then(|| LiveError::Gone { what: format!("its process {pid} has ended") })
}

/// Has the process ended, or is it just ending? It does not live any more as soon as none of its threads has memory; its number goes
/// later.
fn has_ended(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        // Where there is no /proc nothing is known.
        return fs::exists("/proc/self/task").unwrap_or(false);
    };
    let lives = |thread: fs::DirEntry| {
        let pages = fs::read_to_string(thread.path().join("statm")).unwrap_or_default();
        pages.split_whitespace().next().is_some_and(|pages| pages != "0")
    };
    !threads.flatten().any(lives)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_ends_when_it_is_killed_not_when_it_is_waited_for() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        assert!(!has_ended(child.id()) && !has_ended(std::process::id()));
        child.kill().unwrap();
        let ended = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            has_ended(child.id())
        });
        child.wait().unwrap();
        assert!(ended && has_ended(child.id()));
    }
}
