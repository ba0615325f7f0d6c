//! Walks over the kernel's red-black trees (`include/linux/rbtree.h`), in order, bounded, with circles found.

use alloc::vec::Vec;

use hashbrown::HashSet;
use vmc::VirtAddr;

use crate::error::LinuxError;
use crate::kernel::Linux;

/// The structures of a tree in its order, and why they are not all.
pub(crate) type Nodes = (Vec<VirtAddr>, Option<LinuxError>);

impl Linux<'_> {
    /// The structures in the tree below the node `root`; each holds its node at `offset`. At most `limit` of them.
    pub(crate) fn tree_nodes(
        &self,
        what: &'static str,
        root: VirtAddr,
        offset: u64,
        limit: usize,
    ) -> Result<Nodes, LinuxError> {
        let fields = self.rb_node()?;
        let broken = |at, reason| Some(LinuxError::Broken { what, at, reason });
        let read = LinuxError::read(what);
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        // Nodes whose left side is being walked.
        let mut open: Vec<VirtAddr> = Vec::new();
        let mut at = root;
        loop {
            while !at.is_null() {
                if !seen.insert(at) {
                    return Ok((found, broken(at, "the tree leads in a circle")));
                }
                if seen.len() > limit {
                    return Ok((found, broken(at, "the tree has more nodes than the limit")));
                }
                open.push(at);
                match fields.left.pointer(self.space(), at) {
                    Ok(left) => at = left,
                    Err(why) => return Ok((found, Some(read(why)))),
                }
            }
            let Some(node) = open.pop() else { return Ok((found, None)) };
            match node.checked_sub(offset) {
                Some(entry) => found.push(entry),
                None => return Ok((found, broken(node, "a node lies at the start of the address space"))),
            }
            match fields.right.pointer(self.space(), node) {
                Ok(right) => at = right,
                Err(why) => return Ok((found, Some(read(why)))),
            }
        }
    }
}
