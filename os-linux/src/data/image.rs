//! [`KernelImage`]: where the parts of the kernel's image lie, by page tables alone, and the search in them.
//!
//! The image is contiguous in physical memory, and the kernel's page tables keep the distance between both address spaces the
//! same in all of it. Parts that only the boot needed are unmapped later, so there are holes.

use alloc::vec::Vec;

use memchr::memmem;
use vmc::memory::lend_or_read;
use vmc::{AddressSpace, Limits, PhysAddr, TranslateError, VirtAddr};

/// A hole that is larger is the image's end: what a boot leaves behind is smaller.
const LARGEST_HOLE: u64 = 64 << 20;
/// `_stext` lies at most so far behind `_text`: a segment's alignment.
const BEFORE_STEXT: u64 = 2 << 20;

/// A run of the image with the same permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) start: VirtAddr,
    pub(crate) physical: PhysAddr,
    pub(crate) len: u64,
    pub(crate) writable: bool,
    pub(crate) executable: bool,
}

/// The parts of the kernel's image, ascending.
#[derive(Debug, Default)]
pub(crate) struct KernelImage {
    parts: Vec<Part>,
}

impl KernelImage {
    /// The image that `stext` lies in.
    pub(crate) fn of(space: &AddressSpace<'_>, stext: VirtAddr, limits: &Limits) -> Self {
        let mut parts: Vec<Part> = Vec::new();
        let Ok(physical) = space.translate(stext) else { return Self { parts } };
        let Some(mut at) = stext.align_down(BEFORE_STEXT).checked_sub(BEFORE_STEXT) else {
            return Self { parts };
        };
        let (tables, mut left) = (space.tables(), limits.kernel_image_bytes);
        let mut hole = 0u64;
        while left > 0 && hole < LARGEST_HOLE {
            let walked = space.walk(at);
            let span = match &walked {
                Ok(walk) => walk.page_size,
                Err(TranslateError::NotPresent { level, .. } | TranslateError::Table { level, .. }) => {
                    tables.entry_span(*level)
                }
                Err(_) => tables.page_size(),
            };
            let step = span.wrapping_sub(at.offset_in(span)).min(left);
            let expected = PhysAddr::new(physical.get().wrapping_add(at.get().wrapping_sub(stext.get())));
            match walked {
                Ok(walk) if walk.physical == expected => {
                    hole = 0;
                    let same = parts.last_mut().filter(|last| {
                        last.start.wrapping_add(last.len) == at
                            && (last.writable, last.executable) == (walk.writable, walk.executable)
                    });
                    match same {
                        Some(last) => last.len += step,
                        None => parts.push(Part {
                            start: at,
                            physical: walk.physical,
                            len: step,
                            writable: walk.writable,
                            executable: walk.executable,
                        }),
                    }
                }
                _ => hole = hole.saturating_add(step),
            }
            left -= step;
            let Some(next) = at.checked_add(step) else { break };
            at = next;
        }
        Self { parts }
    }

    /// The first byte behind the image.
    pub(crate) fn end(&self) -> Option<VirtAddr> {
        self.parts.last().map(|last| last.start.wrapping_add(last.len))
    }

    /// The range from the image's first byte to its last, holes included.
    pub(crate) fn spans(&self, address: VirtAddr) -> bool {
        self.parts.first().is_some_and(|first| first.start <= address)
            && self.end().is_some_and(|end| address < end)
    }

    /// Does `address` lie in a part that is mapped?
    pub(crate) fn contains(&self, address: VirtAddr) -> bool {
        let behind = self.parts.partition_point(|part| part.start <= address);
        let part = behind.checked_sub(1).and_then(|at| self.parts.get(at));
        part.is_some_and(|part| address.offset_from(part.start).is_some_and(|into| into < part.len))
    }

    /// Data: parts without code; those that can be written first.
    fn data(&self) -> impl Iterator<Item = &Part> {
        let of =
            |writable| self.parts.iter().filter(move |part| !part.executable && part.writable == writable);
        of(true).chain(of(false))
    }

    /// The first place in its data where `needle` begins and `accept` says yes.
    pub(crate) fn find_bytes<T>(
        &self,
        space: &AddressSpace<'_>,
        needle: &[u8],
        mut accept: impl FnMut(VirtAddr) -> Option<T>,
    ) -> Option<T> {
        let finder = memmem::Finder::new(needle);
        let mut buffer = Vec::new();
        self.data().find_map(|part| {
            let bytes = part.bytes(space, &mut buffer)?;
            finder.find_iter(bytes).find_map(|at| accept(part.start.wrapping_add(at as u64)))
        })
    }

    /// The first place in its data, a multiple of 8, where `accept` says yes of the address and the bytes from there to the
    /// part's end.
    pub(crate) fn find_words<T>(
        &self,
        space: &AddressSpace<'_>,
        mut accept: impl FnMut(VirtAddr, &[u8]) -> Option<T>,
    ) -> Option<T> {
        let mut buffer = Vec::new();
        self.data().find_map(|part| {
            let bytes = part.bytes(space, &mut buffer)?;
            (0..bytes.len())
                .step_by(8)
                .find_map(|at| accept(part.start.wrapping_add(at as u64), bytes.get(at..)?))
        })
    }
}

impl Part {
    fn bytes<'a>(&self, space: &AddressSpace<'a>, buffer: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        lend_or_read(space.memory(), self.physical, usize::try_from(self.len).ok()?, buffer).ok()
    }
}
