//! `translate` and `read`: addresses and bytes.

use vmc::{AddressSpace, VirtAddr, VirtualMemory};
use vmc_windows::{ProcessMemory, WindowsError};

use super::Context;
use crate::commands::memory::{print_read, show_walk};
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
    let memory: &dyn VirtualMemory = match &process {
        Some(process) => process,
        None => context.windows.kernel(),
    };
    print_read(&mut context.output(), context.question.name(), memory, at, len, raw)
}
