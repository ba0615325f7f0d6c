//! Numbers of tasks: each namespace of them keeps its `struct pid`s in an IDR, and each of those knows its tasks.
//!
//! Source: `kernel/pid.c`, `include/linux/pid.h`; the tree is an xarray (`include/linux/xarray.h`), in which a pointer to a
//! node ends with the bits `10`; until 4.19 it was a radix tree, whose ones ended with `01`.

use alloc::vec::Vec;

use hashbrown::{HashMap, HashSet};
use vmc::layout::Types;
use vmc::view::RowErrors;
use vmc::{ReadExt, VirtAddr};

use super::limited::Left;
use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::lists::ChainWalk;

/// Entries below are the tree's own.
const RESERVED: u64 = 4096;

/// Where `struct pid` and a task keep what ties them together: lists of a number's tasks, one a kind of number.
#[derive(Clone, Copy, Debug)]
struct Links {
    /// The lists in `struct pid`.
    lists: u64,
    kinds: u64,
    /// The nodes in a task, and how far they lie from each other.
    nodes: u64,
    stride: u64,
    /// The numbers in `struct pid`, and the size of one.
    numbers: u64,
    number: u64,
}

/// All namespaces that were met, and the `struct pid`s in each.
#[derive(Debug)]
pub(super) struct Numbers {
    links: Links,
    spaces: HashMap<VirtAddr, HashSet<VirtAddr>>,
    /// Namespaces that were gone through, or are about to be.
    met: HashSet<VirtAddr>,
    /// Namespaces, and `struct pid`s, that could not be gone through to their end.
    incomplete: HashSet<VirtAddr>,
    /// There are more namespaces than the limit.
    cut: bool,
    nodes_left: Left,
    slots_left: Left,
    entries_left: Left,
}

impl Numbers {
    pub(super) fn new(linux: &Linux<'_>) -> Result<Self, LinuxError> {
        let types = linux.types();
        let lists = types.member("pid", "tasks")?;
        let kinds = (lists.size / 8).clamp(1, 8);
        let nodes =
            types.member("task_struct", "pid_links").or_else(|_| types.member("task_struct", "pids"))?;
        let links = Links {
            lists: lists.offset,
            kinds,
            nodes: nodes.offset,
            stride: nodes.size / kinds,
            numbers: types.member("pid", "numbers")?.offset,
            number: types.size_of("upid")?,
        };
        let limits = linux.limits();
        Ok(Self {
            links,
            spaces: HashMap::new(),
            met: HashSet::new(),
            incomplete: HashSet::new(),
            cut: false,
            nodes_left: Left(limits.tree_nodes),
            slots_left: Left(limits.tasks),
            entries_left: Left(limits.tasks),
        })
    }

    /// The `struct pid` of a task, where it has no pointer to it of its own (before 4.19).
    pub(super) fn number_of(&self, linux: &Linux<'_>, task: VirtAddr) -> VirtAddr {
        let at = task.wrapping_add(self.links.nodes + 16);
        linux.space().read_pointer(at).unwrap_or_default()
    }

    /// The namespaces that `number` is in, the outermost first.
    fn namespaces_of(&self, linux: &Linux<'_>, number: VirtAddr) -> Result<Vec<VirtAddr>, LinuxError> {
        let read = LinuxError::read("struct pid");
        let level = linux.pid()?.level.read(linux.space(), number).map_err(&read)?;
        // `MAX_PID_NS_LEVEL`.
        let levels = u64::from(level.min(32)) + 1;
        let field = linux.pid_number()?.namespace;
        let at = |level: u64| number.wrapping_add(self.links.numbers + level * self.links.number);
        (0..levels).map(|level| field.pointer(linux.space(), at(level)).map_err(&read)).collect()
    }

    /// Is `number` in the IDR of every namespace that it says it is in?
    pub(super) fn holds(&self, linux: &Linux<'_>, number: VirtAddr) -> bool {
        let namespaces = self.namespaces_of(linux, number).unwrap_or_default();
        let held = |at: &VirtAddr| self.spaces.get(at).is_some_and(|numbers| numbers.contains(&number));
        !namespaces.is_empty() && namespaces.iter().all(held)
    }

    /// Was everything gone through that would hold `number`? What was not promises nothing.
    pub(super) fn complete(&self, linux: &Linux<'_>, number: VirtAddr) -> bool {
        let namespaces = self.namespaces_of(linux, number).unwrap_or_default();
        !self.cut
            && !self.incomplete.contains(&number)
            && !namespaces.iter().any(|at| self.incomplete.contains(at))
    }

    /// Goes through the namespaces that `number` is in, as far as they are new, and through all that are met there.
    /// `see` gets each task, and whether it is the one whose number it is.
    pub(super) fn follow(
        &mut self,
        linux: &Linux<'_>,
        number: VirtAddr,
        errors: &mut RowErrors,
        see: &mut dyn FnMut(VirtAddr, bool),
    ) {
        match self.namespaces_of(linux, number) {
            Ok(namespaces) => {
                namespaces.into_iter().for_each(|at| self.namespace(linux, at, errors, see));
            }
            Err(why) => errors.push(linux.limits(), "pid_idr", &why),
        }
    }

    /// Goes through the namespace at `at`, unless that was done, and through all that are met there.
    pub(super) fn namespace(
        &mut self,
        linux: &Linux<'_>,
        at: VirtAddr,
        errors: &mut RowErrors,
        see: &mut dyn FnMut(VirtAddr, bool),
    ) {
        let mut open = Vec::new();
        self.meet(linux, at, &mut open, errors);
        while let Some(at) = open.pop() {
            let mut numbers = Vec::new();
            if let Err(why) = self.walk(linux, at, &mut numbers) {
                errors.push(linux.limits(), "pid_idr", &why);
                self.incomplete.insert(at);
            }
            for number in &numbers {
                for at in self.namespaces_of(linux, *number).unwrap_or_default() {
                    self.meet(linux, at, &mut open, errors);
                }
                self.tasks_of(linux, *number, errors, see);
            }
            self.spaces.insert(at, numbers.into_iter().collect());
        }
    }

    /// Puts a namespace among those to go through, unless it was there before.
    fn meet(&mut self, linux: &Linux<'_>, at: VirtAddr, open: &mut Vec<VirtAddr>, errors: &mut RowErrors) {
        if at.is_null() || self.met.contains(&at) {
            return;
        }
        if self.met.len() < linux.limits().namespaces {
            self.met.insert(at);
            open.push(at);
        } else if !self.cut {
            self.cut = true;
            errors.push(linux.limits(), "pid_idr", &"there are more namespaces than the limit");
        }
    }

    /// The tasks of a number, of all kinds: its own, those of its process, its group and its session.
    fn tasks_of(
        &mut self,
        linux: &Linux<'_>,
        number: VirtAddr,
        errors: &mut RowErrors,
        see: &mut dyn FnMut(VirtAddr, bool),
    ) {
        for kind in 0..self.links.kinds {
            let head = number.wrapping_add(self.links.lists + kind * 8);
            let first = match linux.space().read_pointer(head) {
                Ok(first) => first,
                Err(source) => {
                    errors.push(linux.limits(), "pid_idr", &source);
                    self.incomplete.insert(number);
                    return;
                }
            };
            let offset = self.links.nodes + kind * self.links.stride;
            for task in ChainWalk::new(linux, "the tasks of a number", first, offset, self.entries_left.0) {
                match task {
                    // The walk has no more steps than are left.
                    Ok(task) => {
                        self.entries_left.take();
                        see(task, kind == 0);
                    }
                    Err(why) => {
                        errors.push(linux.limits(), "pid_idr", &why);
                        self.incomplete.insert(number);
                    }
                }
            }
        }
    }

    /// Gathers the `struct pid`s in a namespace's IDR; an error says why they are not all.
    fn walk(&mut self, linux: &Linux<'_>, at: VirtAddr, found: &mut Vec<VirtAddr>) -> Result<(), LinuxError> {
        let space = linux.space();
        let types = linux.types();
        let fields = linux.pid_namespace()?;
        let read = LinuxError::read("a namespace of numbers");
        let (head, mark, node_type) = match (fields.head, fields.old_head) {
            (Some(field), _) => (field, 2, "xa_node"),
            (None, Some(field)) => (field, 1, "radix_tree_node"),
            (None, None) => {
                let (structure, member) = ("pid_namespace".into(), "idr".into());
                return Err(vmc::layout::LayoutError::NoMember { structure, member }.into());
            }
        };
        let shift = types.member(node_type, "shift")?.offset;
        let slots = types.member(node_type, "slots")?;
        let root = head.read(space, at).map_err(&read)?;
        // Each node with the shift of the one above it: they get smaller, so there is no circle.
        let mut open = Vec::from([(root, u32::MAX)]);
        while let Some((entry, above)) = open.pop() {
            if entry < RESERVED {
                continue;
            }
            let node = VirtAddr::new(entry & !3);
            let broken = |reason| LinuxError::Broken { what: "the tree of numbers", at: node, reason };
            if entry & 3 != mark {
                if entry & 7 == 0 {
                    if !self.slots_left.take() {
                        return Err(broken("the trees have more entries than the limit"));
                    }
                    found.push(node);
                }
                continue;
            }
            if !self.nodes_left.take() {
                return Err(broken("it has more nodes than the limit"));
            }
            let shift: u8 = space.read_value(node.wrapping_add(shift)).map_err(&read)?;
            if u32::from(shift) >= above {
                return Err(broken("its levels do not descend"));
            }
            let words = space.read_vec(node.wrapping_add(slots.offset), slots.size, 8 * 64).map_err(&read)?;
            let entries = words.chunks_exact(8).filter_map(|word| vmc::bytes::u64_at(word, 0));
            open.extend(entries.rev().map(|entry| (entry, u32::from(shift))));
        }
        Ok(())
    }
}
