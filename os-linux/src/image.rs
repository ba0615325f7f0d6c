//! The kernel's image in its own address space: which parts of it are mapped, and how.
//!
//! It is contiguous in virtual memory but for what the kernel unmaps once it has booted (initialisation code).

use alloc::borrow::Cow;
use alloc::vec::Vec;

use vmc::{AddressSpace, Limits, PageTables, ReadExt, TranslateError, VirtAddr};

/// Where x86_64 maps the image, and how far it may reach (`Documentation/arch/x86/x86_64/mm.rst`).
const X86_64_MAP: u64 = 0xffff_ffff_8000_0000;
const X86_64_BYTES: u64 = 1 << 30;
/// What other architectures' images have at the most, and may have before `_stext`.
const OTHER_BYTES: u64 = 256 << 20;
const BEFORE_STEXT: u64 = 2 << 20;
/// Pages that are looked at, one by one, at the most: large pages and large holes are one step.
const STEPS: usize = 1 << 20;

/// A part of the image that is mapped in one piece, with the same permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) start: VirtAddr,
    pub(crate) len: u64,
    pub(crate) writable: bool,
    pub(crate) executable: bool,
}

impl Part {
    /// Does `address` lie in it?
    pub(crate) fn contains(&self, address: VirtAddr) -> bool {
        address.offset_from(self.start).is_some_and(|offset| offset < self.len)
    }

    fn end(&self) -> Option<VirtAddr> {
        self.start.checked_add(self.len)
    }
}

/// The mapped parts of the kernel's image, ascending.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub(crate) parts: Vec<Part>,
}

impl Image {
    /// The image that `space` maps; `stext` has to be known where the architecture does not say where images lie.
    pub(crate) fn of(space: &AddressSpace<'_>, stext: Option<VirtAddr>) -> Self {
        let (start, len) = match (space.tables(), stext) {
            (PageTables::X86_64(_), _) => (X86_64_MAP, X86_64_BYTES),
            (_, Some(stext)) => (stext.get().saturating_sub(BEFORE_STEXT), OTHER_BYTES),
            (_, None) => return Self::default(),
        };
        Self { parts: parts(space, start & !0xffff, len) }
    }

    /// The part that `address` lies in.
    pub(crate) fn part_at(&self, address: VirtAddr) -> Option<&Part> {
        self.parts.iter().find(|part| part.contains(address))
    }

    /// Stretches of the image without holes: start and length.
    pub(crate) fn stretches(&self) -> Vec<(VirtAddr, u64)> {
        let mut found: Vec<(VirtAddr, u64)> = Vec::new();
        for part in &self.parts {
            match found.last_mut() {
                Some((start, len)) if start.checked_add(*len) == Some(part.start) => *len += part.len,
                _ => found.push((part.start, part.len)),
            }
        }
        found
    }

    /// The bytes of a stretch: lent where they lie in one piece, else as many as an image may have.
    pub(crate) fn bytes<'m>(space: &AddressSpace<'m>, start: VirtAddr, len: u64) -> Cow<'m, [u8]> {
        let bytes = |len: u64| usize::try_from(len).unwrap_or(0);
        match space.slice(start, bytes(len)) {
            Some(lent) => Cow::Borrowed(lent),
            None => Cow::Owned(space.read_part(start, bytes(len.min(Limits::DEFAULT.kernel_image_bytes))).0),
        }
    }
}

fn parts(space: &AddressSpace<'_>, start: u64, len: u64) -> Vec<Part> {
    let page = space.tables().page_size();
    // A table of 64-bit entries fills a page.
    let bits = page.trailing_zeros().saturating_sub(3);
    let end = start.saturating_add(len);
    let mut parts: Vec<Part> = Vec::new();
    let mut at = start;
    for _ in 0..STEPS {
        if at >= end {
            break;
        }
        let (size, walk) = match space.walk(VirtAddr::new(at)) {
            Ok(walk) => (walk.page_size, Some(walk)),
            Err(TranslateError::NotPresent { level, .. }) => {
                let shift = bits.saturating_mul(u32::from(level).saturating_sub(1));
                (page.checked_shl(shift.min(40)).unwrap_or(page).max(page), None)
            }
            Err(_) => (page, None),
        };
        // Up to the end of the page, or of the hole.
        let step = size - at % size;
        if let Some(walk) = walk.filter(|walk| !walk.user) {
            let start = VirtAddr::new(at);
            match parts.last_mut() {
                Some(last)
                    if last.end() == Some(start)
                        && last.writable == walk.writable
                        && last.executable == walk.executable =>
                {
                    last.len += step;
                }
                _ => parts.push(Part {
                    start,
                    len: step,
                    writable: walk.writable,
                    executable: walk.executable,
                }),
            }
        }
        at = at.saturating_add(step);
    }
    parts
}
