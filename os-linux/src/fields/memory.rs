//! The members of what describes a process' memory and the page cache.

use vmc::VirtAddr;
use vmc::layout::{Field, LayoutError, Types};

use super::FieldGroup;

fields! {
    /// `struct mm_struct` (`include/linux/mm_types.h`).
    MmFields of "mm_struct" {
        pgd: u64 = "pgd";
        exe_file: u64 = "exe_file";
        arg_start: u64 = "arg_start";
        arg_end: u64 = "arg_end";
        env_start: u64 = "env_start";
        env_end: u64 = "env_end";
        start_brk: u64 = "start_brk";
        brk: u64 = "brk";
        start_stack: u64 = "start_stack";
    } optional {
        // The maple tree of 6.1 and later, the list before.
        maple_root: u64 = "mm_mt.ma_root";
        mmap: u64 = "mmap";
        // Plain counters until 6.1; per-CPU ones (an array of structures) later.
        rss_counters: [u64; 4] = "rss_stat.count";
        // What tells one state of the mappings from another.
        executable_pages: u64 = "exec_vm";
        start_code: u64 = "start_code";
        mmap_base: u64 = "mmap_base";
        lock_sequence: u32 = "mm_lock_seq";
    }
}

fields! {
    /// `struct vm_area_struct` (`include/linux/mm_types.h`).
    VmaFields of "vm_area_struct" {
        start: u64 = "vm_start";
        end: u64 = "vm_end";
        flags: u64 = "vm_flags";
        page_offset: u64 = "vm_pgoff";
        file: u64 = "vm_file";
        operations: u64 = "vm_ops";
        private_data: u64 = "vm_private_data";
    } optional {
        next: u64 = "vm_next";
        anon_name: u64 = "anon_name";
    }
}

fields! {
    /// `struct maple_range_64` and `struct maple_arange_64` (`include/linux/maple_tree.h`), by their arrays' places.
    MapleRangeFields of "maple_range_64" {
        pivots: [u64; 15] = "pivot";
        slots: [u64; 16] = "slot";
    }
}

fields! {
    /// `struct maple_arange_64`: inner nodes that also know their gaps.
    MapleArangeFields of "maple_arange_64" {
        pivots: [u64; 9] = "pivot";
        slots: [u64; 10] = "slot";
    }
}

fields! {
    /// `struct vm_operations_struct`, as far as it tells a special mapping.
    VmOperationsFields of "vm_operations_struct" {
        name: u64 = "name";
    }
}

fields! {
    /// `struct vm_special_mapping`: `[vdso]`, `[vvar]`.
    SpecialMappingFields of "vm_special_mapping" {
        name: u64 = "name";
    }
}

fields! {
    /// `struct address_space`: a file's page cache.
    PageCacheFields of "address_space" {
        // An xarray since 4.20, a radix tree before, under another name until 4.16.
        head: u64 = "i_pages.xa_head" | "i_pages.rnode" | "page_tree.rnode";
    }
}

/// `struct xa_node` (`include/linux/xarray.h`), and `struct radix_tree_node` (`include/linux/radix-tree.h`), which it was until 4.20.
#[derive(Clone, Copy, Debug)]
pub(crate) struct XaNodeFields {
    pub(crate) shift: Field<u8>,
    /// Where a node's slots begin, and how many bits of an index choose one: six, or four in the smallest kernels.
    pub(crate) slots: u64,
    pub(crate) bits: u32,
    /// The two low bits of what leads to a node.
    mark: u64,
}

impl FieldGroup for XaNodeFields {
    fn resolve(types: &impl Types) -> Result<Self, LayoutError> {
        let of = |structure: &str, mark| {
            let shift = Field::new(types, structure, "shift")?;
            let slots = types.member(structure, "slots")?;
            let count = slots.size / 8;
            if !count.is_power_of_two() || !(8..=64).contains(&count) {
                return Err(LayoutError::Size {
                    structure: structure.into(),
                    member: "slots".into(),
                    found: slots.size,
                    expected: 512,
                });
            }
            Ok(Self { shift, slots: slots.offset, bits: count.trailing_zeros(), mark })
        };
        of("xa_node", 2).or_else(|why| of("radix_tree_node", 1).map_err(|_| why))
    }
}

impl XaNodeFields {
    /// Entries up to this number lead to no node.
    const RESERVED: u64 = 4096;

    /// The node that an entry leads to, if it does.
    pub(crate) const fn node(&self, entry: u64) -> Option<VirtAddr> {
        if entry & 3 == self.mark && entry > Self::RESERVED { Some(VirtAddr::new(entry & !3)) } else { None }
    }

    /// Which slot an entry of the node at `node` means in place of its own: a large folio stands in one alone.
    pub(crate) const fn sibling(&self, node: VirtAddr, entry: u64) -> Option<u64> {
        let number = if self.mark == 2 {
            entry >> 2
        } else {
            (entry & !3).wrapping_sub(node.get().wrapping_add(self.slots)) / 8
        };
        let refers = entry & 3 == self.mark && (self.mark == 1 || entry <= Self::RESERVED);
        if refers && number < 1 << self.bits { Some(number) } else { None }
    }

    /// An entry that is neither node nor sibling, as xarrays have it: zero, a value (an odd number) or a pointer.
    pub(crate) const fn as_entry(&self, entry: u64) -> u64 {
        // "Exceptional" entries of radix trees.
        if self.mark == 1 && entry & 3 == 2 { entry >> 1 | 1 } else { entry }
    }
}

fields! {
    /// `struct page` (`include/linux/mm_types.h`), of a page that a file's cache holds.
    PageFields of "page" {
        index: u64 = "index" | "__folio_index";
    }
}
