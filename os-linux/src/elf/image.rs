//! [`ElfImage`]: an image, with its parts read when they are first asked for.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use once_cell::race::OnceBox;
use vmc::Limits;
use vmc::symbols::SymbolTable;
use vmc::view::{BuildId, DebugLink};
use vmc_unwind::{NoTable, UnwindTable};

use super::headers::{Headers, Segment};
use super::tables::Further;
use crate::mm::CachedFile;

/// Where an image's bytes are.
#[derive(Debug)]
pub(crate) enum Source<'k, 'm> {
    /// In a file of the page cache.
    File(CachedFile<'k, 'm>),
    /// In a process' memory, copied: the vDSO has no file.
    Bytes(Vec<u8>),
}

impl Source<'_, '_> {
    /// The size of the file.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::File(file) => file.size,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// `len` bytes at `offset`, at most `limit` and not beyond the end; and which of them are missing.
    pub(super) fn read(&self, offset: u64, len: u64, limit: usize) -> Option<(Vec<u8>, Vec<Range<u64>>)> {
        let len = len.min(self.size().checked_sub(offset)?);
        let len = usize::try_from(len).ok().filter(|len| *len <= limit)?;
        match self {
            Self::Bytes(bytes) => {
                let start = usize::try_from(offset).ok()?;
                Some((bytes.get(start..start.checked_add(len)?)?.to_vec(), Vec::new()))
            }
            Self::File(file) => {
                let mut bytes = alloc::vec![0; len];
                let mut missing: Vec<Range<u64>> = Vec::new();
                file.read_with_holes(offset, &mut bytes, |hole| {
                    let hole = hole.start as u64..hole.end as u64;
                    match missing.last_mut() {
                        Some(last) if last.end == hole.start => last.end = hole.end,
                        _ => missing.push(hole),
                    }
                });
                Some((bytes, missing))
            }
        }
    }

    /// The same, only where nothing is missing.
    pub(super) fn read_whole(&self, offset: u64, len: u64, limit: usize) -> Option<Vec<u8>> {
        let (bytes, missing) = self.read(offset, len, limit)?;
        (missing.is_empty() && bytes.len() as u64 == len).then_some(bytes)
    }
}

/// An ELF image.
#[derive(Debug)]
pub(crate) struct ElfImage<'k, 'm> {
    /// The path that it was first met under.
    pub(crate) path: String,
    pub(super) source: Source<'k, 'm>,
    pub(super) headers: Headers,
    pub(super) limits: &'k Limits,
    table: OnceBox<Result<UnwindTable, NoTable>>,
    symbols: OnceBox<SymbolTable>,
    build_id: OnceBox<Option<BuildId>>,
    debug_link: OnceBox<Option<DebugLink>>,
    pub(super) further: Further,
}

impl<'k, 'm> ElfImage<'k, 'm> {
    /// The image in `source`, if it is little-endian ELF and its headers are there.
    pub(crate) fn new(path: String, source: Source<'k, 'm>, limits: &'k Limits) -> Option<Self> {
        let headers = Headers::read(&source, limits)?;
        Some(Self {
            path,
            source,
            headers,
            limits,
            table: OnceBox::new(),
            symbols: OnceBox::new(),
            build_id: OnceBox::new(),
            debug_link: OnceBox::new(),
            further: Further::default(),
        })
    }

    /// What is to be added, wrapping, to a link-time address, where the bytes from `offset` of the file on are mapped at
    /// `start`.
    pub(crate) fn bias(&self, start: u64, offset: u64, executable: bool) -> Option<u64> {
        // Two segments may share a page of the file; of these the one with the mapping's rights is meant.
        let covers = |segment: &&Segment| segment.file_pages().contains(&offset);
        let segments = || self.headers.segments.iter().filter(covers);
        let segment =
            segments().find(|segment| segment.executable == executable).or_else(|| segments().next())?;
        let link = (segment.address & !0xfff).wrapping_add(offset - segment.file_pages().start);
        Some(start.wrapping_sub(link))
    }

    /// The lowest address, and the size of the whole in memory.
    pub(crate) fn extent(&self) -> (u64, u64) {
        let segments = &self.headers.segments;
        let start = segments.iter().map(|segment| segment.address & !0xfff).min().unwrap_or(0);
        let ends = segments.iter().map(|segment| segment.address.saturating_add(segment.memory_size));
        let end = ends.max().unwrap_or(0).checked_next_multiple_of(4096).unwrap_or(u64::MAX);
        (start, end.saturating_sub(start))
    }

    /// `len` bytes at a link-time address, as the file has them; and which of them are missing.
    pub(super) fn read_at(&self, address: u64, len: u64, limit: usize) -> Option<(Vec<u8>, Vec<Range<u64>>)> {
        let segment = self.headers.segment_at(address)?;
        let into = address - segment.address;
        let len = len.min(segment.file_size - into);
        self.source.read(segment.offset.checked_add(into)?, len, limit)
    }

    /// What describes how to unwind its code.
    pub(crate) fn table(&self) -> Result<&UnwindTable, NoTable> {
        self.table.get_or_init(|| Box::new(self.read_table())).as_ref().map_err(|why| *why)
    }

    /// Its symbols: `.symtab` where the page cache has it, else what is left.
    pub(crate) fn symbols(&self) -> &SymbolTable {
        self.symbols.get_or_init(|| Box::new(self.read_symbols()))
    }

    /// Its build-id.
    pub(crate) fn build_id(&self) -> Option<&BuildId> {
        self.build_id.get_or_init(|| Box::new(self.read_build_id())).as_ref()
    }

    /// The debug file that it names.
    pub(crate) fn debug_link(&self) -> Option<&DebugLink> {
        self.debug_link.get_or_init(|| Box::new(self.read_debug_link())).as_ref()
    }
}
