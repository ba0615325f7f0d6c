//! A guest's process, seen from outside.

use std::time::{Duration, Instant};

/// What can be seen of a process from outside, and may not change by being looked at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    descriptors: Vec<String>,
    threads: Vec<String>,
    traced: Vec<String>,
    signals: Vec<String>,
}

impl Seen {
    /// What it looks like when nothing is being done to it; connections that were closed here are closed there by then.
    pub(crate) fn of(pid: u64) -> Self {
        std::thread::sleep(Duration::from_millis(300));
        Self::now(pid)
    }

    fn now(pid: u64) -> Self {
        let list = |what: &str| {
            let entries = std::fs::read_dir(format!("/proc/{pid}/{what}")).unwrap();
            let mut names: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let threads = list("task");
        let status = |wanted: &[&str]| {
            let of_thread = |tid: &String| {
                let text = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).unwrap();
                let lines = text.lines().filter(|line| wanted.iter().any(|word| line.starts_with(word)));
                format!("{tid} {}", lines.collect::<Vec<_>>().join(" "))
            };
            threads.iter().map(of_thread).collect()
        };
        // By what they are of: QEMU makes those of its devices anew when a guest is stopped and goes on.
        let mut descriptors: Vec<String> = list("fd")
            .iter()
            .filter_map(|fd| std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok())
            .map(|link| link.to_string_lossy().split(":[").next().unwrap_or_default().to_owned())
            .collect();
        descriptors.sort();
        Self {
            descriptors,
            traced: status(&["TracerPid"]),
            signals: status(&["SigBlk", "SigIgn", "SigCgt", "Seccomp:"]),
            threads,
        }
    }

    /// Waits until the process looks like this again; panics where it does not.
    pub(crate) fn again(&self, pid: u64) {
        let begin = Instant::now();
        loop {
            let now = Self::now(pid);
            if now == *self {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(5), "left behind: {now:?}\nbefore: {self:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
