//! `cat`: a file's bytes, out of the page cache.

use std::ffi::OsStr;
use std::io::{IsTerminal, Write};

use vmc::text::{lossless, printable};
use vmc::view::{FilePart, PartKind};
use vmc_linux::FileContents;

use crate::commands::Context;
use crate::failure::Failure;

/// The process from whose root paths are looked up without `--pid`.
pub(crate) const INIT: u32 = 1;
/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;
/// Missing ranges that are told one by one.
const TOLD: usize = 8;

/// Which file, and how it is shown.
#[derive(Debug)]
pub(crate) struct Options<'a> {
    pub(crate) path: Option<&'a OsStr>,
    pub(crate) pid: Option<u32>,
    pub(crate) fd: Option<u32>,
    /// Write zeros for what is missing.
    pub(crate) partial: bool,
}

pub(crate) fn run(context: &Context<'_>, options: &Options<'_>) -> Result<(), Failure> {
    let task = context.process(options.pid.unwrap_or(INIT))?;
    let (file, name) = match (options.path, options.fd) {
        (Some(path), _) => (task.contents(path.as_encoded_bytes()), lossless(path.as_encoded_bytes())),
        (None, fd) => {
            let fd = fd.unwrap_or_default();
            (task.descriptor_contents(fd), format!("descriptor {fd}"))
        }
    };
    let file = file.map_err(|why| context.failed(why))?;
    let gaps = Gaps::of(&file, context)?;
    let limit = context.linux.limits().file_zeros;
    if gaps.zeros > limit {
        return Err(Failure::Said(format!(
            "{}: {name}: {} of its {} bytes are holes or missing, and no more than {limit} zeros are written",
            context.name,
            gaps.zeros,
            file.size()
        )));
    }
    if gaps.bytes > 0 {
        let text = gaps.text(&name, file.size());
        if !options.partial {
            return Err(Failure::Said(format!("{}: {text} (--partial writes zeros for them)", context.name)));
        }
        context.notes.warning(&format_args!("{}: {text}; zeros stand for them", context.name));
    }
    write(&file, context)
}

/// What of a file is not in memory.
#[derive(Debug, Default)]
struct Gaps {
    bytes: u64,
    /// Bytes for which zeros are written, holes among them.
    zeros: u64,
    swapped: u64,
    ranges: usize,
    first: Vec<(u64, u64)>,
}

impl Gaps {
    fn of(file: &FileContents<'_, '_>, context: &Context<'_>) -> Result<Self, Failure> {
        let mut gaps = Self::default();
        let mut last = None;
        for part in file.parts() {
            let FilePart { offset, len, kind } = part.map_err(|why| context.failed(why))?;
            if kind != PartKind::Data {
                gaps.zeros = gaps.zeros.saturating_add(len);
            }
            let missing = match kind {
                PartKind::Data | PartKind::Hole => false,
                PartKind::Swapped => {
                    gaps.swapped += len;
                    true
                }
                _ => true,
            };
            if !missing {
                continue;
            }
            gaps.bytes += len;
            let end = offset.saturating_add(len);
            if last == Some(offset) && gaps.ranges <= TOLD {
                if let Some(range) = gaps.first.last_mut() {
                    range.1 = end;
                }
            } else if last != Some(offset) {
                gaps.ranges += 1;
                if gaps.ranges <= TOLD {
                    gaps.first.push((offset, end));
                }
            }
            last = Some(end);
        }
        Ok(gaps)
    }

    fn text(&self, name: &str, size: u64) -> String {
        let ranges: Vec<String> = self.first.iter().map(|(from, to)| format!("{from:#x}-{to:#x}")).collect();
        let more = match self.ranges.saturating_sub(TOLD) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let swapped = match self.swapped {
            0 => String::new(),
            bytes => format!(", {bytes} of them swapped out"),
        };
        format!(
            "{name}: {} of {size} bytes are not in memory{swapped}: {}{more}",
            self.bytes,
            ranges.join(", ")
        )
    }
}

/// Writes the file; a terminal gets no characters that act on it.
fn write(file: &FileContents<'_, '_>, context: &Context<'_>) -> Result<(), Failure> {
    let terminal = std::io::stdout().is_terminal();
    let mut output = context.output();
    let out = output.stream();
    let mut buffer = vec![0u8; CHUNK];
    for part in file.parts() {
        let FilePart { mut offset, mut len, kind } = part.map_err(|why| context.failed(why))?;
        while len > 0 {
            let step = len.min(CHUNK as u64);
            let Some(chunk) = buffer.get_mut(..step as usize) else { break };
            if kind == PartKind::Data {
                file.read(offset, chunk)
                    .map_err(|why| Failure::Said(format!("{}: {offset:#x}: {why}", context.name)))?;
            } else {
                chunk.fill(0);
            }
            if terminal {
                out.write_all(shown(chunk).as_bytes())?
            } else {
                out.write_all(chunk)?
            }
            (offset, len) = (offset + step, len - step);
        }
    }
    Ok(out.flush()?)
}

/// Bytes for a terminal: lines and tabs as they are, everything else that would act on it escaped.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for part in lossless(bytes).split_inclusive(['\n', '\t']) {
        let (part, end) = match part.char_indices().next_back() {
            Some((at, end @ ('\n' | '\t'))) => (part.get(..at).unwrap_or_default(), Some(end)),
            _ => (part, None),
        };
        text.push_str(&printable(part));
        text.extend(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_lines_and_no_commands() {
        assert_eq!(shown(b"a\tb\n\x1b[2Jc\xff\n\n"), "a\tb\n\\x1b[2Jc\\xff\n\n");
    }

    #[test]
    fn missing_ranges_are_told_up_to_a_bound() {
        let gaps = Gaps {
            bytes: 8192,
            zeros: 8192,
            swapped: 4096,
            ranges: TOLD + 2,
            first: vec![(0, 4096), (8192, 12288)],
        };
        let text = gaps.text("/x", 20000);
        assert_eq!(
            text,
            "/x: 8192 of 20000 bytes are not in memory, 4096 of them swapped out: 0x0-0x1000, 0x2000-0x3000 and 2 more"
        );
    }
}
