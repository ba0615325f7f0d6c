//! [`Resolver`]: from an address to its page, where the processor's own walk ends.

use vmc::arch::TranslateError;
use vmc::{AddressSpace, Fault, PhysAddr, VirtAddr};

use super::Page;
use super::pte::{PteFormat, Software};

/// A large page's bit.
const LARGE: u64 = 1 << 7;
/// How many entries may lead to one another: the page of a prototype entry may itself have one.
const DEPTH: u8 = 3;

/// Says where the page of an address lies that the page tables leave to the process' VADs.
pub(crate) type Ask<'a> = dyn Fn(VirtAddr) -> Result<Page, Fault> + 'a;

/// Page tables, and what their entries say where they are not present.
pub(crate) struct Resolver<'a, 'm> {
    pub(crate) space: &'a AddressSpace<'m>,
    pub(crate) format: Option<&'a PteFormat>,
}

impl Resolver<'_, '_> {
    /// Where the page of `va` lies. `ask` is for what the tables leave open.
    pub(crate) fn page(&self, va: VirtAddr, ask: Option<&Ask<'_>>) -> Result<Page, Fault> {
        self.deep(va, ask, DEPTH)
    }

    fn deep(&self, va: VirtAddr, ask: Option<&Ask<'_>>, depth: u8) -> Result<Page, Fault> {
        let error = match self.space.translate(va) {
            Ok(physical) => return Ok(Page::Physical(physical)),
            Err(error) => error,
        };
        let TranslateError::NotPresent { mut level, mut entry, .. } = error else { return Err(error.into()) };
        let Some(format) = self.format else { return Err(error.into()) };
        let end = || self.end();
        // A table that is in transition is still where it was, and may lead to another one.
        while level > 1 {
            let table = match format.decode(entry, end) {
                Software::Transition(table) => table,
                Software::PageFile { number, page } => return Err(Fault::PageFile { number, page }),
                _ => return Self::open(va, ask, error),
            };
            level -= 1;
            (level, entry) = match self.descend(table, level, va)? {
                Walked::Page(physical) => return Ok(Page::Physical(physical)),
                Walked::Absent { level, entry } => (level, entry),
            };
        }
        match format.decode(entry, end) {
            Software::Empty | Software::LookUp => Self::open(va, ask, error),
            Software::Transition(page) => Ok(Page::Physical(page.wrapping_add(va.offset_in(0x1000)))),
            Software::DemandZero => Ok(Page::Zero),
            Software::Decommitted => Err(Fault::NotCommitted),
            Software::PageFile { number, page } => Err(Fault::PageFile { number, page }),
            Software::Prototype(first, second) => {
                let found = self.read_entry(first, depth);
                let (at, found) = match found {
                    Err(_) if second != first => (second, self.read_entry(second, depth)),
                    found => (first, found),
                };
                self.by_prototype(at, found?, va)
            }
        }
    }

    /// What the tables leave open.
    fn open(va: VirtAddr, ask: Option<&Ask<'_>>, error: TranslateError) -> Result<Page, Fault> {
        ask.map_or_else(|| Err(error.into()), |ask| ask(va))
    }

    /// Where the page of `va` lies by the prototype entry at `at`.
    pub(crate) fn prototype(&self, at: VirtAddr, va: VirtAddr) -> Result<Page, Fault> {
        self.by_prototype(at, self.read_entry(at, DEPTH)?, va)
    }

    fn by_prototype(&self, at: VirtAddr, entry: u64, va: VirtAddr) -> Result<Page, Fault> {
        let inside = va.offset_in(0x1000);
        if let Some(page) = PteFormat::present(entry) {
            return Ok(Page::Physical(page.wrapping_add(inside)));
        }
        let format =
            self.format.ok_or(Fault::Lookup { reason: "the types tell nothing of prototype entries" })?;
        match format.decode(entry, || self.end()) {
            Software::Empty | Software::Decommitted => Err(Fault::NotCommitted),
            Software::Transition(page) => Ok(Page::Physical(page.wrapping_add(inside))),
            Software::DemandZero => Ok(Page::Zero),
            Software::PageFile { number, page } => Err(Fault::PageFile { number, page }),
            Software::Prototype(..) | Software::LookUp => Err(Fault::InFile { prototype: at }),
        }
    }

    /// The prototype entry at `at`, in the kernel's memory.
    fn read_entry(&self, at: VirtAddr, depth: u8) -> Result<u64, Fault> {
        let unreadable = Fault::Lookup { reason: "the prototype entry of the page is not in memory" };
        if at.get() >> 63 == 0 || !at.is_aligned(8) {
            return Err(Fault::Lookup {
                reason: "the prototype entry of the page is not in the kernel's memory",
            });
        }
        let Some(depth) = depth.checked_sub(1) else {
            return Err(Fault::Lookup { reason: "prototype entries lead to one another" });
        };
        match self.deep(at, None, depth).map_err(|_| unreadable)? {
            Page::Physical(physical) => Ok(self.space.memory().read_u64(physical)?),
            Page::Zero => Ok(0),
        }
    }

    /// Goes on below the table at `table`.
    fn descend(&self, table: PhysAddr, level: u8, va: VirtAddr) -> Result<Walked, Fault> {
        let mut table = table;
        let mut level = level;
        loop {
            let shift = 12 + 9 * u32::from(level.saturating_sub(1));
            let at = PhysAddr::new(table.get() | (((va.get() >> shift) & 0x1ff) << 3));
            let entry = self.space.memory().read_u64(at).map_err(|source| TranslateError::Table {
                va,
                level,
                source,
            })?;
            let Some(next) = PteFormat::present(entry) else { return Ok(Walked::Absent { level, entry }) };
            if level <= 1 || entry & LARGE != 0 {
                if level > 3 {
                    return Err(TranslateError::Malformed { va, level, at, entry }.into());
                }
                let size = 1u64 << shift;
                return Ok(Walked::Page(next.align_down(size).wrapping_add(va.offset_in(size))));
            }
            table = next;
            level -= 1;
        }
    }

    /// The end of physical memory.
    fn end(&self) -> u64 {
        let ends = self.space.memory().regions().iter().map(|region| region.end().get());
        ends.max().unwrap_or(0)
    }
}

/// Where a walk led.
enum Walked {
    /// To a page.
    Page(PhysAddr),
    /// To an entry that is not present.
    Absent { level: u8, entry: u64 },
}
