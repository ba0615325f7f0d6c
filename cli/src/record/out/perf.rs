//! Samples as text, as `perf script` prints them: what `stackcollapse-perf` and speedscope read.
//!
//! Source: `tools/perf/Documentation/perf-script.txt` and the regular expressions of `stackcollapse-perf.pl`: a line with the
//! thread's name, its numbers, CPU, time, period and event; then a line a frame, innermost first; then an empty one.

use std::io::{self, Write};

use vmc::text::printable;

use crate::record::profile::{Place, Profile};

/// Writes every sample, in the order of time; `period` is what one stands for, in nanoseconds.
pub(crate) fn write(profile: &Profile, period: u64, out: &mut dyn Write) -> io::Result<()> {
    let lines: Vec<String> = profile.places.iter().map(|place| line(profile, place)).collect();
    for sample in profile.timed.iter().flatten() {
        let Some(thread) = profile.threads.get(sample.key.thread) else { continue };
        let (seconds, micros) =
            (sample.nanoseconds / 1_000_000_000, sample.nanoseconds % 1_000_000_000 / 1000);
        let name = solid(if thread.name.trim().is_empty() { "?" } else { &thread.name });
        writeln!(
            out,
            "{name} {}/{} [{:03}] {seconds}.{micros:06}: {period} cpu-clock:",
            thread.pid, thread.tid, sample.key.cpu
        )?;
        for place in profile.stacks.get(sample.key.stack).into_iter().flatten() {
            if let Some(line) = lines.get(*place as usize) {
                writeln!(out, "{line}")?;
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A frame's line.
fn line(profile: &Profile, place: &Place) -> String {
    let module = match (profile.module_of(place), place.kernel) {
        (Some(module), true) if module.path == "kernel" => String::from("[kernel.kallsyms]"),
        (Some(module), true) => format!("[{}]", solid(&module.path)),
        (Some(module), false) => solid(&module.path),
        (None, true) => String::from("[kernel.kallsyms]"),
        (None, false) => String::from("[unknown]"),
    };
    let symbol = match (&place.function, place.start) {
        (Some(function), Some(start)) => {
            format!("{}+{:#x}", printable(function), place.address.saturating_sub(start))
        }
        (Some(function), None) => printable(function).to_string(),
        (None, _) => String::from("[unknown]"),
    };
    format!("\t{:16x} {symbol} ({module})", place.address)
}

/// Text without a blank: what a reader takes for one word.
fn solid(text: &str) -> String {
    printable(text).to_string().replace(char::is_whitespace, "\\x20")
}
