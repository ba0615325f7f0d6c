//! Where the guest's memory is read: in QEMU's process, or else through the monitor: out of parts of a dump where QEMU can be
//! handed a file and the guest stands still, word by word otherwise.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use vmc::{PhysAddr, PhysError, PhysMemory, Region};
use vmc_process::{Layout, ProcessError, ProcessMemory, peer};

use crate::connection::Connection;
use crate::hmp::{MonitorError, read_words};
use crate::link::Link;
use crate::part::Part;

/// What the monitor is asked for at once, in bytes.
const PAGE: u64 = 4096;
/// What is taken out of a dump at once, in bytes: it takes no longer than a page does.
const PART: u64 = 256 << 10;
/// As many pages are kept: 16 MiB.
const MOST_PAGES: usize = 4096;

/// A way to the guest's memory.
#[derive(Debug)]
pub(crate) enum Memory {
    /// In QEMU's process.
    Process(Box<ProcessMemory>),
    /// Through the monitor.
    Monitor(MonitorMemory),
}

/// How memory came to be read as it is.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) memory: Memory,
    pub(crate) pid: Option<u32>,
    pub(crate) warning: Option<String>,
}

/// Finds QEMU's process and opens its memory; where that cannot be, the monitor reads for us.
pub(crate) fn open(connection: &Connection, layout: &Layout, process: bool) -> Opened {
    let socket = connection.socket();
    let mut denied = None;
    let mut try_one = |pid: u32| match ProcessMemory::open(pid, layout) {
        Ok(memory) => {
            Some(Opened { memory: Memory::Process(Box::new(memory)), pid: Some(pid), warning: None })
        }
        Err(error @ ProcessError::Denied { .. }) => {
            denied.get_or_insert((pid, error));
            None
        }
        // It has nothing where the guest's memory is: it is not QEMU.
        Err(_) => None,
    };
    let mut found = None;
    if process {
        found = peer::listener(socket).and_then(&mut try_one);
        // Who has the guest's memory at the right addresses is found out by looking.
        let others = || peer::holders(socket).filter(|pid| *pid != std::process::id());
        found = found.or_else(|| others().find_map(&mut try_one));
    }
    found.unwrap_or_else(|| {
        let (pid, why) = match denied {
            Some((pid, error)) => (Some(pid), error.to_string()),
            None if process => (None, "no process of this host has it".to_owned()),
            None => (None, "QEMU's process is not to be read".to_owned()),
        };
        let warning = format!("memory is read through QEMU's monitor, which is slow: {why}");
        Opened {
            memory: Memory::Monitor(MonitorMemory {
                regions: layout.regions(),
                pages: Mutex::default(),
                parts: AtomicBool::new(socket.is_unix()),
            }),
            pid,
            warning: Some(warning),
        }
    })
}

impl Memory {
    /// In words for people.
    pub(crate) fn how(&self) -> &'static str {
        match self {
            Self::Process(memory) => memory.how(),
            Self::Monitor(memory) if memory.parts.load(Ordering::Relaxed) => "dump-guest-memory and xp",
            Self::Monitor(_) => "the monitor's xp",
        }
    }

    /// Forgets what was read.
    pub(crate) fn forget(&self) {
        match self {
            Self::Process(memory) => memory.forget(),
            Self::Monitor(memory) => memory.forget(),
        }
    }

    /// Fills `buf`.
    pub(crate) fn read(&self, link: &Mutex<Link>, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        match self {
            Self::Process(memory) => memory.read(addr, buf),
            Self::Monitor(memory) => memory.read(link, addr, buf),
        }
    }
}

/// Pages that the monitor told.
#[derive(Debug)]
pub(crate) struct MonitorMemory {
    regions: Vec<Region>,
    pages: Mutex<HashMap<u64, Vec<u8>>>,
    /// Is QEMU to be asked for parts of a dump, as long as the guest stands still?
    parts: AtomicBool,
}

impl MonitorMemory {
    fn forget(&self) {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn read(&self, link: &Mutex<Link>, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        let len = buf.len();
        let none = PhysError::NoMemory { addr, len };
        // What is no memory must not be touched: a device may take a read for an order.
        if !has(&self.regions, addr.get(), len as u64) {
            return Err(none);
        }
        let (mut rest, mut at) = (buf, addr.get());
        while !rest.is_empty() {
            let page = at & !(PAGE - 1);
            let inside = usize::try_from(at - page).map_err(|_| none)?;
            let here = rest.len().min(usize::try_from(PAGE - (at - page)).map_err(|_| none)?);
            let (part, behind) = rest.split_at_mut_checked(here).ok_or(none)?;
            let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
            if !pages.contains_key(&page) {
                self.take_part(link, page, &mut pages);
            }
            if !pages.contains_key(&page) {
                let told = page_of(link, &self.regions, page).map_err(|error| {
                    let reason = match error {
                        MonitorError::Live(_) => "QEMU is gone, or does not answer",
                        _ => "the monitor does not tell it",
                    };
                    PhysError::Failed { addr: PhysAddr::new(page), reason }
                })?;
                if pages.len() >= MOST_PAGES {
                    pages.clear();
                }
                pages.insert(page, told);
            }
            let told = pages.get(&page).and_then(|bytes| bytes.get(inside..inside + here)).ok_or(none)?;
            part.copy_from_slice(told);
            (rest, at) = (behind, at.checked_add(here as u64).ok_or(none)?);
        }
        Ok(())
    }
}

impl MonitorMemory {
    /// Takes what lies around a page out of a part of a dump, where that can be had.
    fn take_part(&self, link: &Mutex<Link>, page: u64, pages: &mut HashMap<u64, Vec<u8>>) {
        let region = self.regions.iter().find(|region| region.contains(PhysAddr::new(page)));
        let Some(region) = region.filter(|_| self.parts.load(Ordering::Relaxed)) else { return };
        let mut link = link.lock().unwrap_or_else(PoisonError::into_inner);
        if !link.stands_still() {
            return;
        }
        let around = page & !(PART - 1);
        let (start, end) =
            (around.max(region.start.get()), around.saturating_add(PART).min(region.end().get()));
        match Part::ask(&mut link.connection, start, end.saturating_sub(start)) {
            Ok(part) => {
                if pages.len() >= MOST_PAGES {
                    pages.clear();
                }
                // What was read before stays as it was.
                for (at, bytes) in part.memory().filter(|(at, _)| at % PAGE == 0) {
                    for (index, bytes) in bytes.chunks_exact(PAGE as usize).enumerate() {
                        let at = at.wrapping_add(index as u64 * PAGE);
                        if (start..end).contains(&at) {
                            pages.entry(at).or_insert_with(|| bytes.to_vec());
                        }
                    }
                }
            }
            // Not to be tried again: a relay that drops descriptors, a QEMU that is busy with another dump.
            Err(_) => self.parts.store(false, Ordering::Relaxed),
        }
    }
}

/// Is all of this the guest's memory?
fn has(regions: &[Region], start: u64, len: u64) -> bool {
    regions.iter().any(|region| {
        let last = start.checked_add(len.saturating_sub(1));
        region.contains(PhysAddr::new(start)) && last.is_some_and(|last| region.contains(PhysAddr::new(last)))
    })
}

/// A page as the monitor tells it.
fn page_of(link: &Mutex<Link>, regions: &[Region], page: u64) -> Result<Vec<u8>, MonitorError> {
    let mut link = link.lock().unwrap_or_else(PoisonError::into_inner);
    // A page that memory ends or begins in is asked for as far as it is memory.
    let (start, end) = (0..PAGE / 8)
        .map(|index| page + index * 8)
        .filter(|word| has(regions, *word, 8))
        .fold((u64::MAX, page), |(start, _), word| (start.min(word), word + 8));
    let start = start.min(end);
    let words = usize::try_from((end - start) / 8).unwrap_or(0);
    let told = read_words(&mut link.connection, start, words)?;
    let mut bytes = vec![0; usize::try_from(start - page).unwrap_or(0)];
    bytes.extend(told.iter().flat_map(|word| word.to_le_bytes()));
    Ok(bytes)
}
