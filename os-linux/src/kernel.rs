//! [`Linux`]: a guest's kernel, found, with its symbols and types at hand.

use alloc::boxed::Box;
use core::fmt;

use once_cell::race::OnceBox;
use vmc::layout::{Field, LayoutError, Types};
use vmc::symbols::SymbolTable;
use vmc::{AddressSpace, Limits, PageTables, PhysMemory, Vcpus, VirtAddr};

use crate::cpus::Cpus;
use crate::data::{FoundData, KernelImage, find_init_task, find_types};
use crate::error::LinuxError;
use crate::files::KernelFiles;
use crate::find::{Found, find};
use crate::fs::OverlayFields;
use crate::groups::Groups;
use crate::identity::KernelIdentity;
use crate::known::Known;
use crate::lazy::Lazy;
use crate::open::{complete, given_types, kernels_own, load_symbols};
use crate::stack::OrcCopy;
use crate::symbols::KernelSymbols;
use crate::types::{KernelTypes, load_btf};

/// Places of the kernel's TLB.
pub(crate) const TLB_ENTRIES: usize = 4096;

/// A Linux guest.
///
/// Made from memory and vCPUs (none, where the target has no registers); everything else comes out of the guest.
pub struct Linux<'m> {
    memory: &'m dyn PhysMemory,
    vcpus: &'m dyn Vcpus,
    limits: Limits,
    identity: KernelIdentity,
    space: AddressSpace<'m>,
    kernel_symbols: KernelSymbols<'m>,
    types: KernelTypes<'m>,
    pub(crate) known: Known,
    pub(crate) groups: Groups,
    symbols: OnceBox<SymbolTable>,
    cpus: OnceBox<Cpus>,
    image: OnceBox<KernelImage>,
    pub(crate) found: FoundData,
    overlay: Lazy<OverlayFields, LayoutError>,
    pub(crate) orc: Lazy<OrcCopy, LinuxError>,
}

impl fmt::Debug for Linux<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Linux").field("release", &self.identity.release).finish_non_exhaustive()
    }
}

impl<'m> Linux<'m> {
    /// Finds the kernel in `memory`, with the default limits.
    ///
    /// # Errors
    /// [`LinuxError`] where there is no Linux kernel, or it cannot be read without a profile.
    pub fn open(memory: &'m dyn PhysMemory, vcpus: &'m dyn Vcpus) -> Result<Self, LinuxError> {
        Self::open_with(memory, vcpus, Limits::default())
    }

    /// Finds the kernel in `memory`.
    ///
    /// # Errors
    /// [`LinuxError`] where there is no Linux kernel, or it cannot be read without a profile.
    pub fn open_with(
        memory: &'m dyn PhysMemory,
        vcpus: &'m dyn Vcpus,
        limits: Limits,
    ) -> Result<Self, LinuxError> {
        Self::open_with_files(memory, vcpus, limits, None)
    }

    /// Finds the kernel in `memory`; what it does not tell of itself (symbols, types) is taken from `files`.
    ///
    /// # Errors
    /// [`LinuxError`] where there is no Linux kernel, or it tells too little and no file helps.
    pub fn open_with_files(
        memory: &'m dyn PhysMemory,
        vcpus: &'m dyn Vcpus,
        limits: Limits,
        mut files: Option<&mut dyn KernelFiles>,
    ) -> Result<Self, LinuxError> {
        let Found { mut identity, tables } = find(memory, vcpus, &limits)?;
        let mut space = AddressSpace::with_tlb(memory, tables, TLB_ENTRIES);
        let (kernel_symbols, mut known) = load_symbols(&space, &mut identity, &limits, &mut files)?;
        complete(&mut identity, &space, &known, &limits);
        if identity.vmcoreinfo.is_none() {
            space = kernels_own(space, &known);
        }
        let (image, stext) = (OnceBox::new(), identity.stext);
        let make_image = || Box::new(KernelImage::of(&space, stext, &limits));
        // Symbols of functions alone: data is found by what it looks like.
        let bounds = known.start_btf.zip(known.stop_btf);
        let bounds = bounds.or_else(|| find_types(&space, image.get_or_init(make_image)));
        let own = bounds.map(|(start, stop)| load_btf(&space, start, stop, &limits));
        let types = match own {
            Some(Ok(own)) => KernelTypes::Btf(own),
            Some(Err(why)) => {
                given_types(&space, &mut identity, &kernel_symbols, &mut files).map_err(|_| why)?
            }
            None => given_types(&space, &mut identity, &kernel_symbols, &mut files)?,
        };
        known.init_task =
            known.init_task.or_else(|| find_init_task(&space, image.get_or_init(make_image), &types));
        known.prb = known.prb.or_else(|| identity.vmcoreinfo.as_ref()?.symbol("prb"));
        Ok(Self {
            memory,
            vcpus,
            limits,
            identity,
            space,
            kernel_symbols,
            types,
            known,
            groups: Groups::default(),
            symbols: OnceBox::new(),
            cpus: OnceBox::new(),
            image,
            found: FoundData::default(),
            overlay: Lazy::default(),
            orc: Lazy::default(),
        })
    }

    /// The physical memory.
    #[must_use]
    pub const fn memory(&self) -> &'m dyn PhysMemory {
        self.memory
    }

    /// The vCPUs.
    #[must_use]
    pub const fn vcpus(&self) -> &'m dyn Vcpus {
        self.vcpus
    }

    /// The bounds that are kept.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What the kernel is known by.
    #[must_use]
    pub const fn identity(&self) -> &KernelIdentity {
        &self.identity
    }

    /// The kernel's address space.
    #[must_use]
    pub const fn space(&self) -> &AddressSpace<'m> {
        &self.space
    }

    /// The kernel's page tables.
    #[must_use]
    pub const fn tables(&self) -> &PageTables {
        self.space.tables()
    }

    /// The kernel's page size in bytes: the unit of file offsets, page counts and the page cache.
    #[must_use]
    pub const fn page_size(&self) -> u64 {
        self.space.tables().page_size()
    }

    /// The kernel's symbols, as they come.
    #[must_use]
    pub const fn kernel_symbols(&self) -> &KernelSymbols<'m> {
        &self.kernel_symbols
    }

    /// The kernel's types.
    #[must_use]
    pub const fn types(&self) -> &KernelTypes<'m> {
        &self.types
    }

    /// The kernel's symbols, unpacked when they are first asked for.
    #[must_use]
    pub fn symbols(&self) -> &SymbolTable {
        self.symbols.get_or_init(|| Box::new(self.kernel_symbols.table()))
    }

    /// The parts of the kernel's image.
    pub(crate) fn image(&self) -> &KernelImage {
        self.image.get_or_init(|| Box::new(KernelImage::of(&self.space, self.identity.stext, &self.limits)))
    }

    /// The guest's CPUs as the kernel numbers them, and which vCPU each is.
    #[must_use]
    pub(crate) fn cpus(&self) -> &Cpus {
        self.cpus.get_or_init(|| Box::new(Cpus::find(self)))
    }

    /// Forgets what a guest that ran on may have changed: translations, which vCPU each CPU is and who runs on it, and
    /// whatever was looked for in vain. What stays the same for a whole boot (symbols, types, members, where the kernel and
    /// its variables lie) is kept. What the backend has kept of memory and registers is its own to forget.
    pub fn forget(&mut self) {
        self.space.forget();
        self.cpus = OnceBox::new();
        self.groups.forget_failures();
        self.found.forget_failures();
        self.overlay.forget_if(|_| false);
        self.orc.forget_if(|_| false);
    }

    /// The members of overlayfs' structures, which may be a module's.
    pub(crate) fn overlay(&self) -> Result<&OverlayFields, LayoutError> {
        self.overlay.get(|| {
            OverlayFields::resolve(&self.types)
                .or_else(|why| self.with_module_types("overlay", why, |types| OverlayFields::resolve(types)))
                .or_else(|why| match self.types.size_of("btf_module") {
                    Ok(_) => Err(why),
                    Err(_) => OverlayFields::by_order(&self.types),
                })
        })
    }

    /// A symbol that has to be there.
    pub(crate) fn need(&self, name: &'static str, at: Option<VirtAddr>) -> Result<VirtAddr, LinuxError> {
        at.ok_or(LinuxError::NoSymbol { name })
    }

    /// The size of a kernel stack: that of the union which holds the first one (`union thread_union`); where the types lack
    /// it, that of the memory in which a process' lies; else 16 KiB.
    pub(crate) fn stack_size(&self) -> u64 {
        let likely = |size: &u64| size.is_power_of_two() && (4 << 10..=1 << 20).contains(size);
        let of_area = || Ok(self.mapped_stack_size().filter(likely).unwrap_or(16 << 10));
        let by_types = self.types.size_of("thread_union").ok().filter(likely);
        by_types.or_else(|| self.found.stack_size.get(of_area).ok().copied()).unwrap_or(16 << 10)
    }

    /// What the first process that has its stack in memory of its own (`CONFIG_VMAP_STACK`) has.
    fn mapped_stack_size(&self) -> Option<u64> {
        let area: Field<u64> = Field::new(&self.types, "task_struct", "stack_vm_area").ok()?;
        let pages: Field<u32> = Field::new(&self.types, "vm_struct", "nr_pages").ok()?;
        let mut areas = self.processes().ok()?.take(8).filter_map(|task| {
            let at = area.pointer(&self.space, task.ok()?.address()).ok()?;
            pages.read(&self.space, at).ok()
        });
        areas.next().map(|pages| u64::from(pages) * self.page_size())
    }
}
