//! Finding a Windows kernel: a page table root, and ntoskrnl under it.
//!
//! Each candidate of a root (a hint, CR3 of a vCPU, words of its KPCR, the low stub, pages that refer to themselves) is believed only
//! when it translates: `KUSER_SHARED_DATA` lies where all x64 Windows have it, and ntoskrnl is found. Memory is searched only where
//! no vCPU told.

mod debugger_data;
mod image;
mod roots;
mod tables;

use alloc::string::String;
use alloc::vec::Vec;

use hashbrown::HashSet;
use vmc::arch::Registers;
use vmc::arch::x86_64::{Levels, Registers as X86Registers, X86PageTables};
use vmc::{AddressSpace, Limits, PageTables, PhysAddr, PhysMemory, ReadExt, Vcpus, VirtAddr, VirtualMemory};

use crate::error::WindowsError;
use crate::identity::{CodeView, Hints};
use crate::windows::TLB_ENTRIES;

/// `KUSER_SHARED_DATA` in the kernel's half: fixed on all x64 Windows (ntddk.h).
pub(crate) const KERNEL_SHARED_DATA: VirtAddr = VirtAddr::new(0xffff_f780_0000_0000);

/// A kernel, found.
pub(crate) struct Found<'m> {
    pub(crate) space: AddressSpace<'m>,
    pub(crate) kernel: Kernel,
}

/// ntoskrnl, found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) base: VirtAddr,
    pub(crate) size: u64,
    pub(crate) timestamp: Option<u32>,
    pub(crate) code_view: Option<CodeView>,
    /// The variable `PsLoadedModuleList`, where the kernel's version block or debugger data told it.
    pub(crate) loaded_module_list: Option<VirtAddr>,
    /// The variable `PsActiveProcessHead`, likewise.
    pub(crate) active_process_head: Option<VirtAddr>,
}

/// What one search knows and has tried.
pub(crate) struct Search<'m, 'h> {
    memory: &'m dyn PhysMemory,
    hints: &'h Hints,
    limits: &'h Limits,
    registers: Vec<X86Registers>,
    tried: HashSet<(PhysAddr, bool)>,
    /// Roots under which the shared data lay, but no kernel.
    shared_only: Vec<(PhysAddr, Levels)>,
    /// Those of them whose tables were gone through.
    scanned: Vec<(PhysAddr, Levels)>,
    tables_left: usize,
}

/// How far a kernel is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Where the hints and the vCPUs, or without any vCPU the low stub, say: memory is not searched.
    Told,
    /// Everywhere.
    All,
}

/// Looks for a kernel.
///
/// # Errors
/// [`WindowsError::NotFound`]: what was looked for.
pub(crate) fn find<'m>(
    memory: &'m dyn PhysMemory,
    vcpus: &dyn Vcpus,
    hints: &Hints,
    limits: &Limits,
    effort: Effort,
) -> Result<Found<'m>, WindowsError> {
    let registers = (0..vcpus.count().min(limits.cpus)).filter_map(|index| match vcpus.registers(index) {
        Ok(Registers::X86_64(registers)) => Some(registers),
        _ => None,
    });
    let registers = registers.collect();
    let mut search = Search {
        memory,
        hints,
        limits,
        registers,
        tried: HashSet::new(),
        shared_only: Vec::new(),
        scanned: Vec::new(),
        tables_left: limits.page_tables,
    };
    let found = match effort {
        Effort::Told => search.by_hint().or_else(|| match vcpus.count() {
            0 => search.by_low_stub(),
            _ => search.by_vcpus(),
        }),
        Effort::All => search.run(),
    };
    found.ok_or_else(|| WindowsError::NotFound { reason: search.reason() })
}

impl<'m> Search<'m, '_> {
    fn run(&mut self) -> Option<Found<'m>> {
        let told = self.by_hint().or_else(|| self.by_vcpus()).or_else(|| self.by_low_stub());
        // A root that is known saves the search for one.
        let found = told.or_else(|| self.by_scan()).or_else(|| self.self_references());
        found.or_else(|| self.by_scan()).or_else(|| self.by_debugger_data())
    }

    fn by_hint(&mut self) -> Option<Found<'m>> {
        let root = self.hints.page_table_root?;
        self.try_either(root)
    }

    /// By CR3, and by what the KPCRs keep.
    fn by_vcpus(&mut self) -> Option<Found<'m>> {
        // The kernel's own CR3 first: under KVA shadow, user mode's maps next to nothing.
        let mut vcpus = self.registers.clone();
        vcpus.sort_by_key(X86Registers::in_user_mode);
        for vcpu in vcpus.iter().filter(|vcpu| vcpu.cr0 >> 31 != 0) {
            if let Some(found) = self.try_root(root_of(vcpu), levels_of(vcpu)) {
                return Some(found);
            }
        }
        for vcpu in &vcpus {
            for root in self.roots_in_kpcr(vcpu) {
                if let Some(found) = self.try_root(root, levels_of(vcpu)) {
                    return Some(found);
                }
            }
        }
        None
    }

    fn by_low_stub(&mut self) -> Option<Found<'m>> {
        self.low_stubs().into_iter().find_map(|(root, _)| self.try_either(root))
    }

    fn try_either(&mut self, root: PhysAddr) -> Option<Found<'m>> {
        [Levels::Four, Levels::Five].into_iter().find_map(|levels| self.try_root(root, levels))
    }

    /// Believes a root under which the shared data and, without going through all that is mapped, a kernel are found.
    fn try_root(&mut self, root: PhysAddr, levels: Levels) -> Option<Found<'m>> {
        if !self.tried.insert((root.align_down(0x1000), levels == Levels::Five)) {
            return None;
        }
        let space = self.space(root, levels);
        if !shares_data(&space) {
            return None;
        }
        if let Some(kernel) = self.kernel_near(&space) {
            return Some(Found { space, kernel });
        }
        self.shared_only.push((root, levels));
        None
    }

    /// Goes through all that the roots map under which the shared data lay.
    fn by_scan(&mut self) -> Option<Found<'m>> {
        for (root, levels) in core::mem::take(&mut self.shared_only) {
            self.scanned.push((root, levels));
            let space = self.space(root, levels);
            if let Some(kernel) = tables::scan(&space, root, levels, &mut self.tables_left) {
                return Some(Found { space, kernel });
            }
        }
        None
    }

    fn space(&self, root: PhysAddr, levels: Levels) -> AddressSpace<'m> {
        let tables = PageTables::X86_64(X86PageTables::new(root, levels));
        AddressSpace::with_tlb(self.memory, tables, TLB_ENTRIES)
    }

    fn reason(&self) -> String {
        match self.scanned.first() {
            Some((root, _)) => alloc::format!(
                "the page tables at physical {root} map KUSER_SHARED_DATA, but no image of ntoskrnl was found under them"
            ),
            None => alloc::format!(
                "none of {} candidates of a page table root maps KUSER_SHARED_DATA at {KERNEL_SHARED_DATA}",
                self.tried.len()
            ),
        }
    }
}

/// Does the kernel's shared data lie where it has to? NtMajorVersion and NtMinorVersion (0x26c, 0x270; ntddk.h).
fn shares_data<V: VirtualMemory + ?Sized>(memory: &V) -> bool {
    let version: Result<[u32; 2], _> = memory.read_value(KERNEL_SHARED_DATA.wrapping_add(0x26c));
    matches!(version, Ok([5 | 6 | 10 | 11, 0..=3]))
}

fn root_of(vcpu: &X86Registers) -> PhysAddr {
    PhysAddr::new(vcpu.page_table_root())
}

pub(super) const fn levels_of(vcpu: &X86Registers) -> Levels {
    if vcpu.five_levels() { Levels::Five } else { Levels::Four }
}
