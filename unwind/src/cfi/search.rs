//! From an address to its FDE: by the sorted table of `.eh_frame_hdr`, or by an index made in one pass.

use alloc::vec::Vec;

use gimli::{
    BaseAddresses, DebugFrame, EhFrame, EhFrameHdr, EndianSlice, LittleEndian, UnwindOffset, UnwindSection,
};

use super::section::{AddressSize, Format, Section};
use super::table::{Bytes, MAX_ENTRY_BYTES, RowError};

/// What linkers write: version 1, pointer pcrel sdata4, count udata4, table datarel sdata4. The table follows 8 bytes on.
const USUAL: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
const TABLE_OFFSET: u64 = 12;

/// How FDEs are found.
pub(super) enum Search {
    /// By the header's own table, in place.
    Header { section: Section, count: usize },
    /// By start address and offset into `.eh_frame`, and the first address that could not be read while it was made.
    Index { entries: Vec<(u64, u64)>, incomplete: Option<u64> },
}

/// The address of `.eh_frame` by its header: the one thing to know before it can be read out of a process' memory, where
/// no section headers are. Any encoding of it is understood.
#[must_use]
pub fn eh_frame_address(eh_frame_hdr: &Section, size: AddressSize) -> Option<u64> {
    if eh_frame_hdr.lacks(0, TABLE_OFFSET).is_some() {
        return None;
    }
    let bases = BaseAddresses::default().set_eh_frame_hdr(eh_frame_hdr.address);
    let header = EhFrameHdr::new(&eh_frame_hdr.bytes, LittleEndian).parse(&bases, size.bytes()).ok()?;
    header.eh_frame_ptr().direct().ok()
}

impl Search {
    pub(super) fn new(
        header: Section,
        frames: &Section,
        bases: &BaseAddresses,
        format: Format,
        size: AddressSize,
    ) -> Self {
        let usual = header.bytes.first_chunk() == Some(&USUAL) && header.lacks(0, TABLE_OFFSET).is_none();
        let count = header.u32_at(TABLE_OFFSET - 4).filter(|count| usual && *count > 0);
        match count {
            Some(count) => Self::Header { section: header, count: count as usize },
            None => match format {
                Format::EhFrame => {
                    let mut section = EhFrame::from(EndianSlice::new(&frames.bytes, LittleEndian));
                    section.set_address_size(size.bytes());
                    index(frames, &section, bases, 0)
                }
                Format::DebugFrame => {
                    let mut section = DebugFrame::from(EndianSlice::new(&frames.bytes, LittleEndian));
                    section.set_address_size(size.bytes());
                    index(frames, &section, bases, u32::MAX)
                }
            },
        }
    }

    /// Where in `.eh_frame` the last FDE lies that starts at or before `address`.
    #[inline]
    pub(super) fn find(&self, address: u64, eh_frame: &Section) -> Result<u64, RowError> {
        match self {
            Self::Header { section, count } => {
                let target = address.wrapping_sub(section.address).cast_signed();
                let table = section.bytes.get(TABLE_OFFSET as usize..).unwrap_or_default();
                let (table, _) = table.as_chunks::<8>();
                let table = table.get(..*count).unwrap_or(table);
                let behind = if section.missing.is_empty() {
                    table.partition_point(|entry| start(entry) <= target)
                } else {
                    search_with_holes(section, table.len(), target)?
                };
                let entry = behind.checked_sub(1).and_then(|last| table.get(last));
                let [_, _, _, _, fde @ ..] = entry.ok_or(RowError::NoFde { address })?;
                let fde = section.address.wrapping_add_signed(i64::from(i32::from_le_bytes(*fde)));
                Ok(fde.wrapping_sub(eh_frame.address))
            }
            Self::Index { entries, incomplete } => {
                let behind = entries.partition_point(|(start, _)| *start <= address);
                let entry = behind.checked_sub(1).and_then(|last| entries.get(last));
                match (entry, incomplete) {
                    (Some((_, offset)), _) => Ok(*offset),
                    (None, Some(missing)) => Err(RowError::NotResident { address: *missing }),
                    (None, None) => Err(RowError::NoFde { address }),
                }
            }
        }
    }

    /// Could all that it searches be read?
    pub(super) const fn is_whole(&self) -> bool {
        match self {
            Self::Header { section, .. } => section.missing.is_empty(),
            Self::Index { incomplete, .. } => incomplete.is_none(),
        }
    }

    /// What it means that no FDE covers `address`: there is none, or it lies in what could not be read.
    pub(super) fn uncovered(&self, address: u64) -> RowError {
        match self {
            Self::Index { incomplete: Some(missing), .. } => RowError::NotResident { address: *missing },
            _ => RowError::NoFde { address },
        }
    }
}

/// The function's start, relative to the header.
#[inline]
fn start(entry: &[u8; 8]) -> i64 {
    let [a, b, c, d, ..] = *entry;
    i64::from(i32::from_le_bytes([a, b, c, d]))
}

/// How many of `count` entries start at or before `target`. No entry in a hole is believed.
fn search_with_holes(section: &Section, count: usize, target: i64) -> Result<usize, RowError> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        let offset = TABLE_OFFSET + 8 * middle as u64;
        if let Some(address) = section.lacks(offset, 8) {
            return Err(RowError::NotResident { address });
        }
        let start = section.u32_at(offset).map_or(i64::MAX, |start| i64::from(start.cast_signed()));
        if start <= target {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// One pass over the section. A malformed entry costs itself, an unreadable length the rest. `cie` marks what is no FDE.
fn index<'t, S: UnwindSection<Bytes<'t>>>(
    eh_frame: &Section,
    section: &S,
    bases: &BaseAddresses,
    cie: u32,
) -> Search {
    let mut entries = Vec::new();
    let mut incomplete = None;
    // A CIE is read again for each FDE; a hostile one may be long.
    let mut budget = 64 * eh_frame.bytes.len() as u64 + MAX_ENTRY_BYTES as u64;
    let mut offset = 0u64;
    while let Some(length) = eh_frame.u32_at(offset) {
        if let Some(address) = eh_frame.lacks(offset, 4) {
            incomplete = Some(address);
            break;
        }
        let length = match length {
            0 => break,
            u32::MAX => eh_frame.u64_at(offset + 4).unwrap_or(u64::MAX).saturating_add(12),
            length => u64::from(length) + 4,
        };
        let start = if eh_frame.u32_at(offset + 4) == Some(cie) && eh_frame.lacks(offset, 8).is_none() {
            Ok(None)
        } else {
            fde_start(eh_frame, section, bases, offset, length, &mut budget)
        };
        match start {
            Ok(Some(start)) => entries.push((start, offset)),
            Ok(None) => {}
            Err(missing) => incomplete = incomplete.or(Some(missing)),
        }
        offset = offset.saturating_add(length);
        if budget == 0 {
            incomplete = Some(eh_frame.address.wrapping_add(offset));
            break;
        }
    }
    entries.sort_unstable();
    Search::Index { entries, incomplete }
}

/// Where the FDE at `offset` starts; nothing if it is none, or covers nothing. Fails with an address that is missing.
fn fde_start<'t, S: UnwindSection<Bytes<'t>>>(
    eh_frame: &Section,
    section: &S,
    bases: &BaseAddresses,
    offset: u64,
    length: u64,
    budget: &mut u64,
) -> Result<Option<u64>, u64> {
    if let Some(missing) = eh_frame.lacks(offset, length) {
        return Err(missing);
    }
    let Ok(at) = usize::try_from(offset) else { return Ok(None) };
    let Ok(partial) = section.partial_fde_from_offset(bases, S::Offset::from(at)) else { return Ok(None) };
    let cie_at: usize = UnwindOffset::into(partial.cie_offset());
    let cie_at = cie_at as u64;
    if let Some(missing) = eh_frame.lacks(cie_at, 4) {
        return Err(missing);
    }
    let cie_length = eh_frame.u32_at(cie_at).map_or(0, u64::from);
    if let Some(missing) = eh_frame.lacks(cie_at, cie_length.saturating_add(4)) {
        return Err(missing);
    }
    *budget = budget.saturating_sub(cie_length);
    if cie_length > MAX_ENTRY_BYTES as u64 {
        return Ok(None);
    }
    let fde = partial.parse(S::cie_from_offset);
    Ok(fde.ok().filter(|fde| fde.len() > 0).map(|fde| fde.initial_address()))
}
