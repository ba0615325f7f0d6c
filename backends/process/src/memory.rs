//! [`ProcessMemory`]: reads of a guest's memory in its monitor's process.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use vmc::{PhysAddr, PhysError, PhysMemory, Region};

use crate::cache::{PAGE, PageCache};
use crate::error::ProcessError;
use crate::layout::Layout;
use crate::maps::Map;
use crate::proc;
use crate::segments::{self, Segment};

/// From this length on `process_vm_readv` is faster than `/proc/PID/mem`.
const BULK: usize = 16 << 10;

/// As much as one call of `process_vm_readv` copies: the copy stays in the processor's cache.
const CHUNK: usize = 2 << 20;

/// Reads up to this length keep the pages that they went through.
const KEPT: usize = 64 << 10;

/// A guest's physical memory in the process of its virtual machine monitor.
///
/// Pages that were read stay as they were, in a cache of 16 MiB, until [`forget`](Self::forget).
/// Reads of more than 64 KiB see the pages that are kept, but keep none.
#[derive(Debug)]
pub struct ProcessMemory {
    pid: nix::unistd::Pid,
    /// Held, as it stays with the process when its number is given to another.
    mem: File,
    /// Tells whether the process lives.
    pidfd: OwnedFd,
    segments: Vec<Segment>,
    how: &'static str,
    regions: Vec<Region>,
    cache: PageCache,
}

impl ProcessMemory {
    /// The memory of the guest in process `pid`, as `layout` says.
    ///
    /// # Errors
    /// [`ProcessError`] where there is no such process, its memory may not be read, or nothing is where the layout has memory.
    pub fn open(pid: u32, layout: &Layout) -> Result<Self, ProcessError> {
        let mut layout = layout.clone();
        layout.check()?;
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(ProcessError::Gone { pid })?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty())
            .map_err(|error| ProcessError::io(pid, "the state", error.into()))?;
        let mem = File::open(format!("/proc/{pid}/mem"))
            .map_err(|error| ProcessError::io(pid, "the memory", error))?;
        let regions = layout.regions();
        let (segments, mapped) = segments::of(pid, &layout.pieces, &maps(pid)?);
        let how = match mapped {
            0 => "process_vm_readv",
            bytes if bytes == layout.total() => "mapped",
            _ => "partly mapped, else process_vm_readv",
        };
        try_each(&mem, pid, &segments)?;
        let pid = nix::unistd::Pid::from_raw(raw.as_raw_nonzero().get());
        Ok(Self { pid, mem, pidfd, segments, how, regions, cache: PageCache::new() })
    }

    /// How memory is read, in words for people.
    #[must_use]
    pub const fn how(&self) -> &'static str {
        self.how
    }

    /// Forgets the pages that were read: what is read next is newer.
    pub fn forget(&self) {
        self.cache.forget();
    }

    /// Has the process ended?
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }

    /// The segment that has `addr`, and where in it.
    fn segment(&self, addr: PhysAddr) -> Option<(&Segment, u64)> {
        let behind = self.segments.partition_point(|segment| segment.guest <= addr);
        let segment = self.segments.get(behind.checked_sub(1)?)?;
        let offset = addr.offset_from(segment.guest)?;
        (offset < segment.len).then_some((segment, offset))
    }

    /// Fills `buf` from the process, past the cache.
    fn fetch(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        let len = buf.len();
        let mut rest = buf;
        let mut at = addr;
        loop {
            let (segment, offset) = self.segment(at).ok_or(PhysError::NoMemory { addr, len })?;
            let here = usize::try_from(segment.len - offset).unwrap_or(usize::MAX).min(rest.len());
            let Some((part, behind)) = rest.split_at_mut_checked(here) else { return Ok(()) };
            if !from_mapped(segment, offset, part) {
                self.fetch_host(segment.host.wrapping_add(offset), part)
                    .map_err(|reason| PhysError::Failed { addr: at, reason })?;
            }
            if behind.is_empty() {
                return Ok(());
            }
            rest = behind;
            at = at.checked_add(here as u64).ok_or(PhysError::NoMemory { addr, len })?;
        }
    }

    /// Fills `buf` from the process' address `host`.
    fn fetch_host(&self, host: u64, buf: &mut [u8]) -> Result<(), &'static str> {
        if buf.len() < BULK {
            return self.fetch_mem(host, buf);
        }
        let mut at = host;
        for chunk in buf.chunks_mut(CHUNK) {
            if !self.fetch_bulk(at, chunk) {
                self.fetch_mem(at, chunk)?;
            }
            at = at.wrapping_add(chunk.len() as u64);
        }
        // The number of a process that ended may be another's by now.
        if self.is_gone() { Err("the process has ended") } else { Ok(()) }
    }

    /// By `process_vm_readv`; false where it gave less than all.
    fn fetch_bulk(&self, host: u64, chunk: &mut [u8]) -> bool {
        let Ok(base) = usize::try_from(host) else { return false };
        let len = chunk.len();
        let remote = [RemoteIoVec { base, len }];
        process_vm_readv(self.pid, &mut [IoSliceMut::new(chunk)], &remote).is_ok_and(|read| read == len)
    }

    /// By `/proc/PID/mem`.
    fn fetch_mem(&self, host: u64, buf: &mut [u8]) -> Result<(), &'static str> {
        self.mem.read_exact_at(buf, host).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => "the process has ended",
            _ if error.raw_os_error() == Some(nix::libc::EIO) => "the process has no memory there any more",
            _ => "the system does not let its memory be read",
        })
    }

    /// Reads what lies within one page, by the cache.
    fn read_in_page(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        let (number, offset) = (addr.get() / PAGE as u64, (addr.get() % PAGE as u64) as usize);
        if self.cache.copy(number, offset, buf) {
            return Ok(());
        }
        let age = self.cache.age();
        let mut page = [0; PAGE];
        let start = addr.align_down(PAGE as u64);
        // A page that is not in memory as a whole is read as far as it was asked for, and not kept.
        if self.fetch(start, &mut page).is_err() {
            return self.fetch(addr, buf);
        }
        self.cache.put(number, age, &page);
        // Another thread may have kept it first: then its bytes are what the page is until it is forgotten.
        if !self.cache.copy(number, offset, buf) {
            let bytes = page.get(offset..).and_then(|page| page.get(..buf.len()));
            buf.copy_from_slice(bytes.ok_or(PhysError::NoMemory { addr, len: buf.len() })?);
        }
        Ok(())
    }

    /// Reads more than a page: in one go, and then the kept pages over it.
    fn read_many(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        let age = self.cache.age();
        let keep = buf.len() <= KEPT;
        self.fetch(addr, buf)?;
        let mut at = addr;
        let mut rest = buf;
        while !rest.is_empty() {
            let offset = (at.get() % PAGE as u64) as usize;
            let here = (PAGE - offset).min(rest.len());
            let Some((part, behind)) = rest.split_at_mut_checked(here) else { break };
            let number = at.get() / PAGE as u64;
            if !self.cache.copy(number, offset, part)
                && keep
                && let Ok(page) = <&[u8; PAGE]>::try_from(&*part)
            {
                self.cache.put(number, age, page);
            }
            rest = behind;
            at = at.wrapping_add(here as u64);
        }
        Ok(())
    }
}

/// Fills `buf` from what is mapped; false where it is not, or not any more.
fn from_mapped(segment: &Segment, offset: u64, buf: &mut [u8]) -> bool {
    segment.mapped.as_ref().is_some_and(|(mapped, start)| {
        usize::try_from(offset).is_ok_and(|offset| mapped.copy(start.saturating_add(offset), buf))
    })
}

/// What the process has mapped, with flags where it may have memory that it fills on demand: to have all flags told takes the
/// kernel a look at every page of the guest.
fn maps(pid: u32) -> Result<Vec<Map>, ProcessError> {
    match proc::descriptors(pid, "anon_inode:[userfaultfd]") {
        Ok(found) if found.is_empty() => proc::maps(pid),
        _ => proc::maps_with_flags(pid),
    }
}

/// Reads the first and the last byte of each segment that the process is to be asked for: of the others nothing is touched there.
fn try_each(mem: &File, pid: u32, segments: &[Segment]) -> Result<(), ProcessError> {
    for segment in segments.iter().filter(|segment| segment.mapped.is_none()) {
        for offset in [0, segment.len.saturating_sub(1)] {
            let host = segment.host.saturating_add(offset);
            match mem.read_at(&mut [0], host) {
                Ok(1) => {}
                Ok(_) => return Err(ProcessError::Gone { pid }),
                // EINVAL: no user's address.
                Err(error) if matches!(error.raw_os_error(), Some(nix::libc::EIO | nix::libc::EINVAL)) => {
                    let guest = segment.guest.get().saturating_add(offset);
                    return Err(ProcessError::NotMapped { pid, host, guest });
                }
                Err(error) => return Err(ProcessError::io(pid, "the memory", error)),
            }
        }
    }
    Ok(())
}

impl PhysMemory for ProcessMemory {
    fn regions(&self) -> &[Region] {
        &self.regions
    }

    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        match buf.len() {
            0 => Ok(()),
            len if len <= PAGE - (addr.get() % PAGE as u64) as usize => self.read_in_page(addr, buf),
            _ => self.read_many(addr, buf),
        }
    }
}
