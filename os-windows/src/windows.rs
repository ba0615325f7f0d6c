//! [`Windows`]: a guest's kernel, found, with its symbols and types at hand.

use alloc::boxed::Box;
use core::fmt;

use once_cell::race::OnceBox;
use vmc::arch::x86_64::{Levels, X86PageTables};
use vmc::symbols::{SymbolTable, SymbolTableBuilder};
use vmc::{AddressSpace, Limits, PageTables, PhysMemory, Vcpus, VirtAddr, VirtualMemory};

use crate::error::WindowsError;
use crate::fields::Fields;
use crate::files::SymbolFiles;
use crate::identity::{Hints, KernelIdentity};
use crate::kernel_memory::KernelMemory;
use crate::types::KernelTypes;

/// Places of the kernel's TLB.
const TLB_ENTRIES: usize = 4096;

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
}

impl fmt::Debug for Windows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Windows").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl<'m> Windows<'m> {
    /// Finds the kernel in `memory`; its types and symbols are taken from `files`.
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
        let not_found = |reason: &str| WindowsError::NotFound { reason: reason.into() };
        let root = hints.page_table_root.ok_or_else(|| not_found("nothing tells the page table root"))?;
        let tables = PageTables::X86_64(X86PageTables::new(root, Levels::Four));
        let kernel = KernelMemory::Tables(AddressSpace::with_tlb(memory, tables, TLB_ENTRIES));
        let base = hints.kernel_base.ok_or_else(|| not_found("nothing tells where it begins"))?;
        let identity = KernelIdentity { base, ..KernelIdentity::default() };
        Self::with(kernel, vcpus, identity, limits, files)
    }

    /// Types and symbols for a kernel that was found.
    fn with(
        kernel: KernelMemory<'m>,
        vcpus: &'m dyn Vcpus,
        identity: KernelIdentity,
        limits: Limits,
        files: Option<&mut dyn SymbolFiles>,
    ) -> Result<Self, WindowsError> {
        let given = files.and_then(|files| files.kernel(&identity, &|_| false));
        let given = given.ok_or_else(|| WindowsError::NoTypes { identity: Box::new(identity.clone()) })?;
        let mut builder = SymbolTableBuilder::with_capacity(given.symbols.len());
        for symbol in given.symbols.iter() {
            let address = identity.base.wrapping_add(symbol.address).get();
            builder.push(symbol.name, address, symbol.size.unwrap_or_default(), symbol.kind);
        }
        let types = KernelTypes::new(given.source, given.types);
        let symbols = builder.build();
        let state = symbols.named(b"MiState").next().map(|symbol| VirtAddr::new(symbol.address));
        let kernel = kernel.managed(&types, &limits, state);
        Ok(Self { vcpus, limits, identity, kernel, types, symbols, fields: OnceBox::new() })
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
