//! `translate` and `read`: addresses and bytes.

use std::fmt::Display;
use std::io::Write;

use serde_json::{Value, json};
use vmc::view::RowErrors;
use vmc::{PhysAddr, ReadExt, TranslateError, VirtAddr, VirtualMemory, Walk};
use vmc_linux::AddressSpaceOf;

use crate::args::Format;
use crate::commands::{Context, Question};
use crate::failure::Failure;
use crate::output::{Object, Output, address, object};

/// `read` gives no more than this at once: it is kept in memory before the first byte is written.
const MOST: usize = 16 << 20;

/// The memory of process `pid`, if one was named.
fn memory_of<'a>(context: &Context<'a>, pid: Option<u32>) -> Result<Option<AddressSpaceOf<'a, 'a>>, Failure> {
    let Some(pid) = pid else { return Ok(None) };
    context.process(pid)?.memory().map(Some).map_err(|why| context.failed(why))
}

pub(crate) fn translate(context: &Context<'_>, pid: Option<u32>, virt: u64) -> Result<(), Failure> {
    let process = memory_of(context, pid)?;
    let space = process.as_ref().map_or(context.linux.space(), |process| process.tables());
    show_walk(&mut context.output(), context.name, virt, space.walk(VirtAddr::new(virt)))
}

/// Shows a walk, or fails by saying where it ended.
pub(crate) fn show_walk(
    output: &mut Output,
    name: &str,
    virt: u64,
    walked: Result<Walk, TranslateError>,
) -> Result<(), Failure> {
    let row = match &walked {
        Ok(walk) => translation(virt, walk),
        Err(why) => {
            object([("virtual", address(virt)), ("reason", json!(why.to_string()))], &RowErrors::default())
        }
    };
    if let (Format::Table, Ok(walk)) = (output.format(), &walked) {
        print_walk(output.stream(), virt, walk)?;
    } else {
        output.object(row)?;
    }
    let not_mapped = |why| Failure::Said(format!("{name}: {virt:#x} is not mapped: {why}"));
    walked.map(|_| ()).map_err(not_mapped)
}

fn translation(virt: u64, walk: &Walk) -> Object {
    let entry = |entry: &vmc::WalkEntry| json!({ "level": entry.level, "address": address(entry.at), "value": address(entry.value) });
    let fields = [
        ("virtual", address(virt)),
        ("physical", address(walk.physical)),
        ("page_size", json!(walk.page_size)),
        ("writable", json!(walk.writable)),
        ("user", json!(walk.user)),
        ("executable", json!(walk.executable)),
        ("entries", Value::Array(walk.entries().iter().map(entry).collect())),
    ];
    object(fields, &RowErrors::default())
}

fn print_walk(out: &mut impl Write, virt: u64, walk: &Walk) -> Result<(), Failure> {
    writeln!(out, "virtual   {virt:#x}")?;
    for entry in walk.entries() {
        writeln!(out, "level {}   entry {:#018x} at physical {}", entry.level, entry.value, entry.at)?;
    }
    let may = |yes, letter| if yes { letter } else { '-' };
    let rights = [may(walk.user, 'u'), may(walk.writable, 'w'), may(walk.executable, 'x')];
    writeln!(
        out,
        "physical  {} ({} KiB page, {})",
        walk.physical,
        walk.page_size >> 10,
        String::from_iter(rights)
    )?;
    Ok(out.flush()?)
}

pub(crate) fn read(
    context: &Context<'_>,
    pid: Option<u32>,
    at: u64,
    len: u64,
    raw: bool,
) -> Result<(), Failure> {
    let process = memory_of(context, pid)?;
    let memory: &dyn VirtualMemory = match &process {
        Some(process) => process,
        None => context.linux.space(),
    };
    print_read(&mut context.output(), context.name, memory, at, len, raw)
}

/// Reads `len` bytes at `at` and prints them.
pub(crate) fn print_read(
    output: &mut Output,
    name: &str,
    memory: &dyn VirtualMemory,
    at: u64,
    len: u64,
    raw: bool,
) -> Result<(), Failure> {
    let bytes = memory.read_vec(VirtAddr::new(at), len, MOST);
    let bytes = bytes.map_err(|why| Failure::Said(format!("{name}: {why}")))?;
    print(output, at, &bytes, raw)
}

/// Bytes of physical memory: no guest has to be known for that.
pub(crate) fn read_physical(question: &Question<'_>, at: u64, len: u64, raw: bool) -> Result<(), Failure> {
    let failed = |why: &dyn Display| Failure::Said(format!("{}: {why}", question.name()));
    let most = usize::try_from(len).ok().filter(|len| *len <= MOST);
    let len = most.ok_or_else(|| failed(&format_args!("{len} bytes are more than the limit of {MOST}")))?;
    let mut bytes = vec![0; len];
    question.target.memory().read(PhysAddr::new(at), &mut bytes).map_err(|why| failed(&why))?;
    print(&mut question.output(), at, &bytes, raw)
}

fn print(output: &mut Output, at: u64, bytes: &[u8], raw: bool) -> Result<(), Failure> {
    if raw {
        output.stream().write_all(bytes)?;
        return Ok(output.stream().flush()?);
    }
    if output.format() != Format::Table {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        return output
            .object(object([("address", address(at)), ("bytes", json!(hex))], &RowErrors::default()));
    }
    let out = output.stream();
    for (index, line) in bytes.chunks(16).enumerate() {
        writeln!(out, "{}", hex_line(at.wrapping_add(index as u64 * 16), line))?;
    }
    Ok(out.flush()?)
}

/// A line like hexdump's: the address, sixteen bytes, and what of them can be shown.
fn hex_line(at: u64, bytes: &[u8]) -> String {
    let mut hex = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        hex.push_str(if index == 8 { "  " } else { " " });
        hex.push_str(&format!("{byte:02x}"));
    }
    let shown: String = bytes
        .iter()
        .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' })
        .collect();
    format!("{at:016x} {hex:<49}  |{shown}|")
}

#[cfg(test)]
mod tests {
    use super::hex_line;

    #[test]
    fn a_line_is_aligned_whatever_its_length() {
        let whole = hex_line(0x10, b"0123456789abcdef");
        let part = hex_line(0x20, b"\x1b\x00z");
        assert_eq!(whole.find('|'), part.find('|'));
        assert!(part.ends_with("|..z|"));
        assert!(whole.len() <= 87);
    }
}
