//! Files that a process shares its memory by, mapped here too: the copies out of them, and what happens when such a file
//! shrinks. One of the places of this crate where `unsafe` stands.
//!
//! An access behind the end of a file raises SIGBUS. The handler here knows the mappings of this module: it puts empty memory in
//! the mapping's place and says that it is lost, and the copy goes on to its end and is thrown away. An access elsewhere is left
//! to whoever had the handler before, as `vmc_dump::say_when_lost`.
//!
//! Memory that the guest never touched has no pages in such a file, and looking at it through a mapping would make some: a look
//! at all of a large guest could take the host's memory, and a page that its monitor has yet to fill (userfaultfd) would be there
//! already, empty. So nothing is looked at through the mapping that was not found to be there: short reads read the file, which
//! costs the same and gives holes as zeros; long ones do so where they meet a hole.
#![allow(
    unsafe_code,
    reason = "copies out of shared memory and signal handlers are unsafe by nature; see SAFETY below"
)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::cache::PAGE;

/// As many mappings as there can be at a time in this process.
const MOST: usize = 256;

/// What the handler knows of a mapping.
struct Known {
    taken: AtomicBool,
    start: AtomicUsize,
    len: AtomicUsize,
    lost: AtomicBool,
}

static KNOWN: [Known; MOST] = [const {
    Known {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        lost: AtomicBool::new(false),
    }
}; MOST];

/// What SIGBUS did before.
static BEFORE: OnceLock<SigAction> = OnceLock::new();

/// Reads from this length on use the mapping, and ask for holes first.
const LONG: usize = 16 << 10;

/// And ask for so many bytes at a time.
const CHUNK: usize = 2 << 20;

/// A part of a file, mapped for reading, that others write to.
pub(crate) struct Mapped {
    file: File,
    offset: u64,
    map: MmapRaw,
    /// Does the system tell us which pages are there?
    tells: bool,
    known: &'static Known,
}

impl std::fmt::Debug for Mapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} mapped bytes", self.map.len())
    }
}

impl Mapped {
    /// Maps `len` bytes of `file` from `offset` on.
    ///
    /// # Errors
    /// What the system says, or that there are too many mappings.
    pub(crate) fn new(file: File, offset: u64, len: usize) -> io::Result<Self> {
        handle()?;
        let take = |known: &&Known| !known.taken.swap(true, Ordering::AcqRel);
        let known = KNOWN.iter().find(take).ok_or_else(|| io::Error::other("too many mappings"))?;
        match MmapOptions::new().offset(offset).len(len).map_raw_read_only(&file) {
            Ok(map) => {
                known.lost.store(false, Ordering::Release);
                known.start.store(map.as_ptr().addr(), Ordering::Release);
                known.len.store(map.len(), Ordering::Release);
                let tells = tells_what_is_there(&file);
                Ok(Self { file, offset, map, tells, known })
            }
            Err(error) => {
                known.taken.store(false, Ordering::Release);
                Err(error)
            }
        }
    }

    /// Copies what is at `offset` to `buf`. False where that is outside, or the file has shrunk: `buf` is then unspecified.
    pub(crate) fn copy(&self, offset: usize, buf: &mut [u8]) -> bool {
        let fits = offset.checked_add(buf.len()).is_some_and(|end| end <= self.map.len());
        if !fits || self.known.lost.load(Ordering::Acquire) {
            return false;
        }
        let long = self.tells && buf.len() >= LONG;
        let mut offset = offset;
        for chunk in buf.chunks_mut(CHUNK) {
            if long && self.is_all_there(offset, chunk.len()) {
                // SAFETY: `offset` and the bytes behind it lie in the mapping, which lives as long as `self`.
                unsafe { copy(self.map.as_ptr().add(offset), chunk) };
            } else if self.file.read_exact_at(chunk, self.offset.saturating_add(offset as u64)).is_err() {
                return false;
            }
            offset += chunk.len();
        }
        !self.known.lost.load(Ordering::Acquire)
    }
}

impl Mapped {
    /// Has the file pages in memory for all of these bytes, at most [`CHUNK`], which lie in the mapping?
    ///
    /// Asking costs less than a tenth of the copy; `SEEK_HOLE` goes through all of the file to the next hole.
    fn is_all_there(&self, offset: usize, len: usize) -> bool {
        let start = offset & !(PAGE - 1);
        let pages = (offset - start + len).div_ceil(PAGE);
        let mut resident = [0u8; CHUNK / PAGE + 1];
        let Some(resident) = resident.get_mut(..pages) else { return false };
        // SAFETY: the range begins on a page of the mapping and ends on one, as mappings are whole pages; for each page there is
        // a byte to write to.
        let asked = unsafe {
            libc::mincore(self.map.as_mut_ptr().add(start).cast(), pages * PAGE, resident.as_mut_ptr())
        };
        asked == 0 && resident.iter().all(|page| page & 1 == 1)
    }
}

/// Does `mincore` tell us which pages of a file are there? Of a file that is neither ours nor may be written by us it says that
/// all of them are.
fn tells_what_is_there(file: &File) -> bool {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // No copy is under way any more: nobody else has a reference.
        self.known.len.store(0, Ordering::Release);
        self.known.taken.store(false, Ordering::Release);
    }
}

/// Copies bytes that others may write at the same time: each word is read once, whatever it holds then.
///
/// # Safety
/// `from` has to be mapped for `buf.len()` bytes.
unsafe fn copy(from: *const u8, buf: &mut [u8]) {
    let mut from = from;
    let head = from.align_offset(align_of::<u64>()).min(buf.len());
    let (head, rest) = buf.split_at_mut(head);
    let (words, tail) = rest.as_chunks_mut::<8>();
    for byte in head {
        // SAFETY: within what the caller promises.
        (*byte, from) = unsafe { (ptr::read_volatile(from), from.add(1)) };
    }
    for word in words {
        // SAFETY: within what the caller promises, and aligned since the head was copied.
        let value = unsafe { ptr::read_volatile(from.cast::<u64>()) };
        *word = value.to_ne_bytes();
        // SAFETY: as before.
        from = unsafe { from.add(8) };
    }
    for byte in tail {
        // SAFETY: within what the caller promises.
        (*byte, from) = unsafe { (ptr::read_volatile(from), from.add(1)) };
    }
}

/// Takes SIGBUS, once.
fn handle() -> io::Result<()> {
    static DONE: OnceLock<Result<(), nix::errno::Errno>> = OnceLock::new();
    let done = DONE.get_or_init(|| {
        let flags = SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK | SaFlags::SA_NODEFER;
        let action = SigAction::new(SigHandler::SigAction(lost), flags, SigSet::empty());
        // SAFETY: the handler calls nothing but `mmap` and `sigaction`, reads cells that are set once, and loads and stores
        // atomic numbers; all of that a handler may do.
        let before = unsafe { sigaction(Signal::SIGBUS, &action) }?;
        BEFORE.get_or_init(|| before);
        Ok(())
    });
    done.map_err(io::Error::from)
}

extern "C" fn lost(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the system gives a handler that was taken with SA_SIGINFO a pointer to a description, for SIGBUS with an address.
    let at = unsafe { (*info).si_addr() }.addr();
    let known = KNOWN.iter().find(|known| {
        let start = known.start.load(Ordering::Acquire);
        at >= start && at - start < known.len.load(Ordering::Acquire)
    });
    if let Some(known) = known {
        known.lost.store(true, Ordering::Release);
        let (start, len) = (known.start.load(Ordering::Acquire), known.len.load(Ordering::Acquire));
        let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: the range is that of a mapping of ours that a copy is reading just now, so that it is not given up meanwhile.
        // It is only ever read through raw pointers.
        let empty =
            unsafe { libc::mmap(ptr::without_provenance_mut(start), len, libc::PROT_READ, flags, -1, 0) };
        if empty != libc::MAP_FAILED {
            return;
        }
    }
    // Whoever was there before: the access is tried again and ends there.
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: what was there before may be there again.
    let _ = unsafe { sigaction(Signal::SIGBUS, BEFORE.get().unwrap_or(&default)) };
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let fd = nix::sys::memfd::memfd_create(c"test", nix::sys::memfd::MFdFlags::empty()).unwrap();
        let mut file = File::from(fd);
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn bytes_are_copied_from_any_place() {
        let bytes: Vec<u8> = (0..64 * 4096).map(|i| (i * 7 % 251) as u8).collect();
        let mapped = Mapped::new(file(&bytes), 4096, 63 * 4096).unwrap();
        for (offset, len) in
            [(0, 8192), (1, 30), (7, 8), (8, 9), (4095, 2), (258_047, 1), (258_048, 0), (3, 0), (5, 99_999)]
        {
            let mut buf = vec![0; len];
            assert!(mapped.copy(offset, &mut buf));
            assert_eq!(buf, bytes[4096 + offset..][..len], "{offset} {len}");
        }
        assert!(!mapped.copy(63 * 4096, &mut [0]) && !mapped.copy(usize::MAX, &mut [0]));
    }

    #[test]
    fn a_file_that_shrinks_costs_the_mapping_and_nothing_else() {
        let file = file(&[7; 2 << 20]);
        let map = |len| Mapped::new(file.try_clone().unwrap(), 0, len).unwrap();
        let (mapped, other) = (map(2 << 20), map(4096));
        let mut buf = [0; 64];
        assert!(mapped.copy(1 << 20, &mut buf) && buf == [7; 64]);
        file.set_len(4096).unwrap();
        assert!(!mapped.copy(1 << 20, &mut vec![0; 1 << 20]), "a long read looks first");
        assert!(!mapped.copy(1 << 20, &mut buf));
        assert!(mapped.copy(0, &mut buf) && buf == [7; 64]);
        // As where it shrinks between the look and the copy.
        // SAFETY: within the mapping.
        unsafe { copy(mapped.map.as_ptr().add(1 << 20), &mut buf) };
        assert!(!mapped.copy(0, &mut buf), "what is lost stays so");
        assert!(other.copy(0, &mut buf) && buf == [7; 64], "what is still there is there");
        // The place is free again for another mapping, which is not lost.
        drop(mapped);
        assert!(map(4096).copy(0, &mut buf));
    }

    #[test]
    fn memory_that_was_never_touched_gets_no_pages() {
        use std::os::unix::fs::MetadataExt as _;
        let file = file(&[7; 4096]);
        file.set_len(64 << 20).unwrap();
        let mapped = Mapped::new(file.try_clone().unwrap(), 0, 64 << 20).unwrap();
        for len in [2 << 20, 16 << 10, 4096 + 8] {
            let mut buf = vec![1; len];
            for at in (0..64 << 20).step_by(len.next_power_of_two()) {
                assert!(mapped.copy(at, &mut buf));
                assert!(buf[4096..].iter().all(|byte| *byte == 0) && buf[0] == if at == 0 { 7 } else { 0 });
            }
        }
        assert!(file.metadata().unwrap().blocks() <= 8, "{}", file.metadata().unwrap().blocks());
    }

    #[test]
    fn memory_that_is_filled_on_demand_is_left_to_its_process() {
        use crate::{Layout, ProcessMemory};
        use vmc::{PhysAddr, PhysMemory as _};
        // Source of the numbers: include/uapi/linux/userfaultfd.h.
        const LEN: usize = 1 << 20;
        // SAFETY: the call takes a number alone.
        let fault =
            unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) } as i32;
        if fault < 0 {
            assert!(std::env::var_os("VMC_REQUIRE_ALL").is_none(), "there is no userfaultfd");
            eprintln!("skipped: there is no userfaultfd");
            return;
        }
        let file = file(&[7; 4096]);
        file.set_len(LEN as u64).unwrap();
        file.write_all_at(&[7; 4096], LEN as u64 - 4096).unwrap();
        let ram = MmapOptions::new().len(LEN).map_raw(&file).unwrap();
        let at = ram.as_ptr().addr() as u64;
        let page = [9u8; 4096];
        let hole = at + (64 << 10);
        let control = |request: u64, argument: &mut [u64]| {
            // SAFETY: the arguments have the lengths that the requests have in their numbers.
            unsafe { libc::ioctl(fault, request as _, argument.as_mut_ptr()) }
        };
        assert_eq!(control(0xc018_aa3f, &mut [0xaa, 0, 0]), 0, "UFFDIO_API");
        assert_eq!(control(0xc020_aa00, &mut [at, LEN as u64, 1, 0]), 0, "UFFDIO_REGISTER, missing pages");
        let layout = Layout::parse(&format!("0+{LEN}@{at:#x}")).unwrap();
        let memory = ProcessMemory::open(std::process::id(), &layout).unwrap();
        assert_eq!(memory.how(), "process_vm_readv");
        assert_eq!(memory.read_u64(PhysAddr::new(8)).unwrap(), 0x0707_0707_0707_0707);
        // Mapped before that was known: what is missing is read as it is in the file, and can be filled yet.
        let mapped = Mapped::new(file, 0, LEN).unwrap();
        for len in [8, 4096, 128 << 10] {
            let mut buf = vec![1; len];
            assert!(mapped.copy(64 << 10, &mut buf) && buf[..8] == [0; 8]);
        }
        let from = page.as_ptr().expose_provenance() as u64;
        assert_eq!(control(0xc028_aa03, &mut [hole, from, 4096, 0, 0]), 0, "UFFDIO_COPY");
        assert_eq!(memory.read_u64(PhysAddr::new(64 << 10)).unwrap(), 0x0909_0909_0909_0909);
        // SAFETY: the descriptor is ours.
        unsafe { libc::close(fault) };
    }
}
