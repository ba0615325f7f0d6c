//! [`VadTree`]: a process' VADs, and the one that an address lies in.

use core::fmt;

use vmc::layout::Field;
use vmc::{Fault, ReadExt, VirtAddr};

use super::layout::{Node, VadLayout};
use crate::error::WindowsError;
use crate::windows::Windows;

/// The VADs of a process.
pub(crate) struct VadTree<'w, 'm> {
    pub(super) windows: &'w Windows<'m>,
    pub(super) layout: VadLayout,
    pub(super) root: VirtAddr,
}

impl fmt::Debug for VadTree<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VadTree").field("root", &self.root).finish_non_exhaustive()
    }
}

impl<'w, 'm> VadTree<'w, 'm> {
    /// The VADs of the process at `eprocess`.
    pub(crate) fn new(windows: &'w Windows<'m>, eprocess: VirtAddr) -> Result<Self, WindowsError> {
        let layout = VadLayout::new(windows)?;
        let root = VadLayout::root(windows, eprocess)?;
        Ok(Self { windows, layout, root })
    }

    /// The VAD that `va` lies in. The tree is balanced: one that is deeper than twice [`vmc::Limits::tree_depth`] is none.
    pub(crate) fn find(&self, va: VirtAddr) -> Result<Option<Node>, Fault> {
        let page = va.get() >> 12;
        let mut at = self.root;
        for _ in 0..self.windows.limits().tree_depth.saturating_mul(2) {
            if at.is_null() {
                return Ok(None);
            }
            let node = self.layout.read(self.windows, at);
            let node = node.map_err(|_| Fault::Lookup { reason: "a VAD of the process cannot be read" })?;
            if page < node.first {
                at = node.left;
            } else if page > node.last {
                at = node.right;
            } else {
                return Ok(Some(node));
            }
        }
        Err(Fault::Lookup { reason: "the tree of the process' VADs is deeper than its limit" })
    }

    /// Where the prototype entry of the page of `va` lies, which `vad` maps.
    pub(crate) fn prototype(&self, vad: &Node, va: VirtAddr) -> Result<VirtAddr, Fault> {
        let unreadable = |_| Fault::Lookup { reason: "the VAD's section cannot be read" };
        let kernel = self.windows.kernel();
        let section = self.layout.section;
        let section =
            section.ok_or(Fault::Lookup { reason: "the types tell nothing of VADs with a section" })?;
        let field = |offset| kernel.read_pointer(vad.object.wrapping_add(offset)).map_err(unreadable);
        let (first, last) = (field(section.first)?, field(section.last)?);
        let pages = (va.get() >> 12).saturating_sub(vad.first);
        if first.is_null() {
            return Err(Fault::InFile { prototype: first });
        }
        let at = first.wrapping_add(pages.wrapping_mul(8));
        if at <= last && at >= first {
            return Ok(at);
        }
        self.in_subsections(field(section.subsection)?, first, pages)
    }

    /// The same, where the entries do not lie in one piece: each subsection has its own.
    fn in_subsections(&self, subsection: VirtAddr, first: VirtAddr, pages: u64) -> Result<VirtAddr, Fault> {
        let types = self.windows.types();
        let kernel = self.windows.kernel();
        let unreadable = |_| Fault::Lookup { reason: "a subsection of the VAD cannot be read" };
        let untold = |_| Fault::Lookup { reason: "the types tell nothing of subsections" };
        let base = Field::<u64>::new(types, "_SUBSECTION", "SubsectionBase").map_err(untold)?;
        let next = Field::<u64>::new(types, "_SUBSECTION", "NextSubsection").map_err(untold)?;
        let count = Field::<u32>::new(types, "_SUBSECTION", "PtesInSubsection").map_err(untold)?;
        let mut at = subsection;
        let begin = base.pointer(kernel, at).map_err(unreadable)?;
        let skipped = first.offset_from(begin).filter(|_| !begin.is_null()).unwrap_or(0) / 8;
        let mut left = pages.saturating_add(skipped);
        for _ in 0..self.windows.limits().tree_nodes {
            let here = u64::from(count.read(kernel, at).map_err(unreadable)?);
            if let Some(behind) = left.checked_sub(here) {
                left = behind;
                at = next.pointer(kernel, at).map_err(unreadable)?;
                if at.is_null() {
                    return Err(Fault::Lookup {
                        reason: "the page lies behind the last subsection of its VAD",
                    });
                }
                continue;
            }
            let base = base.pointer(kernel, at).map_err(unreadable)?;
            if base.is_null() {
                return Err(Fault::InFile { prototype: base });
            }
            return Ok(base.wrapping_add(left.wrapping_mul(8)));
        }
        Err(Fault::Lookup { reason: "the VAD has more subsections than the limit" })
    }
}
