//! Modules by all ways: their list, their kobjects in sysfs, the tree that tells whose an address is, the list of those that may
//! report bugs, and the memory that modules lie in.
//!
//! Source: `kernel/module/main.c`, `kernel/module/tree_lookup.c`, `kernel/params.c` (`module_kset`), `lib/bug.c`.

use alloc::vec::Vec;

use hashbrown::HashMap;
use vmc::layout::Types;
use vmc::memory::lend_or_read;
use vmc::view::{Module, RowErrors, Way, Ways};
use vmc::{PageTables, ReadExt, TranslateError, VirtAddr};

use super::limited::Left;
use super::{Survey, Surveyed};
use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::lists::ListWalk;

/// The ways, by their places in [`NAMES`].
const LIST: usize = 0;
const KOBJECTS: usize = 1;
const TREE: usize = 2;
const BUGS: usize = 3;
const MEMORY: usize = 4;
const NAMES: [&str; 5] = ["module_list", "kobjects", "address_tree", "bug_list", "memory"];

/// `MODULE_STATE_LIVE`: it is whole, and on everything.
const LIVE: u32 = 0;
const STATES: u32 = 4;
/// Where x86_64 keeps modules (`Documentation/arch/x86/x86_64/mm.rst`), without KASLR; with it, only the upper part.
const X86_MODULES: (u64, u64) = (0xffff_ffff_a000_0000, 0xffff_ffff_ff00_0000);
/// How far from those that are known modules are looked for elsewhere: branches reach that far.
const NEAR: u64 = 128 << 20;
/// No architecture's region of modules is larger: arm64's has 2 GiB (`arch/arm64/include/asm/memory.h`, 6.5).
const REGION: u64 = 4 << 30;
const PAGE: u64 = 4096;

/// What was found, in its order, and by which ways.
struct Found {
    bits: HashMap<VirtAddr, u8>,
    order: Vec<VirtAddr>,
    /// How many more there may be; what only the list holds, and is no module, takes no module's place.
    left: Left,
    strange_left: Left,
    /// There are more than the limit.
    cut: bool,
    /// The ways that were not walked to their end.
    torn: u8,
}

impl Found {
    fn new(limit: usize) -> Self {
        let (bits, order) = (HashMap::new(), Vec::new());
        Self { bits, order, left: Left(limit), strange_left: Left(limit), cut: false, torn: 0 }
    }

    fn see(&mut self, at: VirtAddr, way: usize, sound: bool) {
        if let Some(bits) = self.bits.get_mut(&at) {
            *bits |= 1 << way;
            return;
        }
        let left = if sound { &mut self.left } else { &mut self.strange_left };
        if left.take() {
            self.bits.insert(at, 1 << way);
            self.order.push(at);
        } else {
            self.cut = true;
        }
    }

    /// A way was not walked to its end: it promises nothing.
    fn tear(&mut self, way: usize) {
        self.torn |= 1 << way;
    }
}

impl<'m> Linux<'m> {
    /// The modules by all ways: their list, their kobjects, the tree of their areas, the list of those that may report bugs, and
    /// the memory they lie in. What is missing from one says so in [`Ways::hidden_from`].
    ///
    /// # Errors
    /// [`LinuxError`] where the list is not to be found.
    pub fn modules_all_ways(&self) -> Result<Survey<Module>, LinuxError> {
        let limits = self.limits();
        let mut errors = RowErrors::default();
        let mut found = Found::new(limits.modules);
        let mut there = [true, false, false, false, false];
        for module in self.module_objects()? {
            match module {
                Ok(at) => found.see(at, LIST, self.looks_like_module(at)),
                Err(why) => {
                    errors.push(limits, "module_list", &why);
                    found.tear(LIST);
                }
            }
        }
        type Walk<'m> = fn(&Linux<'m>, &mut Found, &mut RowErrors) -> Result<(), LinuxError>;
        let walks: [(usize, Walk<'m>); 4] = [
            (KOBJECTS, Self::module_kobjects),
            (TREE, Self::module_tree),
            (BUGS, Self::module_bugs),
            (MEMORY, Self::module_memory_scan),
        ];
        for (way, walk) in walks {
            let name = NAMES.get(way).copied().unwrap_or_default();
            let walked = walk(self, &mut found, &mut errors);
            if errors.keep(limits, name, walked).is_some()
                && let Some(there) = there.get_mut(way)
            {
                *there = true;
            }
        }
        if found.cut {
            errors.push(limits, "modules", &"there are more than the limit");
        }
        let mut rows = Vec::new();
        let mut ended = 0;
        for at in found.order {
            let bits = found.bits.get(&at).copied().unwrap_or(0);
            let live = self.module()?.state.read(self.space(), at) == Ok(LIVE);
            let ways = NAMES.into_iter().zip(there).enumerate().filter(|(_, (_, there))| *there);
            let ways = ways.map(|(way, (name, _))| Way {
                name,
                found: bits & (1 << way) != 0,
                promised: live && way != MEMORY && found.torn & (1 << way) == 0,
            });
            let ways = Ways(ways.collect());
            match self.module_row(at) {
                Some(what) if live || bits & (1 << LIST) != 0 => rows.push(Surveyed { what, ways }),
                _ => ended += 1,
            }
        }
        Ok(Survey { rows, ended, errors })
    }

    /// Sees a module where a way leads to one, and says so where it leads to something else.
    fn see_module(&self, found: &mut Found, errors: &mut RowErrors, at: VirtAddr, way: usize) {
        if found.bits.contains_key(&at) || self.looks_like_module(at) {
            found.see(at, way, true);
        } else {
            let name = NAMES.get(way).copied().unwrap_or_default();
            errors.push(self.limits(), name, &format_args!("it leads to {at}, which is no module"));
        }
    }

    /// Is there a module at `at`? Its kobject leads back to it, and its name is one.
    fn looks_like_module(&self, at: VirtAddr) -> bool {
        let (Ok(fields), Ok(ties)) = (self.module(), self.module_ties()) else { return false };
        let state = fields.state.read(self.space(), at).is_ok_and(|state| state < STATES);
        let own = ties.own.is_none_or(|field| field.pointer(self.space(), at) == Ok(at));
        let name = || {
            let member = self.types().member("module", "name").ok()?;
            let length = usize::try_from(member.size).ok()?.min(256);
            let name = self.space().read_cstr(at.wrapping_add(member.offset), length).ok()?;
            Some(!name.is_empty() && name.len() < length && name.iter().all(u8::is_ascii_graphic))
        };
        state && own && name() == Some(true)
    }

    fn module_kobjects(&self, found: &mut Found, errors: &mut RowErrors) -> Result<(), LinuxError> {
        let symbol = self.need("module_kset", self.known.module_kset)?;
        let set = self.space().read_pointer(symbol).map_err(LinuxError::read("module_kset"))?;
        let fields = self.module_kobject()?;
        let head = self.kset()?.list.address(set);
        let offset = fields.entry.address(VirtAddr::new(0)).get();
        for object in ListWalk::new(self, "the kobjects of modules", head, offset, self.limits().modules) {
            let module = object.and_then(|object| {
                fields.module.pointer(self.space(), object).map_err(LinuxError::read("a module's kobject"))
            });
            match module {
                // Parts of the kernel that have parameters have such an object too, and no module.
                Ok(module) if module.is_null() => {}
                Ok(module) => self.see_module(found, errors, module, KOBJECTS),
                Err(why) => {
                    errors.push(self.limits(), "kobjects", &why);
                    found.tear(KOBJECTS);
                }
            }
        }
        Ok(())
    }

    fn module_tree(&self, found: &mut Found, errors: &mut RowErrors) -> Result<(), LinuxError> {
        let at = self.need("mod_tree", self.known.module_tree)?;
        let latch = self.latch()?;
        let node = self.module_node()?.module;
        let read = LinuxError::read("the tree of modules");
        // While one tree is changed, the other is read: the lowest bit of the sequence says which.
        let which = latch.sequence.read(self.space(), at).map_err(&read)? & 1;
        let roots = latch.trees.read(self.space(), at).map_err(&read)?;
        let root = roots.get(which as usize).copied().unwrap_or_default();
        let nodes = self.types().member("mod_tree_node", "node.node")?;
        let offset = nodes.offset + nodes.size / 2 * u64::from(which);
        // Each area of a module is a node: seven kinds are known.
        let limit = self.limits().modules.saturating_mul(8);
        let (areas, ended) = self.tree_nodes("the tree of modules", VirtAddr::new(root), offset, limit)?;
        for area in areas {
            match node.pointer(self.space(), area) {
                Ok(module) => self.see_module(found, errors, module, TREE),
                Err(why) => {
                    errors.push(self.limits(), "address_tree", &why);
                    found.tear(TREE);
                }
            }
        }
        if let Some(why) = ended {
            errors.push(self.limits(), "address_tree", &why);
            found.tear(TREE);
        }
        Ok(())
    }

    fn module_bugs(&self, found: &mut Found, errors: &mut RowErrors) -> Result<(), LinuxError> {
        let head = self.need("module_bug_list", self.known.module_bugs)?;
        let field = self.module_ties()?.bugs;
        let missing =
            || vmc::layout::LayoutError::NoMember { structure: "module".into(), member: "bug_list".into() };
        let offset = field.ok_or_else(missing)?.address(VirtAddr::new(0)).get();
        for module in
            ListWalk::new(self, "the list of modules with bugs", head, offset, self.limits().modules)
        {
            match module {
                Ok(module) => self.see_module(found, errors, module, BUGS),
                Err(why) => {
                    errors.push(self.limits(), "bug_list", &why);
                    found.tear(BUGS);
                }
            }
        }
        Ok(())
    }

    /// Looks through the memory that modules lie in: a module's kobject holds the module's own address.
    fn module_memory_scan(&self, found: &mut Found, errors: &mut RowErrors) -> Result<(), LinuxError> {
        let own = self.module_ties()?.own;
        let missing =
            || vmc::layout::LayoutError::NoMember { structure: "module".into(), member: "mkobj.mod".into() };
        let own = own.ok_or_else(missing)?.address(VirtAddr::new(0)).get();
        let (start, end) = match self.tables() {
            PageTables::X86_64(_) => X86_MODULES,
            _ => {
                // The list may lead anywhere.
                let modules = found.order.iter().filter(|at| self.looks_like_module(**at));
                let places: Vec<u64> = modules.map(|at| at.get()).collect();
                let (Some(&low), Some(&high)) = (places.iter().min(), places.iter().max()) else {
                    return Ok(());
                };
                if high - low > REGION {
                    let (what, at) = ("the search for modules", VirtAddr::new(high));
                    let reason = "modules lie further apart than their region is large";
                    errors.push(self.limits(), "memory", &LinuxError::Broken { what, at, reason });
                }
                let start = low.saturating_sub(NEAR) & !(PAGE - 1);
                (start, high.saturating_add(NEAR).min(start.saturating_add(REGION)))
            }
        };
        let mut left = Left(self.limits().scan_candidates);
        let mut pages = Left(self.limits().module_pages);
        let mut buffer = Vec::new();
        let mut next = Some(VirtAddr::new(start));
        while let Some(at) = next.filter(|at| at.get() < end) {
            if !pages.take() {
                let (what, reason) = ("the search for modules", "their region is larger than the limit");
                errors.push(self.limits(), "memory", &LinuxError::Broken { what, at, reason });
                return Ok(());
            }
            next = at.checked_add(PAGE);
            let physical = match self.space().walk(at) {
                Ok(walk) => walk.physical,
                Err(TranslateError::NotPresent { level, .. }) => {
                    // The whole reach of the entry is not there.
                    let reach = self.tables().entry_span(level);
                    next = at.align_down(reach).checked_add(reach);
                    continue;
                }
                Err(_) => continue,
            };
            if let Ok(bytes) = lend_or_read(self.memory(), physical, PAGE as usize, &mut buffer) {
                for (index, word) in (0..).zip(bytes.chunks_exact(8)) {
                    let module = VirtAddr::new(at.get().wrapping_add(index * 8).wrapping_sub(own));
                    if vmc::bytes::u64_at(word, 0) != Some(module.get()) {
                        continue;
                    }
                    if !left.take() {
                        let (what, reason) =
                            ("the search for modules", "more places than the limit look like one");
                        errors.push(self.limits(), "memory", &LinuxError::Broken { what, at, reason });
                        return Ok(());
                    }
                    if self.looks_like_module(module) {
                        found.see(module, MEMORY, true);
                    }
                }
            }
        }
        Ok(())
    }
}
