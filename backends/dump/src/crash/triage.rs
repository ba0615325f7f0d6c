//! Triage dumps ("small memory dumps"): no physical memory, but what leads to the crash, in ranges of kernel memory.
//!
//! Source: `TRIAGE_DUMP64` as ghidra's and rizin's readers describe it. It follows the header; offsets are those in the file:
//!
//! | at | what |
//! |---|---|
//! | 0x0, 0x4, 0x8 | ServicePackBuild, SizeOfDump, ValidOffset (there lies `TRGD` where the dump is complete) |
//! | 0x14, 0x18 | Mm, UnloadedDrivers |
//! | 0x1c, 0x20, 0x24 | Prcb, Process, Thread: the kernel's structures, as they were |
//! | 0x28, 0x2c | CallStack, SizeOfCallStack |
//! | 0x30, 0x34 | DriverList, DriverCount |
//! | 0x38, 0x3c, 0x40 | StringPool, StringPoolSize, BrokenDriver |
//! | 0x48 | TopOfStack: where the call stack lay |
//! | 0x60, 0x68, 0x6c | DataPageAddress, DataPageOffset, DataPageSize |
//! | 0x70, 0x74 | DebuggerDataOffset, DebuggerDataSize |
//! | 0x78, 0x7c | DataBlocksOffset, DataBlocksCount: blocks of an address, an offset and a size |
//!
//! What of that there is tell the header's `MiniDumpFields`.

use std::ops::Range;

use vmc::bytes::{u32_at, u64_at};
use vmc::{PhysAddr, VirtAddr};

use super::drivers;
use super::facts::{CrashFacts, TriageFacts, TriagePart};
use super::header::{Header, SIZE};
use super::{memory, text};
use crate::segments::{Segment, Segments};

/// The size of `TRIAGE_DUMP64`, as far as it is read.
const TRIAGE_SIZE: usize = 0x80;
/// Real dumps list some thousand.
const MOST_BLOCKS: usize = 1 << 20;

// `TRIAGE_DUMP_…` of MiniDumpFields.
const PRCB: u32 = 0x4;
const PROCESS: u32 = 0x8;
const THREAD: u32 = 0x10;
const STACK: u32 = 0x20;
const DRIVER_LIST: u32 = 0x40;
const BROKEN_DRIVER: u32 = 0x80;
const DATA_PAGE: u32 = 0x200;
const DEBUGGER_DATA: u32 = 0x400;
const DATA_BLOCKS: u32 = 0x800;

/// What a triage dump says.
#[derive(Debug)]
pub(crate) struct Triage {
    pub(crate) facts: TriageFacts,
    /// By virtual address.
    pub(crate) ranges: Segments,
}

/// `TRIAGE_DUMP64`, and which of its fields count.
struct Fields<'f> {
    file: &'f [u8],
    present: u32,
}

impl Fields<'_> {
    fn half(&self, at: usize) -> u32 {
        u32_at(self.file, SIZE + at).unwrap_or_default()
    }

    fn offset(&self, at: usize) -> usize {
        usize::try_from(self.half(at)).unwrap_or(usize::MAX)
    }

    fn address(&self, at: usize) -> u64 {
        u64_at(self.file, SIZE + at).unwrap_or_default()
    }

    const fn has(&self, part: u32) -> bool {
        self.present & part != 0
    }

    /// Where the part ends that begins at `start` and says no size: where the next thing begins.
    fn end_of(&self, start: usize) -> usize {
        let offsets = [0x8, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x30, 0x38, 0x68, 0x70, 0x78];
        let behind = offsets.iter().map(|at| self.offset(*at)).filter(|offset| *offset > start);
        behind.min().unwrap_or(usize::MAX).min(self.file.len())
    }
}

/// Reads what follows the header of a triage dump.
pub(crate) fn parse(
    header: &Header<'_>,
    crash: &CrashFacts,
    warnings: &mut Vec<String>,
) -> Result<Triage, String> {
    let file = header.file;
    if file.len() < SIZE + TRIAGE_SIZE {
        return Err("its triage header is cut off".to_owned());
    }
    let fields = Fields { file, present: header.mini_dump_fields().unwrap_or(u32::MAX) };
    complete(&fields, warnings);
    let mut ranges = Vec::new();
    let mut add = |what: &str, start: u64, offset: u32, len: u64, warnings: &mut Vec<String>| {
        if start.checked_add(len).is_none() {
            warnings.push(format!(
                "{what} of {len:#x} bytes at {start:#x} passes the end of memory: it is left out"
            ));
        } else if len > 0 {
            ranges.push(Segment::whole(PhysAddr::new(start), len, offset.into()));
        }
    };
    let (data_blocks, data_block_bytes) = data_blocks(&fields, warnings, &mut add);
    let mut stack = (None, 0);
    if fields.has(STACK) && fields.half(0x2c) > 0 {
        let (top, len) = (fields.address(0x48), fields.half(0x2c).into());
        stack = (Some(VirtAddr::new(top)), len);
        add("a call stack", top, fields.half(0x28), len, warnings);
    }
    if fields.has(DATA_PAGE) {
        add("a data page", fields.address(0x60), fields.half(0x68), fields.half(0x6c).into(), warnings);
    }
    if let Some(address) = crash.debugger_data.filter(|_| fields.has(DEBUGGER_DATA)) {
        add("debugger data", address.get(), fields.half(0x70), fields.half(0x74).into(), warnings);
    }
    let parts = parts(&fields);
    let blocks = Segments::new(ranges.clone(), file.len() as u64);
    let [process, thread] =
        [TriagePart::Process, TriagePart::Thread].map(|part| object(file, &parts, part, &blocks));
    for (address, range) in [&process, &thread].into_iter().flatten() {
        let (start, len) = (PhysAddr::new(address.get()), range.len() as u64);
        ranges.push(Segment::whole(start, len, range.start as u64));
    }
    let with_objects = Segments::new(ranges, file.len() as u64);
    let (pool, pool_len) = (fields.offset(0x38), fields.offset(0x3c));
    let broken = fields.offset(0x40);
    let in_pool = broken >= pool && broken < pool.saturating_add(pool_len);
    let list = drivers::List { file, start: fields.offset(0x30), count: fields.half(0x34), pool };
    let facts = TriageFacts {
        service_pack_build: fields.half(0),
        top_of_stack: stack.0,
        stack_bytes: stack.1,
        drivers: if fields.has(DRIVER_LIST) { drivers::loaded(&list, warnings) } else { Vec::new() },
        unloaded_drivers: drivers::unloaded(file, fields.offset(0x18), warnings),
        broken_driver: (fields.has(BROKEN_DRIVER) && in_pool)
            .then(|| text::dump_string(file, broken))
            .flatten()
            .filter(|name| !name.is_empty()),
        data_blocks,
        data_block_bytes,
        process: process.map(|(address, _)| address),
        thread: thread.map(|(address, _)| address),
        parts,
    };
    Ok(Triage { facts, ranges: with_objects })
}

/// Warns of a dump that was not written to its end, or cut.
fn complete(fields: &Fields<'_>, warnings: &mut Vec<String>) {
    let (len, stated) = (fields.file.len() as u64, u64::from(fields.half(0x4)));
    if stated > len {
        warnings.push(format!("the image is cut short: the dump has {stated} bytes, the file {len}"));
    } else if fields.file.get(fields.offset(0x8)..).is_none_or(|rest| !rest.starts_with(b"TRGD")) {
        warnings.push(
            "the triage dump lacks its end mark (TRGD): it may not have been written to its end".to_owned(),
        );
    }
}

/// Hands out the blocks of memory; says how many there are and how many bytes they have.
fn data_blocks(
    fields: &Fields<'_>,
    warnings: &mut Vec<String>,
    add: &mut impl FnMut(&str, u64, u32, u64, &mut Vec<String>),
) -> (usize, u64) {
    if !fields.has(DATA_BLOCKS) {
        return (0, 0);
    }
    let stated = fields.offset(0x7c);
    let table = fields.file.get(fields.offset(0x78)..).unwrap_or_default();
    let (mut count, mut bytes) = (0, 0u64);
    let mut wrapped = 0;
    for block in table.chunks_exact(16).take(stated.min(MOST_BLOCKS)) {
        let (Some(start), Some(offset), Some(len)) = (u64_at(block, 0), u32_at(block, 8), u32_at(block, 12))
        else {
            break;
        };
        count += 1;
        if start.checked_add(len.into()).is_none() {
            wrapped += 1;
            continue;
        }
        bytes = bytes.saturating_add(len.into());
        add("a block", start, offset, len.into(), warnings);
    }
    if wrapped > 0 {
        warnings.push(format!("blocks that pass the end of memory are left out: {wrapped}"));
    }
    if count < stated {
        warnings
            .push(format!("of the {stated} blocks of memory that the dump counts {count} are listed in it"));
    }
    (count, bytes)
}

/// Where in memory a saved process or thread lay, which the dump does not say: both begin with a `DISPATCHER_HEADER` (`wdm.h`), at 8 in it the
/// list of who waits for it. An empty list leads to itself. It counts only where a block of memory has the same beginning there.
fn object(
    file: &[u8],
    parts: &[(TriagePart, Range<usize>)],
    part: TriagePart,
    blocks: &Segments,
) -> Option<(VirtAddr, Range<usize>)> {
    let (_, range) = parts.iter().find(|(kind, _)| *kind == part)?;
    let header = file.get(range.clone())?.get(..0x18)?;
    let (next, last) = (u64_at(header, 8)?, u64_at(header, 0x10)?);
    let address = next.checked_sub(8).filter(|address| next == last && address % 8 == 0)?;
    address.checked_add(range.len() as u64)?;
    let mut seen = [0; 0x18];
    memory::read(blocks, file, VirtAddr::new(address), &mut seen).ok()?;
    (seen == header).then(|| (VirtAddr::new(address), range.clone()))
}

/// Where the kernel's structures lie.
fn parts(fields: &Fields<'_>) -> Vec<(TriagePart, Range<usize>)> {
    let sized = |at: usize, size: usize| {
        let start = fields.offset(at);
        start..start.saturating_add(size)
    };
    let unsized_at = |at: usize| fields.offset(at)..fields.end_of(fields.offset(at));
    let all = [
        (PRCB, TriagePart::Prcb, unsized_at(0x1c)),
        (PROCESS, TriagePart::Process, unsized_at(0x20)),
        (THREAD, TriagePart::Thread, unsized_at(0x24)),
        (STACK, TriagePart::CallStack, sized(0x28, fields.offset(0x2c))),
        (DEBUGGER_DATA, TriagePart::DebuggerData, sized(0x70, fields.offset(0x74))),
    ];
    let there = |part: &Range<usize>| {
        part.start >= SIZE && fields.file.get(part.clone()).is_some_and(|part| !part.is_empty())
    };
    let parts = all.into_iter().filter(|(flag, _, range)| fields.has(*flag) && there(range));
    parts.map(|(_, part, range)| (part, range)).collect()
}
