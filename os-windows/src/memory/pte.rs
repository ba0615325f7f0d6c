//! [`PteFormat`]: what a page table entry says that the processor does not take for present.
//!
//! The bits' places come from the types `_MMPTE_SOFTWARE`, `_MMPTE_TRANSITION`, `_MMPTE_PROTOTYPE` and `_MMPTE_SUBSECTION`; the meaning is
//! that of *Windows Internals*, "Page fault handling". Since the patches against L1TF, the bits of `MiState.Hardware.InvalidPteMask` are
//! set in every such entry, and an entry whose `SwizzleBit` is clear has to be freed of them.

use vmc::layout::Types;
use vmc::{PhysAddr, ReadExt, VirtAddr, VirtualMemory};

use crate::bits::Bits;
use crate::types::KernelTypes;

/// The bit that the processor looks at.
const PRESENT: u64 = 1;
/// Bits 12 to 51: where the page lies.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// The protection of a page that was decommitted (`MM_DECOMMIT`: a guard page without access).
const DECOMMITTED: u64 = 0x10;

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Software {
    /// Nothing at all.
    Empty,
    /// The page is still where it was: it was taken out of a working set only.
    Transition(PhysAddr),
    /// A page of zeros, made when it is first touched.
    DemandZero,
    /// The page was given back.
    Decommitted,
    /// It is in a paging file.
    PageFile {
        /// The paging file's number.
        number: u64,
        /// The page's number in it.
        page: u64,
    },
    /// Another entry, in the kernel's memory, decides; a second place where the first holds none.
    Prototype(VirtAddr, VirtAddr),
    /// The prototype entry has to be looked up by the address (the VAD).
    LookUp,
}

/// The places of what an entry says.
#[derive(Clone, Debug)]
pub(crate) struct PteFormat {
    prototype: Bits,
    transition: Bits,
    protection: Option<Bits>,
    swizzle: Option<Bits>,
    page_file: Bits,
    offset: Bits,
    frame: Bits,
    address: Bits,
    /// The bits that make an entry point nowhere; 0 where there are none.
    invalid: u64,
}

impl PteFormat {
    /// By the types; the mask is read through `kernel`, `state` is where `MiState` lies.
    pub(crate) fn new<V: VirtualMemory + ?Sized>(
        types: &KernelTypes,
        limits: &vmc::Limits,
        kernel: &V,
        state: Option<VirtAddr>,
    ) -> Option<Self> {
        let software = types.layout("_MMPTE_SOFTWARE", limits).ok()?;
        let bits = |name| Bits::of(&software, name);
        let mask = types.member("_MI_SYSTEM_INFORMATION", "Hardware.InvalidPteMask").ok();
        let invalid = mask.zip(state).and_then(|(member, state)| {
            kernel.read_value::<u64>(state.wrapping_add(member.offset)).ok().filter(|_| member.size == 8)
        });
        Some(Self {
            prototype: bits("Prototype")?,
            transition: bits("Transition")?,
            protection: bits("Protection"),
            swizzle: bits("SwizzleBit"),
            page_file: bits("PageFileLow")?,
            offset: bits("PageFileHigh")?,
            frame: Bits::in_type(types, "_MMPTE_TRANSITION", "PageFrameNumber", limits)?,
            address: Bits::in_type(types, "_MMPTE_PROTOTYPE", "ProtoAddress", limits)?,
            invalid: invalid.unwrap_or(0),
        })
    }

    /// The entry without the bits that make it point nowhere.
    fn plain(&self, entry: u64) -> u64 {
        match self.swizzle {
            Some(swizzle) if swizzle.in_word(entry) == 0 => entry & !self.invalid,
            _ => entry,
        }
    }

    /// Where a page lies; `end` tells the end of physical memory. Where no mask is known, what lies above it cannot be meant.
    fn transition(&self, entry: u64, end: impl Fn() -> u64) -> PhysAddr {
        let at = self.frame.in_word(self.plain(entry)).wrapping_shl(12);
        let swizzled = self.swizzle.is_some_and(|swizzle| swizzle.in_word(entry) == 0);
        let end = if self.invalid == 0 && swizzled { end() } else { 0 };
        if at >= end && end > 0 {
            let inside = u64::MAX.checked_shr(end.leading_zeros()).unwrap_or(0);
            return PhysAddr::new(at & inside);
        }
        PhysAddr::new(at)
    }

    /// What an entry that is not present says, in a page table or (`of_prototype`) as a prototype.
    pub(crate) fn decode(&self, entry: u64, end: impl Fn() -> u64) -> Software {
        if entry == 0 {
            return Software::Empty;
        }
        if self.prototype.in_word(entry) != 0 {
            if self.offset.in_word(entry) == self.offset.most() {
                return Software::LookUp;
            }
            let at = |entry| VirtAddr::new(self.address.signed_in_word(entry));
            return Software::Prototype(at(self.plain(entry)), at(entry));
        }
        if self.transition.in_word(entry) != 0 {
            return Software::Transition(self.transition(entry, end));
        }
        let plain = self.plain(entry);
        let (number, page) = (self.page_file.in_word(plain), self.offset.in_word(plain));
        if page != 0 {
            return Software::PageFile { number, page };
        }
        match self.protection {
            Some(protection) if protection.in_word(plain) == DECOMMITTED => Software::Decommitted,
            Some(protection) if protection.in_word(plain) == 0 => Software::Empty,
            _ => Software::DemandZero,
        }
    }

    /// Where the page or the table lies that a present entry leads to.
    pub(crate) const fn present(entry: u64) -> Option<PhysAddr> {
        if entry & PRESENT == 0 { None } else { Some(PhysAddr::new(entry & ADDRESS)) }
    }
}
