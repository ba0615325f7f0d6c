//! The lists of drivers in triage dumps.
//!
//! Source: `DUMP_DRIVER_ENTRY64` and `DUMP_UNLOADED_DRIVERS64` as ghidra's and rizin's readers describe them. A driver has the place of its
//! name in the file, then at 8 a `KLDR_DATA_TABLE_ENTRY64`: DllBase at 0x30 of that, SizeOfImage at 0x40, CheckSum at 0x78, TimeDateStamp at
//! 0x80. Unloaded ones are counted by a word; each is a `UNICODE_STRING64` that leads nowhere, 12 UTF-16 units, a start and an end.

use vmc::VirtAddr;
use vmc::bytes::{u32_at, u64_at};

use super::facts::{CrashDriver, UnloadedDriver};
use super::header::SIZE;
use super::text;

/// A driver's entry in all builds that were seen, and the largest that is believed.
const ENTRY: usize = 0x90;
const LARGEST_ENTRY: usize = 0x200;
/// Machines have some hundred drivers; the kernel remembers 50 unloaded ones.
const MOST_DRIVERS: usize = 8192;
const MOST_UNLOADED: usize = 256;
const UNLOADED: usize = 0x38;

/// Where the list of loaded drivers lies.
pub(crate) struct List<'f> {
    pub(crate) file: &'f [u8],
    pub(crate) start: usize,
    pub(crate) count: u32,
    /// Where the names begin: behind the list.
    pub(crate) pool: usize,
}

impl List<'_> {
    /// The size of an entry: the names follow the list, so that its size divided by their count says it.
    fn entry(&self) -> usize {
        let count = self.count as usize;
        let gap = self.pool.checked_sub(self.start).filter(|gap| count > 0 && gap % count == 0);
        let size = gap.map(|gap| gap / count);
        size.filter(|size| (ENTRY..=LARGEST_ENTRY).contains(size) && size % 8 == 0).unwrap_or(ENTRY)
    }
}

/// The loaded drivers.
pub(crate) fn loaded(list: &List<'_>, warnings: &mut Vec<String>) -> Vec<CrashDriver> {
    let bytes = list.file.get(list.start..).filter(|_| list.start >= SIZE).unwrap_or_default();
    let entries = bytes.chunks_exact(list.entry()).take((list.count as usize).min(MOST_DRIVERS));
    let drivers = entries.filter_map(|entry| {
        let name = usize::try_from(u32_at(entry, 0)?).ok()?;
        Some(CrashDriver {
            name: text::dump_string(list.file, name).unwrap_or_default(),
            base: VirtAddr::new(u64_at(entry, 8 + 0x30)?),
            size: u32_at(entry, 8 + 0x40)?,
            checksum: u32_at(entry, 8 + 0x78)?,
            timestamp: u32_at(entry, 8 + 0x80)?,
        })
    });
    let drivers: Vec<_> = drivers.collect();
    if drivers.len() < list.count as usize {
        warnings.push(format!(
            "of the {} drivers that the dump counts {} are listed in it",
            list.count,
            drivers.len()
        ));
    }
    drivers
}

/// The drivers that were unloaded.
pub(crate) fn unloaded(file: &[u8], start: usize, warnings: &mut Vec<String>) -> Vec<UnloadedDriver> {
    let Some(count) = u64_at(file, start).filter(|_| start >= SIZE) else { return Vec::new() };
    let bytes = file.get(start.saturating_add(8)..).unwrap_or_default();
    let most = usize::try_from(count).unwrap_or(usize::MAX).min(MOST_UNLOADED);
    let drivers = bytes.chunks_exact(UNLOADED).take(most).filter_map(|entry| {
        Some(UnloadedDriver {
            name: text::utf16(entry.get(0x10..0x28)?),
            start: VirtAddr::new(u64_at(entry, 0x28)?),
            end: VirtAddr::new(u64_at(entry, 0x30)?),
        })
    });
    let drivers: Vec<_> = drivers.collect();
    if (drivers.len() as u64) < count {
        warnings.push(format!(
            "of the {count} unloaded drivers that the dump counts {} are listed in it",
            drivers.len()
        ));
    }
    drivers
}
