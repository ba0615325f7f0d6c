//! A census of page tables: each entry that leads to a table has to lead to one.
//!
//! Source: Intel's Software Developer's Manual, volume 3, chapter 4; for the size of aarch64's upper half `TCR_EL1` in the Arm
//! Architecture Reference Manual.

use std::collections::{HashSet, VecDeque};

use vmc::arch::aarch64::{self, Aarch64PageTables, Granule, Half};
use vmc::arch::x86_64::X86PageTables;
use vmc::{PhysAddr, PhysMemory, Region};

use super::VerifyError;
use crate::layout::Layout;

/// As many tables as are looked at: 2 MiB, read once.
const MOST: usize = 512;

const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
/// Write-through, no cache, and the third bit of the memory type in entries of large pages: all clear for RAM.
const NOT_PLAIN: u64 = 1 << 3 | 1 << 4 | 1 << 12;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Physical addresses of processors that there are have at most 52 bits, those of virtual machines' devices fewer.
const HIGHEST: u64 = 1 << 50;

/// What a table was.
enum Kind {
    Table,
    /// Without an entry at a high level: Linux has such ready for what it maps later (`preallocate_vmalloc_pages()`).
    Ready,
    /// Without an entry: a table may be so, most are not.
    Blank,
    No,
}

/// The page tables of all vCPUs.
#[derive(Debug)]
pub(super) struct Census<'l> {
    layout: &'l Layout,
    /// Tables that are still to be looked at: those that a wrong cut would have displaced come first.
    open: VecDeque<(PhysAddr, u8)>,
    seen: HashSet<PhysAddr>,
    roots: HashSet<PhysAddr>,
    ram: Ram,
}

/// What large pages of the upper half map as RAM.
#[derive(Debug, Default)]
struct Ram {
    inside: u64,
    outside: u64,
    example: Option<PhysAddr>,
}

impl<'l> Census<'l> {
    pub(super) fn new(layout: &'l Layout) -> Self {
        Self {
            layout,
            open: VecDeque::new(),
            seen: HashSet::new(),
            roots: HashSet::new(),
            ram: Ram::default(),
        }
    }

    pub(super) fn add(&mut self, tables: X86PageTables) {
        self.roots.insert(tables.root());
        self.queue(tables.root(), tables.levels().count());
    }

    fn queue(&mut self, table: PhysAddr, level: u8) {
        if !self.seen.insert(table) {
            return;
        }
        let piece = self.piece(table).and_then(|piece| self.layout.pieces.get(piece));
        if piece.is_some_and(|piece| super::is_displaced(self.layout, piece)) {
            self.open.push_front((table, level));
        } else {
            self.open.push_back((table, level));
        }
    }

    /// The piece that has the address.
    fn piece(&self, at: PhysAddr) -> Option<usize> {
        let pieces = &self.layout.pieces;
        pieces.iter().position(|piece| Region { start: piece.guest, len: piece.len }.contains(at))
    }

    /// Looks at the tables; `pieces` says of which pieces there were any.
    pub(super) fn take(
        mut self,
        memory: &dyn PhysMemory,
        pieces: &mut [bool],
    ) -> Result<Option<String>, VerifyError> {
        let mut counts = vec![(0usize, 0usize, 0usize); pieces.len()];
        let mut good = 0usize;
        for _ in 0..MOST {
            let Some((table, level)) = self.open.pop_front() else { break };
            let kind = self.look(memory, table, level);
            let piece = self.piece(table);
            let Some(count) = piece.and_then(|piece| counts.get_mut(piece)) else { continue };
            match kind {
                Kind::Table => (count.0, good) = (count.0 + 1, good + 1),
                Kind::Blank | Kind::No => count.1 += 1,
                Kind::Ready => count.2 += 1,
            }
        }
        for ((piece, (right, wrong, ready)), seen) in self.layout.pieces.iter().zip(counts).zip(pieces) {
            // Some tables are without entries in guests that are well; many never are, and not all that are ready.
            let wrong = if right == 0 { wrong + ready } else { wrong };
            if wrong > right / 2 {
                return Err(VerifyError::Tables { guest: piece.guest, wrong, all: wrong + right });
            }
            *seen |= right > 0;
        }
        let Ram { inside, outside, example } = self.ram;
        if let Some(example) = example.filter(|_| outside > inside / 16) {
            return Err(VerifyError::Ram { outside, inside, example });
        }
        Ok(match good {
            0 => None,
            1 => Some("a page table".to_owned()),
            _ => Some(format!("{good} page tables")),
        })
    }

    /// Looks at a table, and queues those that it leads to.
    fn look(&mut self, memory: &dyn PhysMemory, table: PhysAddr, level: u8) -> Kind {
        let mut bytes = [0; 4096];
        if memory.read(table, &mut bytes).is_err() {
            return Kind::No;
        }
        let regions = memory.regions();
        let is_there = |at: PhysAddr| regions.iter().any(|region| region.contains(at));
        // What belongs to processes may change at any time, and be anything in small guests: the kernel's half alone.
        let first = if self.roots.contains(&table) { 256 } else { 0 };
        let mut next = Vec::new();
        let mut any = false;
        for (index, word) in bytes.chunks_exact(8).enumerate() {
            let entry = word.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
            any |= entry != 0;
            if entry & PRESENT == 0 || index < first {
                continue;
            }
            let address = PhysAddr::new(entry & ADDRESS);
            let below = (1u64 << (12 + 9 * (u32::from(level) - 1))) - 1;
            match (level, entry & LARGE != 0) {
                (1, _) if address.get() < HIGHEST => {}
                (2 | 3, true) if address.get() < HIGHEST && entry & ADDRESS & below & !0x1fff == 0 => {
                    if entry & NOT_PLAIN == 0 {
                        self.ram.count(address, below + 1, regions);
                    }
                }
                (2.., false) if is_there(address) => next.push(address),
                _ => return Kind::No,
            }
        }
        for table in next {
            self.queue(table, level - 1);
        }
        match (any, level) {
            (true, _) => Kind::Table,
            (false, 3..) => Kind::Ready,
            (false, _) => Kind::Blank,
        }
    }
}

impl Ram {
    /// Counts `len` bytes from `start` on that a guest maps as RAM.
    fn count(&mut self, start: PhysAddr, len: u64, regions: &[Region]) {
        let end = start.get().saturating_add(len);
        let here: u64 = regions
            .iter()
            .map(|region| region.end().get().min(end).saturating_sub(region.start.get().max(start.get())))
            .sum();
        self.inside = self.inside.saturating_add(here);
        if here < len {
            self.outside = self.outside.saturating_add(len - here);
            self.example = self.example.or(Some(start.wrapping_add(here)));
        }
    }
}

/// The tables of aarch64's upper half; none where the registers do not tell them.
pub(super) fn upper_half(registers: &aarch64::Registers) -> Option<Aarch64PageTables> {
    let (root, tcr) = (registers.ttbr1?, registers.tcr?);
    let granule = match tcr >> 30 & 3 {
        1 => Granule::of_bytes(16 << 10),
        2 => Granule::of_bytes(4 << 10),
        3 => Granule::of_bytes(64 << 10),
        _ => None,
    }?;
    let bits = 64 - u8::try_from(tcr >> 16 & 0x3f).ok()?;
    let half = Half { root: PhysAddr::new(root & 0x0000_ffff_ffff_fffe), bits };
    Some(Aarch64PageTables::new(granule).with_upper(half).with_ds(tcr >> 59 & 1 == 1))
}
