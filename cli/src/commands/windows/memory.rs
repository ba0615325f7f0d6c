//! `translate` and `read`: addresses and bytes.

use vmc::{AddressSpace, ReadExt, VirtAddr};
use vmc_windows::{ProcessMemory, WindowsError};

use super::Context;
use crate::commands::memory::{MOST, print, show_walk};
use crate::failure::Failure;

/// The memory of process `pid`, if one was named.
fn memory_of<'a>(context: &Context<'a>, pid: Option<u32>) -> Result<Option<ProcessMemory<'a, 'a>>, Failure> {
    let Some(pid) = pid else { return Ok(None) };
    context.process(pid)?.memory().map(Some).map_err(|why| context.failed(&why))
}

pub(super) fn translate(context: &Context<'_>, pid: Option<u32>, virt: u64) -> Result<(), Failure> {
    let process = memory_of(context, pid)?;
    let space: Option<&AddressSpace<'_>> = match &process {
        Some(process) => Some(process.space()),
        None => context.windows.kernel().tables(),
    };
    let space = space.ok_or_else(|| context.failed(&WindowsError::OnlyRanges { what: "a page table" }))?;
    show_walk(&mut context.output(), context.question.name(), virt, space.walk(VirtAddr::new(virt)))
}

pub(super) fn read(
    context: &Context<'_>,
    pid: Option<u32>,
    at: u64,
    len: u64,
    raw: bool,
) -> Result<(), Failure> {
    let process = memory_of(context, pid)?;
    let start = VirtAddr::new(at);
    let bytes = match &process {
        Some(process) => process.read_vec(start, len, MOST),
        None => context.windows.kernel().read_vec(start, len, MOST),
    };
    let bytes = bytes.map_err(|why| Failure::Said(format!("{}: {why}", context.question.name())))?;
    print(&mut context.output(), at, &bytes, raw)
}
