//! Paging files: which of them is the store of compressed pages.

use vmc::ReadExt;
use vmc::layout::Types;

use crate::windows::Windows;

/// Paging files that an entry's four bits can name.
const FILES: u64 = 16;

/// Is the paging file `number` the one behind which the store of compressed pages hides? False where nothing tells it.
pub(super) fn in_store(windows: &Windows<'_>, number: u64) -> bool {
    look(windows, number).unwrap_or(false)
}

/// By the flag `VirtualStorePagefile` of the file's structure, in the table of the system's partition (before those: `MmPagingFile`).
fn look(windows: &Windows<'_>, number: u64) -> Option<bool> {
    let (types, kernel) = (windows.types(), windows.kernel());
    if number >= FILES {
        return None;
    }
    let in_partition = || {
        let partition = windows.symbol("MiSystemPartition").ok()?;
        let paths = ["Vp.PagingFile", "PagingFile", "Modwriter.PagingFile"];
        let table = paths.iter().find_map(|path| types.member("_MI_PARTITION", path).ok())?;
        (number * 8 < table.size).then(|| partition.wrapping_add(table.offset))
    };
    let table = in_partition().or_else(|| windows.symbol("MmPagingFile").ok())?;
    let file = kernel.read_pointer(table.wrapping_add(number * 8)).ok()?;
    let layout = types.layout("_MMPAGING_FILE", windows.limits()).ok()?;
    let member = layout.members.iter().find(|member| member.name == "VirtualStorePagefile")?;
    // The word that the flag stands in, as far as a byte's start.
    let (byte, bit) = (member.bit_offset / 8, member.bit_offset % 8);
    let value: u8 = kernel.read_value(file.wrapping_add(byte)).ok()?;
    (!file.is_null()).then_some(value >> bit & 1 == 1)
}
