//! [`Vads`]: the rows of a process' VADs, in the order of their addresses.

use alloc::string::String;
use alloc::vec::Vec;

use hashbrown::HashSet;
use vmc::layout::Types;
use vmc::view::RowErrors;
use vmc::{ReadExt, VirtAddr};

use super::layout::Node;
use super::protection::Protections;
use super::tree::VadTree;
use crate::bits::Bits;
use crate::error::WindowsError;
use crate::rows::{VadKind, VadRow};
use crate::text::unicode_string;

/// Where a file's name is found, from a subsection on.
#[derive(Clone, Copy, Debug)]
struct FilePath {
    control_area: u64,
    file: u64,
    /// Low bits of the pointer to the file that count references.
    counted: u64,
    name: u64,
}

/// The VADs of a process: an in-order walk that no depth and no circle of the tree breaks.
#[derive(Debug)]
pub struct Vads<'w, 'm> {
    tree: VadTree<'w, 'm>,
    protections: Result<Protections, WindowsError>,
    file: Option<FilePath>,
    /// Where the walk goes down next.
    next: VirtAddr,
    /// Nodes whose left side is being gone through.
    above: Vec<Node>,
    seen: HashSet<VirtAddr>,
    done: bool,
}

impl<'w, 'm> Vads<'w, 'm> {
    pub(super) fn new(tree: VadTree<'w, 'm>) -> Self {
        let windows = tree.windows;
        let types = windows.types();
        let offset = |structure, path| types.member(structure, path).ok().map(|member| member.offset);
        let counted =
            Bits::in_type(types, "_EX_FAST_REF", "RefCnt", windows.limits()).map_or(0xf, |bits| bits.most());
        let file = || {
            Some(FilePath {
                control_area: offset("_SUBSECTION", "ControlArea")?,
                file: offset("_CONTROL_AREA", "FilePointer")?,
                counted,
                name: offset("_FILE_OBJECT", "FileName")?,
            })
        };
        let (file, next) = (file(), tree.root);
        let protections = Protections::read(windows);
        Self { tree, protections, file, next, above: Vec::new(), seen: HashSet::new(), done: false }
    }

    fn row(&self, node: &Node) -> VadRow {
        let limits = self.tree.windows.limits();
        let mut errors = RowErrors::default();
        let kind = match (node.image, node.private) {
            (true, _) => VadKind::Image,
            (false, true) => VadKind::Private,
            (false, false) => VadKind::Mapped,
        };
        let protections = errors.keep(limits, "protection", self.protections.as_ref());
        let protection = protections.and_then(|names| names.name(node.protection));
        let path = if node.private { Ok(None) } else { self.path(node) };
        let path = errors.keep(limits, "path", path).flatten();
        // A page number of 52 bits is as far as addresses go; what lies above is a lie of the guest.
        let address = |page: u64| VirtAddr::new(page.saturating_mul(0x1000));
        VadRow {
            start: address(node.first),
            end: address(node.last.saturating_add(1)),
            protection,
            kind,
            path,
            commit: node.charge,
            object: node.object,
            errors,
        }
    }

    /// The name of the file behind a range.
    fn path(&self, node: &Node) -> Result<Option<String>, WindowsError> {
        let (Some(path), Some(section)) = (self.file, self.tree.layout.section) else { return Ok(None) };
        let windows = self.tree.windows;
        let pointer = |what: &'static str, at: VirtAddr, offset: u64| {
            windows.kernel().read_pointer(at.wrapping_add(offset)).map_err(WindowsError::read(what))
        };
        let subsection = pointer("the VAD's subsection", node.object, section.subsection)?;
        if subsection.is_null() {
            return Ok(None);
        }
        let area = pointer("the subsection's control area", subsection, path.control_area)?;
        if area.is_null() {
            return Ok(None);
        }
        let file = pointer("the control area's file", area, path.file)?;
        let file = VirtAddr::new(file.get() & !path.counted);
        if file.is_null() {
            return Ok(None);
        }
        let name = unicode_string(windows.kernel(), file.wrapping_add(path.name), windows.limits());
        name.map(Some).map_err(WindowsError::read("the file's name"))
    }

    fn broken(at: VirtAddr, reason: &'static str) -> WindowsError {
        WindowsError::Broken { what: "the tree of VADs", at, reason }
    }
}

impl Iterator for Vads<'_, '_> {
    type Item = Result<VadRow, WindowsError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done && !self.next.is_null() {
            let at = core::mem::take(&mut self.next);
            if self.seen.len() >= self.tree.windows.limits().mappings {
                self.done = true;
                return Some(Err(Self::broken(at, "it has more nodes than the limit")));
            }
            if !self.seen.insert(at) {
                return Some(Err(Self::broken(at, "it leads in a circle")));
            }
            match self.tree.layout.read(self.tree.windows, at) {
                Ok(node) => {
                    self.next = node.left;
                    self.above.push(node);
                }
                Err(source) => return Some(Err(WindowsError::Read { what: "a VAD", source })),
            }
        }
        if self.done {
            return None;
        }
        let node = self.above.pop()?;
        self.next = node.right;
        Some(Ok(self.row(&node)))
    }
}
