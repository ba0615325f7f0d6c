//! Where the guest's memory is read: in QEMU's process, or else word by word through the monitor.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use vmc::{PhysAddr, PhysError, PhysMemory, Region};
use vmc_process::{Layout, ProcessError, ProcessMemory};

use crate::address::Address;
use crate::connection::Connection;
use crate::hmp::{MonitorError, read_words};
use crate::peer;

/// What the monitor is asked for at once, in bytes.
const PAGE: u64 = 4096;
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
pub(crate) fn open(connection: &Connection, address: &Address, layout: &Layout) -> Opened {
    let stream = connection.stream();
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
    let found = peer::listener(stream).and_then(&mut try_one);
    let found = found.or_else(|| peer::holders(stream, address).into_iter().find_map(&mut try_one));
    found.unwrap_or_else(|| {
        let (pid, why) = match denied {
            Some((pid, error)) => (Some(pid), error.to_string()),
            None => (None, "no process of this host has it".to_owned()),
        };
        let warning =
            format!("memory is read word by word through QEMU's monitor, a few MB a second at best: {why}");
        Opened {
            memory: Memory::Monitor(MonitorMemory { regions: layout.regions(), pages: Mutex::default() }),
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
    pub(crate) fn read(
        &self,
        link: &Mutex<impl AsMut<Connection>>,
        addr: PhysAddr,
        buf: &mut [u8],
    ) -> Result<(), PhysError> {
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
}

impl MonitorMemory {
    fn forget(&self) {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn read(
        &self,
        link: &Mutex<impl AsMut<Connection>>,
        addr: PhysAddr,
        buf: &mut [u8],
    ) -> Result<(), PhysError> {
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

/// Is all of this the guest's memory?
fn has(regions: &[Region], start: u64, len: u64) -> bool {
    regions.iter().any(|region| {
        let last = start.checked_add(len.saturating_sub(1));
        region.contains(PhysAddr::new(start)) && last.is_some_and(|last| region.contains(PhysAddr::new(last)))
    })
}

/// A page as the monitor tells it.
fn page_of(
    link: &Mutex<impl AsMut<Connection>>,
    regions: &[Region],
    page: u64,
) -> Result<Vec<u8>, MonitorError> {
    let mut link = link.lock().unwrap_or_else(PoisonError::into_inner);
    // A page that memory ends or begins in is asked for as far as it is memory.
    let (start, end) = (0..PAGE / 8)
        .map(|index| page + index * 8)
        .filter(|word| has(regions, *word, 8))
        .fold((u64::MAX, page), |(start, _), word| (start.min(word), word + 8));
    let start = start.min(end);
    let words = usize::try_from((end - start) / 8).unwrap_or(0);
    let told = read_words(link.as_mut(), start, words)?;
    let mut bytes = vec![0; usize::try_from(start - page).unwrap_or(0)];
    bytes.extend(told.iter().flat_map(|word| word.to_le_bytes()));
    Ok(bytes)
}
