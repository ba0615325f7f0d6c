//! [`UnwindTable`]: the call frame information of one ELF image.

use alloc::boxed::Box;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};

use gimli::{
    BaseAddresses, DebugFrame, EhFrame, EndianSlice, LittleEndian, UnwindContext, UnwindOffset,
    UnwindSection, Vendor,
};

use super::compact::{Unfinished, from_row};
use super::quick::quick_rule;
use super::row::{ExpressionAt, Row};
use super::search::Search;
use super::section::{AddressSize, Format, Section, Sections};

/// Bytes of one CIE or FDE.
pub(crate) const MAX_ENTRY_BYTES: usize = vmc::Limits::DEFAULT.unwind_entry_bytes;

/// Why there is no row for an address. All addresses are link-time ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// No FDE covers it.
    #[error("{address:#x}: no FDE covers it")]
    NoFde {
        /// The address that was looked up.
        address: u64,
    },
    /// Its FDE, or what leads to it, lies in memory that is not to be had.
    #[error("the unwind information at {address:#x} is not resident")]
    NotResident {
        /// The first byte that is missing.
        address: u64,
    },
    /// Its FDE is there but makes no sense.
    #[error("{address:#x}: its FDE is malformed: {reason}")]
    Malformed {
        /// The address that was looked up.
        address: u64,
        /// What is wrong.
        reason: gimli::Error,
    },
}

impl RowError {
    /// Is the code itself all that is left to go by? None describes it, or by an instruction that came after gimli (on aarch64
    /// those for signatures over program counters).
    pub(crate) const fn leaves_the_code(&self) -> bool {
        matches!(
            self,
            Self::NoFde { .. } | Self::Malformed { reason: gimli::Error::UnknownCallFrameInstruction(_), .. }
        )
    }
}

/// Room for evaluating rows. gimli moves whole rows about, so a row is kept small: x86_64 has 17 columns that matter,
/// aarch64 33, and no compiler writes rules for more than a few others.
pub(crate) struct Storage;

impl gimli::UnwindContextStorage<usize> for Storage {
    type Rules = [(gimli::Register, gimli::RegisterRule<usize>); 40];
    type Stack = Box<[gimli::UnwindTableRow<usize, Self>; 8]>;
}

/// A row as gimli evaluates it.
pub(crate) type RawRow = gimli::UnwindTableRow<usize, Storage>;

/// Memory that evaluating rows needs, kept from one row to the next.
pub struct Scratch {
    context: UnwindContext<usize, Storage>,
    /// How many bytes of CIEs and FDEs were evaluated: what a hostile section could waste time with.
    pub(crate) spent: usize,
}

impl Scratch {
    /// A fresh one.
    #[must_use]
    pub fn new() -> Self {
        Self { context: UnwindContext::new_in(), spent: 0 }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("spent", &self.spent).finish_non_exhaustive()
    }
}

/// What a table says about an address: a rule that can be cached, or a row that cannot.
#[expect(clippy::large_enum_variant, reason = "it lives for one step; a box would cost an allocation")]
pub(crate) enum Described<R> {
    Rule(R),
    Row(Row),
}

/// The call frame information of one ELF image, in link-time addresses.
///
/// It has a number of its own, by which caches tell tables apart.
pub struct UnwindTable {
    id: u32,
    format: Format,
    address_size: AddressSize,
    /// `.eh_frame`, or `.debug_frame` where there is none.
    frames: Section,
    search: Search,
    bases: BaseAddresses,
}

static NEXT_ID: AtomicU32 = AtomicU32::new(1);

pub(super) type Bytes<'t> = EndianSlice<'t, LittleEndian>;
pub(super) type Fde<'t> = gimli::FrameDescriptionEntry<Bytes<'t>>;

impl UnwindTable {
    /// The table of these sections. Where the header is empty or unusual, `.eh_frame` is indexed in one pass; where that is
    /// empty, `.debug_frame` is.
    #[must_use]
    pub fn new(sections: Sections) -> Self {
        let Sections { mut eh_frame_hdr, eh_frame, debug_frame, text, address_size } = sections;
        let (format, mut frames) = if eh_frame.bytes.is_empty() && !debug_frame.bytes.is_empty() {
            eh_frame_hdr = Section::default();
            (Format::DebugFrame, debug_frame)
        } else {
            (Format::EhFrame, eh_frame)
        };
        eh_frame_hdr.normalise();
        frames.normalise();
        let mut bases =
            BaseAddresses::default().set_eh_frame_hdr(eh_frame_hdr.address).set_eh_frame(frames.address);
        if let Some(text) = text {
            bases = bases.set_text(text);
        }
        let search = Search::new(eh_frame_hdr, &frames, &bases, format, address_size);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self { id, format, address_size, frames, search, bases }
    }

    /// Its number: no two tables made in this process share one.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// How long its addresses are.
    #[must_use]
    pub const fn address_size(&self) -> AddressSize {
        self.address_size
    }

    /// The section that its entries lie in: `.eh_frame`, or `.debug_frame` where there is none.
    #[must_use]
    pub const fn frames(&self) -> &Section {
        &self.frames
    }

    /// The bytes of an expression that a [`Row`] refers to.
    #[must_use]
    pub fn expression(&self, at: ExpressionAt) -> Option<&[u8]> {
        let start = at.offset as usize;
        self.frames.bytes.get(start..start.checked_add(at.length as usize)?)
    }

    /// The rules for `address`.
    ///
    /// # Errors
    /// [`RowError`]: none covers it, it could not be read, or it makes no sense.
    pub fn row_for(&self, address: u64, scratch: &mut Scratch) -> Result<Row, RowError> {
        match self.format {
            Format::EhFrame => self.row_in(&self.eh_section(self.address_size), address, scratch),
            Format::DebugFrame => self.row_in(&self.debug_section(self.address_size), address, scratch),
        }
    }

    fn row_in<'t, S: UnwindSection<Bytes<'t>>>(
        &self,
        section: &S,
        address: u64,
        scratch: &mut Scratch,
    ) -> Result<Row, RowError> {
        let fde = self.fde_for(section, address, scratch)?;
        full_row(&fde, self.raw_row(section, &fde, address, scratch)?).ok_or(too_large(address))
    }

    /// The same as [`function_at`](Self::function_at), for those who choose among tables: nothing is evaluated.
    #[must_use]
    pub fn covering(&self, address: u64) -> Option<Range<u64>> {
        match self.format {
            Format::EhFrame => {
                self.fde_at(&self.eh_section(self.address_size), address).ok().map(|fde| range_of(&fde))
            }
            Format::DebugFrame => {
                self.fde_at(&self.debug_section(self.address_size), address).ok().map(|fde| range_of(&fde))
            }
        }
    }

    /// Could all of its section be read?
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.frames.missing.is_empty() && self.search.is_whole()
    }

    /// The function (what one FDE covers) that `address` lies in; nothing where none does, or it cannot be read.
    #[must_use]
    pub fn function_at(&self, address: u64, scratch: &mut Scratch) -> Option<Range<u64>> {
        let fde = match self.format {
            Format::EhFrame => self.fde_for(&self.eh_section(self.address_size), address, scratch),
            Format::DebugFrame => {
                let section = self.debug_section(self.address_size);
                return self.fde_for(&section, address, scratch).ok().map(|fde| range_of(&fde));
            }
        };
        fde.ok().map(|fde| range_of(&fde))
    }

    /// The rules for `address` of a 64-bit image, in the form that is cached if they fit in it.
    #[inline]
    pub(crate) fn describe<U: Unfinished>(
        &self,
        address: u64,
        scratch: &mut Scratch,
    ) -> Result<Described<U::Rule>, RowError> {
        // A constant: what parses addresses is compiled for it.
        match self.format {
            Format::EhFrame => {
                self.describe_in::<U, _>(&self.eh_section(AddressSize::Eight), address, scratch)
            }
            Format::DebugFrame => {
                self.describe_in::<U, _>(&self.debug_section(AddressSize::Eight), address, scratch)
            }
        }
    }

    fn describe_in<'t, U: Unfinished, S: UnwindSection<Bytes<'t>>>(
        &self,
        section: &S,
        address: u64,
        scratch: &mut Scratch,
    ) -> Result<Described<U::Rule>, RowError> {
        let fde = self.fde_for(section, address, scratch)?;
        if let Some(rule) = quick_rule::<U, S>(&fde, section, &self.bases, address) {
            return Ok(Described::Rule(rule));
        }
        let row = self.raw_row(section, &fde, address, scratch)?;
        match from_row::<U>(row, fde.cie().return_address_register()) {
            Some(rule) if !fde.is_signal_trampoline() => Ok(Described::Rule(rule)),
            _ => full_row(&fde, row).map(Described::Row).ok_or(too_large(address)),
        }
    }

    fn eh_section(&self, size: AddressSize) -> EhFrame<Bytes<'_>> {
        let mut section = EhFrame::from(EndianSlice::new(&self.frames.bytes, LittleEndian));
        section.set_address_size(size.bytes());
        // One more instruction, which has no meaning on the other architectures.
        section.set_vendor(Vendor::AArch64);
        section
    }

    fn debug_section(&self, size: AddressSize) -> DebugFrame<Bytes<'_>> {
        let mut section = DebugFrame::from(EndianSlice::new(&self.frames.bytes, LittleEndian));
        section.set_address_size(size.bytes());
        // One more instruction, which has no meaning on the other architectures.
        section.set_vendor(Vendor::AArch64);
        section
    }

    /// The FDE that covers `address`, with its CIE: both resident and of bearable length.
    #[inline]
    fn fde_for<'t, S: UnwindSection<Bytes<'t>>>(
        &self,
        section: &S,
        address: u64,
        scratch: &mut Scratch,
    ) -> Result<Fde<'t>, RowError> {
        let fde = self.fde_at(section, address)?;
        let bytes = fde.entry_len().saturating_add(fde.cie().entry_len());
        scratch.spent = scratch.spent.saturating_add(bytes);
        if bytes > MAX_ENTRY_BYTES { Err(too_large(address)) } else { Ok(fde) }
    }

    #[inline]
    fn fde_at<'t, S: UnwindSection<Bytes<'t>>>(
        &self,
        section: &S,
        address: u64,
    ) -> Result<Fde<'t>, RowError> {
        let malformed = |reason| RowError::Malformed { address, reason };
        let offset = self.search.find(address, &self.frames)?;
        self.check_resident(offset, address)?;
        let at = usize::try_from(offset).map_err(|_| malformed(gimli::Error::OffsetOutOfBounds(offset)))?;
        let partial = section.partial_fde_from_offset(&self.bases, S::Offset::from(at)).map_err(malformed)?;
        let cie: usize = UnwindOffset::into(partial.cie_offset());
        self.check_resident(cie as u64, address)?;
        // Nothing counts what looking for a table costs: a CIE is not even read where it is too long.
        if self.frames.entry_len(cie as u64).is_none_or(|len| len > MAX_ENTRY_BYTES as u64) {
            return Err(too_large(address));
        }
        let fde = partial.parse(S::cie_from_offset).map_err(malformed)?;
        if !fde.contains(address) {
            return Err(self.search.uncovered(address));
        }
        Ok(fde)
    }

    fn raw_row<'s, 't, S: UnwindSection<Bytes<'t>>>(
        &self,
        section: &S,
        fde: &Fde<'t>,
        address: u64,
        scratch: &'s mut Scratch,
    ) -> Result<&'s RawRow, RowError> {
        let row = fde.unwind_info_for_address(section, &self.bases, &mut scratch.context, address);
        row.map_err(|reason| match reason {
            gimli::Error::NoUnwindInfoForAddress => RowError::NoFde { address },
            reason => RowError::Malformed { address, reason },
        })
    }

    /// Is the whole entry at `offset` there?
    #[inline]
    fn check_resident(&self, offset: u64, address: u64) -> Result<(), RowError> {
        if self.frames.missing.is_empty() { Ok(()) } else { self.check_holes(offset, address) }
    }

    fn check_holes(&self, offset: u64, address: u64) -> Result<(), RowError> {
        let check = |len| match self.frames.lacks(offset, len) {
            Some(address) => Err(RowError::NotResident { address }),
            None => Ok(()),
        };
        check(4)?;
        let outside = RowError::Malformed { address, reason: gimli::Error::OffsetOutOfBounds(offset) };
        match self.frames.u32_at(offset).ok_or(outside)? {
            u32::MAX => {
                check(12)?;
                check(self.frames.u64_at(offset.saturating_add(4)).ok_or(outside)?.saturating_add(12))
            }
            length => check(u64::from(length) + 4),
        }
    }
}

fn range_of(fde: &Fde<'_>) -> Range<u64> {
    fde.initial_address()..fde.end_address()
}

fn full_row(fde: &Fde<'_>, row: &RawRow) -> Option<Row> {
    Row::new(row, range_of(fde), fde.cie().return_address_register(), fde.is_signal_trampoline())
}

const fn too_large(address: u64) -> RowError {
    RowError::Malformed { address, reason: gimli::Error::UnsupportedOffset }
}

impl fmt::Debug for UnwindTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let search = match &self.search {
            Search::Header { count, .. } => ("header", *count),
            Search::Index { entries, .. } => ("index", entries.len()),
        };
        let mut debug = f.debug_struct("UnwindTable");
        debug
            .field("id", &self.id)
            .field("frames", &self.frames)
            .field("search", &search)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
