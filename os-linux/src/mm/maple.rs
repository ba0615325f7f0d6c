//! Maple trees (`lib/maple_tree.c`, `include/linux/maple_tree.h`): ranges of addresses to entries.
//!
//! A pointer to a node has its type in bits 3 to 6 and flags in the others of its low eight; in the root bit 1 marks it as a
//! node, in an inner node every slot leads to one. A node has pivots (the last address of each slot) and slots; the last slot's pivot is the end of the node's own range. A pivot of zero
//! behind the first ends the node.

use alloc::vec::Vec;

use vmc::VirtAddr;

use crate::error::LinuxError;
use crate::kernel::Linux;

/// Node types: a leaf, an inner node, an inner node that knows its gaps.
const LEAF: u64 = 1;
const RANGE: u64 = 2;
const ARANGE: u64 = 3;
/// Entries below are the tree's own, not pointers.
const RESERVED: u64 = 4096;

/// A node that is still to be gone through.
struct Open {
    entry: u64,
    min: u64,
    max: u64,
    depth: usize,
}

fn root_is_node(entry: u64) -> bool {
    entry & 3 == 2 && entry > RESERVED
}

/// Calls `add` with each entry of the tree whose root is `root`, in the order of addresses.
pub(super) fn walk(
    linux: &Linux<'_>,
    root: u64,
    add: &mut impl FnMut(VirtAddr) -> Result<(), LinuxError>,
) -> Result<(), LinuxError> {
    if !root_is_node(root) {
        // A tree of one entry.
        return if root > RESERVED && root & 3 == 0 { add(VirtAddr::new(root)) } else { Ok(()) };
    }
    let mut nodes = 0usize;
    let mut open = Vec::from([Open { entry: root, min: 0, max: u64::MAX, depth: 0 }]);
    while let Some(Open { entry, min, max, depth }) = open.pop() {
        let at = VirtAddr::new(entry & !0xff);
        let broken = |reason| LinuxError::Broken { what: "the tree of mappings", at, reason };
        nodes += 1;
        if nodes > linux.limits().tree_nodes {
            return Err(broken("it has more nodes than the limit"));
        }
        if depth > linux.limits().tree_depth {
            return Err(broken("it is deeper than the limit"));
        }
        let kind = (entry >> 3) & 0xf;
        let mut slots = read_node(linux, at, kind)?;
        let inner = kind != LEAF;
        let behind = open.len();
        let mut first = min;
        let count = slots.len();
        for (index, (slot, pivot)) in slots.drain(..).enumerate() {
            let last = index + 1 == count || (pivot == 0 && index > 0);
            let end = if last { max } else { pivot.min(max) };
            if end < first {
                return Err(broken("its pivots do not ascend"));
            }
            match (inner, slot) {
                (true, slot) if slot > RESERVED => {
                    open.push(Open { entry: slot, min: first, max: end, depth: depth + 1 })
                }
                (false, slot) if slot > RESERVED && slot & 3 == 0 => add(VirtAddr::new(slot))?,
                _ => {}
            }
            if end >= max {
                break;
            }
            first = end + 1;
        }
        // The first child is to be taken first.
        if let Some(children) = open.get_mut(behind..) {
            children.reverse();
        }
    }
    Ok(())
}

/// The slots of a node and their pivots; the last one has none of its own.
fn read_node(linux: &Linux<'_>, at: VirtAddr, kind: u64) -> Result<Vec<(u64, u64)>, LinuxError> {
    let read = LinuxError::read("a node of the tree of mappings");
    let space = linux.space();
    Ok(match kind {
        LEAF | RANGE => {
            let fields = linux.maple_range()?;
            let pivots = fields.pivots.read(space, at).map_err(&read)?;
            let slots = fields.slots.read(space, at).map_err(&read)?;
            slots.into_iter().zip(pivots.into_iter().chain([0])).collect()
        }
        ARANGE => {
            let fields = linux.maple_arange()?;
            let pivots = fields.pivots.read(space, at).map_err(&read)?;
            let slots = fields.slots.read(space, at).map_err(&read)?;
            slots.into_iter().zip(pivots.into_iter().chain([0])).collect()
        }
        _ => {
            return Err(LinuxError::Broken {
                what: "the tree of mappings",
                at,
                reason: "a node is of an unknown type",
            });
        }
    })
}
