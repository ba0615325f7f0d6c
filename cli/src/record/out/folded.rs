//! Folded stacks: a line a stack, outermost frame first, `;` between frames, how often it was met behind the last space.
//!
//! Source: the format that `flamegraph.pl` reads (its header).

use std::collections::BTreeMap;
use std::io::{self, Write};

use vmc::text::printable;

use crate::record::Per;
use crate::record::profile::{Profile, Thread};

/// A name as a part of a line: no `;`, nothing that ends a line or that a terminal obeys.
pub(crate) fn part(name: &str) -> String {
    printable(name).to_string().replace(';', "\\x3b")
}

/// What stands below the frames of a thread.
pub(crate) fn roots(per: Per, thread: &Thread, cpu: u32) -> Vec<String> {
    let process = part(&format!("{} ({})", thread.process, thread.pid));
    match per {
        Per::Process => vec![process],
        Per::Thread => vec![process, part(&format!("{} ({})", thread.name, thread.tid))],
        Per::Cpu => vec![format!("CPU {cpu}"), process],
    }
}

/// A frame of a folded stack.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) kernel: bool,
}

/// The stacks by their frames' names, outermost first, each with its count. Those that differ in addresses alone are one.
pub(crate) fn fold(profile: &Profile, per: Per) -> BTreeMap<Vec<Part>, u64> {
    let labels: Vec<Part> = profile
        .places
        .iter()
        .map(|place| Part { name: part(&profile.label(place)), kernel: place.kernel })
        .collect();
    let mut folded = BTreeMap::new();
    for (key, count) in profile.sorted() {
        let Some(thread) = profile.threads.get(key.thread) else { continue };
        let roots = roots(per, thread, key.cpu).into_iter().map(|name| Part { name, kernel: false });
        let frames = profile.stacks.get(key.stack).into_iter().flatten().rev();
        let frames = frames.filter_map(|place| labels.get(*place as usize)).cloned();
        *folded.entry(roots.chain(frames).collect::<Vec<_>>()).or_default() += count;
    }
    folded
}

/// Writes the stacks; functions of the kernel end in `_[k]`, by which flame graphs colour them.
pub(crate) fn write(profile: &Profile, per: Per, out: &mut dyn Write) -> io::Result<()> {
    for (stack, count) in fold(profile, per) {
        let names: Vec<String> =
            stack.into_iter().map(|part| if part.kernel { part.name + "_[k]" } else { part.name }).collect();
        writeln!(out, "{} {count}", names.join(";"))?;
    }
    Ok(())
}
