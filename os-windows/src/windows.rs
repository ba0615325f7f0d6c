//! [`Windows`]: a guest's kernel, found, with its symbols and types at hand.

use alloc::boxed::Box;
use core::fmt;

use once_cell::race::OnceBox;
use vmc::addr::PAGE_SIZE;
use vmc::layout::{Field, Types};
use vmc::symbols::{SymbolTable, SymbolTableBuilder};
use vmc::{AddressSpace, Limits, PageTables, PhysAddr, PhysMemory, Vcpus, VirtAddr, VirtualMemory};

use crate::derived;
use crate::error::WindowsError;
use crate::fields::Fields;
use crate::files::SymbolFiles;
use crate::find::{self, Effort, Found};
use crate::identity::{Hints, KernelIdentity};
use crate::kernel_memory::KernelMemory;
use crate::types::KernelTypes;

/// Places of the kernel's TLB.
pub(crate) const TLB_ENTRIES: usize = 4096;

/// A Windows guest.
pub struct Windows<'m> {
    vcpus: &'m dyn Vcpus,
    limits: Limits,
    identity: KernelIdentity,
    kernel: KernelMemory<'m>,
    types: KernelTypes,
    /// Absolute addresses.
    symbols: SymbolTable,
    /// Where processes and threads keep what is asked of them, once it is needed.
    pub(crate) fields: OnceBox<Fields>,
    /// What was known beforehand.
    hints: Hints,
}

impl fmt::Debug for Windows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Windows").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl<'m> Windows<'m> {
    /// Finds the kernel in `memory`; its types and symbols are taken from `files`.
    ///
    /// Without `files`, or where they have none of this kernel and [say that it is enough](SymbolFiles::derived_is_enough), its exports
    /// are the symbols, and what public headers fix the types ([`KernelTypes::DERIVED`]): [facts](Self::facts),
    /// [modules](Self::modules) and the kernel's memory are to be had so, processes are not.
    ///
    /// # Errors
    /// [`WindowsError`] where there is no Windows kernel, or no file is of it.
    pub fn open(
        memory: &'m dyn PhysMemory,
        vcpus: &'m dyn Vcpus,
        hints: &Hints,
        limits: Limits,
        files: Option<&mut dyn SymbolFiles>,
    ) -> Result<Self, WindowsError> {
        Self::open_with(memory, vcpus, hints, limits, files, Effort::All)
    }

    /// Like [`open`](Self::open), but without searching memory: the kernel has to be where the hints and the vCPUs' registers lead,
    /// or, where there is no vCPU, the low stub. It costs next to nothing where the guest is another one.
    ///
    /// # Errors
    /// [`WindowsError::NotFound`] where nothing leads to a Windows kernel, which may be there all the same; others as `open`'s.
    pub fn open_told(
        memory: &'m dyn PhysMemory,
        vcpus: &'m dyn Vcpus,
        hints: &Hints,
        limits: Limits,
        files: Option<&mut dyn SymbolFiles>,
    ) -> Result<Self, WindowsError> {
        Self::open_with(memory, vcpus, hints, limits, files, Effort::Told)
    }

    fn open_with(
        memory: &'m dyn PhysMemory,
        vcpus: &'m dyn Vcpus,
        hints: &Hints,
        limits: Limits,
        files: Option<&mut dyn SymbolFiles>,
        effort: Effort,
    ) -> Result<Self, WindowsError> {
        let Found { space, kernel } = find::find(memory, vcpus, hints, &limits, effort)?;
        let identity = KernelIdentity {
            base: kernel.base,
            size: kernel.size,
            code_view: kernel.code_view,
            timestamp: kernel.timestamp,
            build: hints.build,
        };
        let hints = Hints {
            kernel_base: Some(kernel.base),
            loaded_module_list: kernel.loaded_module_list.or(hints.loaded_module_list),
            active_process_head: kernel.active_process_head.or(hints.active_process_head),
            ..hints.clone()
        };
        let mut windows = Self::with(KernelMemory::Tables(space), vcpus, identity, &hints, limits, files)?;
        if let Some(root) = windows.system_root(memory) {
            windows.kernel.set_space(root);
        }
        Ok(windows)
    }

    /// Reads a kernel out of ranges of its virtual memory (a triage dump). It is known by what `hints` tell of it: its base, the
    /// places of its lists, its timestamp and size.
    ///
    /// # Errors
    /// [`WindowsError`] where nothing tells where the kernel begins, or no file is of it.
    pub fn open_virtual(
        ranges: &'m dyn VirtualMemory,
        vcpus: &'m dyn Vcpus,
        hints: &Hints,
        limits: Limits,
        files: Option<&mut dyn SymbolFiles>,
    ) -> Result<Self, WindowsError> {
        let header = hints.kernel_base.and_then(|base| crate::pe::Image::read(&ranges, base).ok());
        let code_view = header.as_ref().and_then(|header| header.code_view(&ranges).ok().flatten());
        let size = header.as_ref().map(|header| u64::from(header.size()));
        let identity = KernelIdentity {
            base: hints.kernel_base.unwrap_or_default(),
            size: size.or(hints.kernel_image().0).unwrap_or_default(),
            code_view,
            timestamp: header.as_ref().map(crate::pe::Image::timestamp).or(hints.kernel_image().1),
            build: hints.build,
        };
        Self::with(KernelMemory::Ranges(ranges), vcpus, identity, hints, limits, files)
    }

    /// Types and symbols for a kernel that was found.
    fn with(
        kernel: KernelMemory<'m>,
        vcpus: &'m dyn Vcpus,
        mut identity: KernelIdentity,
        hints: &Hints,
        limits: Limits,
        files: Option<&mut dyn SymbolFiles>,
    ) -> Result<Self, WindowsError> {
        let fits = |symbols: &SymbolTable| fit(symbols, hints).is_some();
        let derived_is_enough = files.as_deref().is_none_or(SymbolFiles::derived_is_enough);
        let given = files.and_then(|files| files.kernel(&identity, &fits)).or_else(|| {
            // A triage dump has next to nothing of the kernel's image.
            (derived_is_enough && kernel.tables().is_some())
                .then(|| derived::kernel(&kernel, identity.base, &limits))
        });
        let given = given.ok_or_else(|| WindowsError::NoTypes { identity: Box::new(identity.clone()) })?;
        if identity.base.is_null() {
            identity.base = fit(&given.symbols, hints).ok_or_else(|| WindowsError::NotFound {
                reason: "nothing tells where the kernel begins".into(),
            })?;
            let (size, timestamp) =
                Hints { kernel_base: Some(identity.base), ..hints.clone() }.kernel_image();
            identity.size = size.unwrap_or_default();
            identity.timestamp = timestamp;
        }
        let mut builder = SymbolTableBuilder::with_capacity(given.symbols.len());
        for symbol in given.symbols.iter() {
            let address = identity.base.wrapping_add(symbol.address).get();
            builder.push(symbol.name, address, symbol.size.unwrap_or_default(), symbol.kind);
        }
        identity.code_view = identity.code_view.or(given.code_view);
        let types = KernelTypes::new(given.source, given.types);
        let symbols = builder.build();
        let state = symbols.named(b"MiState").next().map(|symbol| VirtAddr::new(symbol.address));
        let kernel = kernel.managed(&types, &limits, state);
        Ok(Self {
            vcpus,
            limits,
            identity,
            kernel,
            types,
            symbols,
            hints: hints.clone(),
            fields: OnceBox::new(),
        })
    }

    /// The address space of the System process, by its own word, where that translates the kernel's base to the same place.
    fn system_root(&self, memory: &'m dyn PhysMemory) -> Option<AddressSpace<'m>> {
        let space = self.kernel.tables()?;
        let root = self.system_page_table_root()?;
        let PageTables::X86_64(tables) = space.tables() else { return None };
        if tables.root() == root {
            return None;
        }
        let system = PageTables::X86_64(tables.with_root(root));
        let system = AddressSpace::with_tlb(memory, system, TLB_ENTRIES);
        let place = space.translate(self.identity.base).ok()?;
        (system.translate(self.identity.base).ok()? == place).then_some(system)
    }

    /// The page table root that the process with number 4 has: `PsInitialSystemProcess`, else the first of the list of processes.
    pub(crate) fn system_page_table_root(&self) -> Option<PhysAddr> {
        let types = &self.types;
        let pid = Field::<u64>::new(types, "_EPROCESS", "UniqueProcessId").ok()?;
        let links = types.member("_EPROCESS", "ActiveProcessLinks").ok()?;
        let root = Field::<u64>::first(types, "_EPROCESS", &["Pcb.DirectoryTableBase"])
            .or_else(|_| Field::<u64>::new(types, "_KPROCESS", "DirectoryTableBase"))
            .ok()?;
        let listed = || {
            let first = self.pointer_at("PsActiveProcessHead").ok()?;
            first.checked_sub(links.offset)
        };
        let told = self.pointer_at("PsInitialSystemProcess").ok();
        let is_system = |process: &VirtAddr| pid.read(&self.kernel, *process) == Ok(4);
        let process = told.filter(is_system).or_else(|| listed().filter(is_system))?;
        let value = root.read(&self.kernel, process).ok()? & 0x000f_ffff_ffff_f000;
        (value != 0).then_some(PhysAddr::new(value))
    }

    /// Forgets cached translations: for a live guest that ran on in between.
    pub fn forget(&self) {
        if let Some(space) = self.kernel.tables() {
            space.forget();
        }
    }

    /// The vCPUs.
    #[must_use]
    pub const fn vcpus(&self) -> &'m dyn Vcpus {
        self.vcpus
    }

    /// The bounds.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What was known beforehand.
    pub(crate) const fn hints(&self) -> &Hints {
        &self.hints
    }

    /// What the kernel is known by.
    #[must_use]
    pub const fn identity(&self) -> &KernelIdentity {
        &self.identity
    }

    /// The kernel's memory.
    #[must_use]
    pub const fn kernel(&self) -> &KernelMemory<'m> {
        &self.kernel
    }

    /// The physical memory; none of a triage dump.
    #[must_use]
    pub fn memory(&self) -> Option<&'m dyn PhysMemory> {
        self.kernel.tables().map(AddressSpace::memory)
    }

    /// The kernel's types.
    #[must_use]
    pub const fn types(&self) -> &KernelTypes {
        &self.types
    }

    /// The kernel's symbols.
    #[must_use]
    pub const fn symbols(&self) -> &SymbolTable {
        &self.symbols
    }

    /// Where the symbol `name` lies.
    ///
    /// # Errors
    /// [`WindowsError::NoSymbol`] where there is none of that name.
    pub fn symbol(&self, name: &'static str) -> Result<VirtAddr, WindowsError> {
        let found = self.symbols.named(name.as_bytes()).next();
        found.map(|symbol| VirtAddr::new(symbol.address)).ok_or(WindowsError::NoSymbol { name })
    }

    /// The pointer that the variable `name` holds.
    ///
    /// # Errors
    /// [`WindowsError`] where there is no such symbol, or it cannot be read.
    pub fn pointer_at(&self, name: &'static str) -> Result<VirtAddr, WindowsError> {
        self.kernel.read_u64(self.symbol(name)?).map(VirtAddr::new).map_err(WindowsError::read(name))
    }
}

/// The base at which a kernel with these symbols (relative to its base) agrees with all that is known of its variables: each that is
/// known gives the same base, at the start of a page. None where nothing is known, or one contradicts.
fn fit(symbols: &SymbolTable, hints: &Hints) -> Option<VirtAddr> {
    let known = [
        (&b"PsLoadedModuleList"[..], hints.loaded_module_list),
        (b"PsActiveProcessHead", hints.active_process_head),
        (b"KdDebuggerDataBlock", hints.debugger_data),
    ];
    let mut base = None;
    let mut witnesses = 0;
    for (name, place) in known {
        let Some(place) = place.filter(|place| !place.is_null()) else { continue };
        let told = place.checked_sub(symbols.named(name).next()?.address)?;
        if base.is_some_and(|base| base != told) {
            return None;
        }
        base = Some(told);
        witnesses += 1;
    }
    let base = base.filter(|base| base.is_aligned(PAGE_SIZE))?;
    // One variable alone fits any table in one of 4096 cases: two that agree, or a base that is known, decide.
    match hints.kernel_base {
        Some(known) if known != base => None,
        None if witnesses < 2 => None,
        _ => Some(base),
    }
}
