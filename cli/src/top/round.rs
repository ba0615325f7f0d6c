//! One round: how often each thread was met on each CPU, and the table of that.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use vmc::text::printable;
use vmc_linux::{Linux, Task};

use crate::record::{Met, Profile};

/// How often a CPU, or a thread, was met in its program and in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) user: u64,
    pub(super) kernel: u64,
    pub(super) idle: u64,
}

impl Share {
    const fn busy(self) -> u64 {
        self.user + self.kernel
    }

    const fn all(self) -> u64 {
        self.busy() + self.idle
    }

    const fn add(&mut self, other: Self) {
        self.user += other.user;
        self.kernel += other.kernel;
        self.idle += other.idle;
    }
}

/// The samples of a round.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// How often samples were taken.
    samples: u64,
    cpus: BTreeMap<u32, Share>,
    /// By the thread's number in the profile.
    threads: HashMap<u32, (Share, u32)>,
    /// The pause of a sample, at the median.
    pub(super) pause: Option<Duration>,
}

/// A line of the table.
struct Line {
    pid: u32,
    tid: u32,
    share: Share,
    cpu: u32,
    name: String,
}

fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

impl Round {
    /// Counts who was met at one moment.
    pub(super) fn add(&mut self, met: &[Met]) {
        self.samples += 1;
        for one in met {
            let share = match (one.thread, one.kernel) {
                (None, _) => Share { idle: 1, ..Share::default() },
                (Some(_), true) => Share { kernel: 1, ..Share::default() },
                (Some(_), false) => Share { user: 1, ..Share::default() },
            };
            self.cpus.entry(one.cpu).or_default().add(share);
            if let Some(thread) = one.thread {
                let (sum, cpu) = self.threads.entry(thread).or_default();
                sum.add(share);
                *cpu = one.cpu;
            }
        }
    }

    fn table(&self, profile: &Profile, threads: bool) -> Vec<Line> {
        let mut lines: BTreeMap<(u32, u32), Line> = BTreeMap::new();
        for (number, (share, cpu)) in &self.threads {
            let Some(thread) = profile.threads.get(*number) else { continue };
            let key = (thread.pid, if threads { thread.tid } else { thread.pid });
            let name = if threads { &thread.name } else { &thread.process };
            let line = lines.entry(key).or_insert_with(|| Line {
                pid: key.0,
                tid: key.1,
                share: Share::default(),
                cpu: *cpu,
                name: name.clone(),
            });
            line.share.add(*share);
        }
        let mut lines: Vec<Line> = lines.into_values().collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.share.busy()));
        lines
    }

    /// The round as text, `most` lines of it.
    pub(super) fn lines(
        &self,
        target: &str,
        linux: Option<&Linux<'_>>,
        profile: &Profile,
        threads: bool,
        most: usize,
    ) -> Vec<String> {
        let mut all = Share::default();
        self.cpus.values().for_each(|cpu| all.add(*cpu));
        let pause = self.pause.map_or_else(String::new, |pause| {
            format!(", the guest stood {:.2} ms for each", pause.as_secs_f64() * 1000.0)
        });
        let mut lines = vec![format!(
            "{}: {} samples of {} CPUs{pause}",
            printable(target),
            self.samples,
            self.cpus.len()
        )];
        let shares = |share: &Share| {
            format!(
                "{:5.1} % busy: {:5.1} user, {:5.1} kernel; {:5.1} idle",
                percent(share.busy(), share.all()),
                percent(share.user, share.all()),
                percent(share.kernel, share.all()),
                percent(share.idle, share.all())
            )
        };
        lines.push(format!("all CPUs {}", shares(&all)));
        // More of them than a screen has room for are told together.
        if self.cpus.len() > 1 && self.cpus.len() <= 16 {
            lines.extend(self.cpus.iter().map(|(cpu, share)| format!("CPU {cpu:<4} {}", shares(share))));
        }
        let tid = if threads { "    TID" } else { "" };
        lines.push(String::new());
        lines.push(format!("    PID{tid} S CPU   %CPU  %USER %KERNEL COMMAND"));
        let room = most.saturating_sub(lines.len());
        let mut table = self.table(profile, threads);
        table.truncate(room);
        let tasks = tasks(linux, &table);
        for line in table {
            let task = tasks.get(&line.pid);
            let tid = if threads { format!(" {:>6}", line.tid) } else { String::new() };
            let state = task.and_then(|task| match line.tid == line.pid {
                true => task.state().ok(),
                false => task.threads().ok()?.find_map(|thread| {
                    thread.ok().filter(|thread| thread.tid() == Ok(line.tid))?.state().ok()
                }),
            });
            let command = match (task, threads) {
                (Some(task), false) => command(task).unwrap_or_else(|| line.name.clone()),
                _ => line.name.clone(),
            };
            lines.push(format!(
                "{:>7}{tid} {} {:>3} {:>6.1} {:>6.1} {:>7.1} {}",
                line.pid,
                state.map_or_else(|| String::from("?"), |state| state.to_string()),
                line.cpu,
                percent(line.share.busy(), self.samples),
                percent(line.share.user, self.samples),
                percent(line.share.kernel, self.samples),
                printable(&command)
            ));
        }
        lines
    }
}

/// The processes of a table, found in one walk over the guest's list.
fn tasks<'k, 'm>(linux: Option<&'k Linux<'m>>, table: &[Line]) -> HashMap<u32, Task<'k, 'm>> {
    let wanted: HashSet<u32> = table.iter().map(|line| line.pid).collect();
    let Some(processes) = linux.and_then(|linux| linux.processes().ok()) else { return HashMap::new() };
    processes
        .map_while(Result::ok)
        .filter_map(|task| Some((task.pid().ok().filter(|pid| wanted.contains(pid))?, task)))
        .take(wanted.len())
        .collect()
}

/// A process' command line.
fn command(task: &Task<'_, '_>) -> Option<String> {
    let words = task.process_row().command_line;
    let words = words.filter(|words| !words.is_empty())?;
    Some(words.join(" "))
}
