//! [`Moment`]: a live guest's memory and registers as they were when it last stood, over what they are now.
//!
//! While the guest stands, each page that is read is kept whole; afterwards these pages are read as they were, and all others
//! from the guest that runs.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use vmc::vcpu::VcpuError;
use vmc::{LiveGuest, PhysAddr, PhysError, PhysMemory, Region, Registers, Vcpus};

/// Bytes of a page.
const PAGE: usize = 4096;
/// Pages of one moment that are kept at the most.
const MOST_PAGES: usize = 1 << 14;

type Page = Box<[u8; PAGE]>;

/// Memory and registers of a moment.
pub(crate) struct Moment<'g> {
    guest: &'g dyn LiveGuest,
    kept: RwLock<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The guest stands: what is read is kept.
    stands: bool,
    pages: HashMap<u64, Page>,
    /// Pages of earlier moments, to be used again.
    spare: Vec<Page>,
    registers: Vec<Result<Registers, VcpuError>>,
}

impl<'g> Moment<'g> {
    /// Of a guest whose first moment has not come yet.
    pub(crate) fn new(guest: &'g dyn LiveGuest) -> Self {
        Self { guest, kept: RwLock::default() }
    }

    fn kept(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept_mut(&self) -> RwLockWriteGuard<'_, Kept> {
        self.kept.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest has just been stopped: the moment before is forgotten, the registers are read.
    pub(crate) fn begin(&self) {
        let vcpus = self.guest.as_vcpus();
        let mut kept = self.kept_mut();
        let Kept { pages, spare, .. } = &mut *kept;
        spare.extend(pages.drain().map(|(_, page)| page));
        kept.registers = (0..vcpus.count()).map(|index| vcpus.registers(index)).collect();
        kept.stands = true;
    }

    /// The guest is about to run again: nothing more is kept.
    pub(crate) fn end(&self) {
        self.kept_mut().stands = false;
    }

    /// How many pages this moment has.
    pub(crate) fn pages(&self) -> usize {
        self.kept().pages.len()
    }

    /// Reads bytes of one page.
    fn read_in_page(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        let (page, into) = (addr.align_down(PAGE as u64), addr.offset_in(PAGE as u64) as usize);
        let copy = |kept: &Page, buf: &mut [u8]| {
            let part =
                kept.get(into..into + buf.len()).ok_or(PhysError::NoMemory { addr, len: buf.len() })?;
            buf.copy_from_slice(part);
            Ok(())
        };
        let kept = self.kept();
        if let Some(known) = kept.pages.get(&page.get()) {
            return copy(known, buf);
        }
        let keep = kept.stands && kept.pages.len() < MOST_PAGES;
        drop(kept);
        let memory = self.guest.as_memory();
        if !keep {
            return memory.read(addr, buf);
        }
        let mut new = self.kept_mut().spare.pop().unwrap_or_else(|| Box::new([0; PAGE]));
        // Memory may end within a page.
        if memory.read(page, new.as_mut_slice()).is_err() {
            return memory.read(addr, buf);
        }
        copy(&new, buf)?;
        self.kept_mut().pages.insert(page.get(), new);
        Ok(())
    }
}

impl PhysMemory for Moment<'_> {
    fn regions(&self) -> &[Region] {
        self.guest.as_memory().regions()
    }

    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        let (mut at, mut rest) = (addr, buf);
        while !rest.is_empty() {
            let here = (PAGE - at.offset_in(PAGE as u64) as usize).min(rest.len());
            let (part, behind) = rest.split_at_mut(here);
            self.read_in_page(at, part)?;
            at = at.wrapping_add(here as u64);
            rest = behind;
        }
        Ok(())
    }
}

impl Vcpus for Moment<'_> {
    fn count(&self) -> usize {
        self.guest.as_vcpus().count()
    }

    fn registers(&self, index: usize) -> Result<Registers, VcpuError> {
        match self.kept().registers.get(index) {
            Some(known) => known.clone(),
            None => self.guest.as_vcpus().registers(index),
        }
    }
}
