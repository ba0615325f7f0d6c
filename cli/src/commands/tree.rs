//! `ps --tree`: who started whom, like pstree.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use vmc::text::printable;
use vmc::view::Process;

use crate::args::Format;
use crate::commands::{Context, ps};
use crate::failure::Failure;
use crate::output::Output;

pub(crate) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let mut output = context.output();
    if output.format() != Format::Table {
        // The rows have `ppid`: that is the tree.
        return ps::run(context, None, false);
    }
    print(&mut output, &ps::processes(context)?)
}

/// Prints the tree of processes.
pub(crate) fn print(output: &mut Output, processes: &[Process]) -> Result<(), Failure> {
    for line in lines(processes) {
        writeln!(output.stream(), "{line}")?;
    }
    Ok(output.stream().flush()?)
}

/// A process that is still to be printed: what stands before it, and before its children.
struct Open {
    pid: u32,
    before: String,
    before_children: String,
}

/// The lines of the tree. Who has no parent in the list stands at the left; a circle of parents is broken where it begins.
fn lines(processes: &[Process]) -> Vec<String> {
    let by_pid: BTreeMap<u32, &Process> = processes.iter().map(|process| (process.pid, process)).collect();
    let mut children: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    let mut roots = BTreeSet::new();
    for process in by_pid.values() {
        match process.ppid.filter(|ppid| by_pid.contains_key(ppid) && *ppid != process.pid) {
            Some(ppid) => children.entry(ppid).or_default().insert(process.pid),
            None => roots.insert(process.pid),
        };
    }
    let mut lines = Vec::new();
    let mut left: BTreeSet<u32> = by_pid.keys().copied().collect();
    while let Some(first) = roots.pop_first().or_else(|| left.first().copied()) {
        let mut open = vec![Open { pid: first, before: String::new(), before_children: String::new() }];
        while let Some(Open { pid, before, before_children }) = open.pop() {
            if !left.remove(&pid) {
                continue;
            }
            if let Some(process) = by_pid.get(&pid) {
                lines.push(format!("{before}{}", label(process)));
            }
            let below: Vec<u32> = children.get(&pid).into_iter().flatten().copied().collect();
            // The last one is pushed first, so that it is taken last.
            for (from_end, child) in below.iter().rev().enumerate() {
                let (branch, trunk) = if from_end == 0 { ("└─", "  ") } else { ("├─", "│ ") };
                open.push(Open {
                    pid: *child,
                    before: format!("{before_children}{branch}"),
                    before_children: format!("{before_children}{trunk}"),
                });
            }
        }
    }
    lines
}

fn label(process: &Process) -> String {
    let name = printable(&process.name);
    let (open, close) = if process.kernel { ("[", "]") } else { ("", "") };
    let threads = match process.threads {
        Some(threads) if threads > 1 => format!(" {threads} threads"),
        _ => String::new(),
    };
    format!("{open}{name}{close} {}{threads}", process.pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, ppid: u32) -> Process {
        Process { pid, ppid: Some(ppid), name: format!("p{pid}"), ..Process::default() }
    }

    #[test]
    fn children_stand_below_their_parents() {
        let tree = lines(&[process(1, 0), process(2, 1), process(3, 2), process(4, 1), process(9, 7)]);
        assert_eq!(tree, ["p1 1", "├─p2 2", "│ └─p3 3", "└─p4 4", "p9 9"]);
    }

    #[test]
    fn circles_are_shown_once() {
        assert_eq!(lines(&[process(5, 6), process(6, 5), process(7, 7)]), ["p7 7", "p5 5", "└─p6 6"]);
    }
}
