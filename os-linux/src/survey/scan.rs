//! Tasks by the memory they lie in: a task is an object of a slab of the kernel's cache for tasks, on lists or not.
//!
//! Source: `mm/slub.c`, `mm/slab.h`. The first page of a slab points at its cache, so 64 bytes a page say where tasks can be. A
//! kernel whose pages do not tell (no `vmemmap`, other allocators) is searched through whole.

use alloc::vec::Vec;

use vmc::bytes::u64_at;
use vmc::layout::{Field, Types};
use vmc::memory::lend_or_read;
use vmc::view::RowErrors;
use vmc::{PhysAddr, ReadExt, VirtAddr, VirtualMemory};

use super::limited::Left;
use crate::error::LinuxError;
use crate::kernel::Linux;

/// Tasks begin at a multiple of a cache line, of which half is the least that was ever built.
const ALIGNMENT: u64 = 32;
/// Pages whose descriptions are read at once.
const PAGES: u64 = 64;
/// Bytes that are searched at once.
const PIECE: u64 = 1 << 20;
/// Addresses below are a program's.
const LOWEST_KERNEL: u64 = 0xff00_0000_0000_0000;

/// A search for tasks in physical memory.
pub(super) struct Scan<'k, 'm> {
    linux: &'k Linux<'m>,
    /// What is added to a physical address in the kernel's map of all memory.
    direct_map: u64,
    /// Where a task keeps the list of those that it traces.
    traced: u64,
    left: Left,
    found: Vec<VirtAddr>,
}

/// How a page's description tells that a slab of tasks begins there.
struct SlabMark {
    /// Where descriptions begin, and the size of one.
    pages: VirtAddr,
    page: u64,
    /// Where in it the cache stands, and which it is.
    at: u64,
    cache: VirtAddr,
    /// Bytes of a slab.
    size: u64,
    objects: Objects,
}

/// Where in a slab objects begin: the first, and how far each lies from the next.
#[derive(Clone, Copy)]
struct Objects {
    first: u64,
    stride: u64,
}

impl<'k, 'm> Scan<'k, 'm> {
    /// All that looks like a task, given one that is (not the first, which lies in the kernel's image).
    pub(super) fn tasks(
        linux: &'k Linux<'m>,
        sample: VirtAddr,
        errors: &mut RowErrors,
    ) -> Result<Vec<VirtAddr>, LinuxError> {
        let physical = linux.space().translate(sample).map_err(|source| LinuxError::Read {
            what: "a task",
            source: vmc::ReadError::new(sample, source),
        })?;
        let traced = linux.task_ties()?.ptraced.address(VirtAddr::new(0)).get();
        let mut scan = Self {
            linux,
            direct_map: sample.get().wrapping_sub(physical.get()),
            traced,
            left: Left(linux.limits().scan_candidates),
            found: Vec::new(),
        };
        let ended = match scan.mark(physical) {
            Some(mark) => scan.slabs(&mark),
            None => Ok(()),
        };
        // What does not even lead to the one that is known is not the way.
        if ended.is_ok() && !scan.found.contains(&sample) {
            scan.found.clear();
            let regions: Vec<_> = linux.memory().regions().to_vec();
            for region in regions {
                if let Err(why) = scan.range(region.start, region.len, None) {
                    errors.push(linux.limits(), "memory", &why);
                    break;
                }
            }
        } else if let Err(why) = ended {
            errors.push(linux.limits(), "memory", &why);
        }
        Ok(scan.found)
    }

    /// What marks the slabs of tasks, going by the one that the task at `physical` lies in.
    fn mark(&self, physical: PhysAddr) -> Option<SlabMark> {
        let linux = self.linux;
        let space = linux.space();
        let pages = linux.page_descriptions()?;
        let page = linux.types().size_of("page").ok().filter(|size| *size != 0)?;
        let by_page = linux.slab_page().ok();
        let cache = linux.slab().ok().map(|fields| fields.cache);
        let cache: Field<u64> = cache.or(by_page.and_then(|fields| fields.cache))?;
        let caches = linux.slab_cache().ok()?;
        let at = cache.address(VirtAddr::new(0)).get();
        let frame = linux.page_size().max(1);
        let description = |physical: u64| pages.wrapping_add((physical / frame).wrapping_mul(page));
        // The symbol tells the cache; else the slab that the known task lies in does. That begins at its own size.
        let cache_of = |order: u32| {
            let first = physical.get() & !((frame << order) - 1);
            cache.pointer(space, description(first)).ok()
        };
        let size_of = |cache: VirtAddr| {
            let order = caches.order.read(space, cache).ok()? >> 16;
            (order <= 10).then_some(frame << order)
        };
        let named = linux.known.task_cache.and_then(|at| space.read_pointer(at).ok());
        let cache = named.or_else(|| {
            let mut tried = (0..=10).filter_map(|order| Some((order, cache_of(order)?)));
            let fits = |(order, cache): &(u32, VirtAddr)| size_of(*cache) == Some(frame << order);
            tried.find(fits).map(|(_, cache)| cache)
        })?;
        let size = size_of(cache)?;
        let stride = u64::from(caches.stride.read(space, cache).ok()?);
        let first = caches.first.map_or(Some(0), |field| field.read(space, cache).ok())?;
        let objects = Objects { first: u64::from(first), stride };
        (stride >= ALIGNMENT).then_some(SlabMark { pages, page, at, cache, size, objects })
    }

    /// Looks through the slabs of tasks.
    fn slabs(&mut self, mark: &SlabMark) -> Result<(), LinuxError> {
        let page_size = self.linux.page_size().max(1);
        let regions: Vec<_> = self.linux.memory().regions().to_vec();
        let step = usize::try_from(mark.page * PAGES).unwrap_or(0);
        let mut buffer = alloc::vec![0u8; step.min(1 << 16)];
        // Slabs do not overlap: together they are no more than the memory, but for those that end early.
        let mut left = self.linux.memory().total().saturating_mul(2);
        for region in regions {
            let first = region.start.get() / page_size;
            let last = region.end().get() / page_size;
            let mut frame = first & !(PAGES - 1);
            while frame < last {
                let at = mark.pages.wrapping_add(frame.wrapping_mul(mark.page));
                // Where memory has a hole, so have the descriptions.
                if self.linux.space().read(at, &mut buffer).is_ok() {
                    let entries = buffer.chunks_exact(mark.page as usize);
                    let caches = entries.map(|entry| u64_at(entry, mark.at as usize));
                    let is_slab = |cache: Option<u64>| cache == Some(mark.cache.get());
                    let slabs: Vec<u64> =
                        (frame..).zip(caches).filter(|(_, c)| is_slab(*c)).map(|(frame, _)| frame).collect();
                    for frame in slabs {
                        let start = frame.saturating_mul(page_size);
                        let len = mark.size.min(region.end().get().saturating_sub(start));
                        let start = PhysAddr::new(start);
                        left = left.checked_sub(len).ok_or(LinuxError::Broken {
                            what: "the slabs of tasks",
                            at: VirtAddr::new(start.get().wrapping_add(self.direct_map)),
                            reason: "they are larger than the memory",
                        })?;
                        self.range(start, len, Some(mark.objects))?;
                    }
                }
                frame += PAGES;
            }
        }
        Ok(())
    }

    /// Looks at each place in `len` bytes at `start` that could be the start of a task, or where one of `objects` is.
    fn range(&mut self, start: PhysAddr, len: u64, objects: Option<Objects>) -> Result<(), LinuxError> {
        let memory = self.linux.memory();
        let mut buffer = Vec::new();
        // The word that is looked at lies in the task: its place is what is gone through.
        let into = self.traced % ALIGNMENT;
        let mut done = 0;
        while done < len {
            let piece = PIECE.min(len - done);
            let at = start.wrapping_add(done);
            done += piece;
            let Ok(bytes) = lend_or_read(memory, at, piece as usize, &mut buffer) else { continue };
            let skipped = into.wrapping_sub(at.get()) % ALIGNMENT;
            let places = (skipped as usize..bytes.len()).step_by(ALIGNMENT as usize);
            for place in places {
                let head = u64_at(bytes, place).unwrap_or(0);
                if head < LOWEST_KERNEL
                    || !head.is_multiple_of(8)
                    || u64_at(bytes, place + 8).unwrap_or(0) < LOWEST_KERNEL
                {
                    continue;
                }
                let physical = at.get().wrapping_add(place as u64).wrapping_sub(self.traced);
                let is_object = |Objects { first, stride }: Objects| {
                    let into = physical.checked_sub(start.get()).and_then(|into| into.checked_sub(first));
                    into.is_some_and(|into| into.is_multiple_of(stride))
                };
                if !objects.is_none_or(is_object) {
                    continue;
                }
                let task = VirtAddr::new(physical.wrapping_add(self.direct_map));
                if !self.left.take() {
                    return Err(LinuxError::Broken {
                        what: "the search for tasks",
                        at: task,
                        reason: "more places than the limit look like one",
                    });
                }
                if self.linux.looks_like_task(task) {
                    self.found.push(task);
                }
            }
        }
        Ok(())
    }
}
