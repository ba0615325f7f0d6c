//! From `struct kvm` to its slots.
//!
//! Kernels since 5.17 keep them in hash lists by number, those before in an array; which one it is, the members say.

use vmc::PhysAddr;
use vmc::bytes::{u32_at, u64_at};
use vmc::layout::Types;

use super::kernel::Peek;
use super::{MOST_SLOTS, Memslot, SlotKind, SlotsError, TRIES, layout_error};

/// Bytes of a guest's page number's shift: KVM counts in pages of 4 KiB on x86, and of the host's size elsewhere.
fn page_shift() -> u32 {
    let size = rustix::param::page_size();
    if cfg!(target_arch = "x86_64") { 12 } else { size.trailing_zeros() }
}

/// Where the members lie.
#[derive(Debug)]
pub(super) struct Offsets {
    /// `kvm.memslots`, whose first element is the usual address space.
    memslots: u64,
    generation: u64,
    list: List,
    base_gfn: u64,
    npages: u64,
    userspace_addr: u64,
    flags: u64,
    id: u64,
    slot_size: u64,
}

#[derive(Debug)]
enum List {
    /// `id_hash[buckets]` of lists through `id_node[node_idx]`.
    Hash { id_hash: u64, buckets: u64, node_idx: u64, id_node: u64, node_size: u64 },
    /// `memslots[used_slots]`.
    Array { memslots: u64, used_slots: u64 },
}

impl Offsets {
    pub(super) fn find(types: &impl Types) -> Result<Self, SlotsError> {
        let offset = |structure: &str, member: &str| {
            types.member(structure, member).map(|member| member.offset).map_err(layout_error)
        };
        let slot = |member| offset("kvm_memory_slot", member);
        let list = match types.member("kvm_memslots", "id_hash") {
            Ok(hash) => List::Hash {
                id_hash: hash.offset,
                buckets: hash.size / 8,
                node_idx: offset("kvm_memslots", "node_idx")?,
                id_node: slot("id_node")?,
                node_size: types.size_of("hlist_node").map_err(layout_error)?,
            },
            Err(_) => List::Array {
                memslots: offset("kvm_memslots", "memslots")?,
                used_slots: offset("kvm_memslots", "used_slots")?,
            },
        };
        Ok(Self {
            memslots: offset("kvm", "memslots")?,
            generation: offset("kvm_memslots", "generation")?,
            list,
            base_gfn: slot("base_gfn")?,
            npages: slot("npages")?,
            userspace_addr: slot("userspace_addr")?,
            flags: slot("flags")?,
            id: slot("id")?,
            slot_size: types.size_of("kvm_memory_slot").map_err(layout_error)?,
        })
    }
}

/// The slots, read again where they changed meanwhile.
pub(super) fn steady(peek: &Peek, offsets: &Offsets, vm: u64) -> Result<Vec<Memslot>, SlotsError> {
    let mut last = SlotsError::Damaged { reason: "they changed each time that they were read" };
    for _ in 0..TRIES {
        // What is active is another set after each change, with a number of its own.
        let state = || -> Result<(u64, u64), SlotsError> {
            let set = peek.u64(vm.wrapping_add(offsets.memslots))?;
            Ok((set, peek.u64(set.wrapping_add(offsets.generation))?))
        };
        let before = state()?;
        let slots = slots(peek, offsets, before.0);
        if state()? != before {
            continue;
        }
        match slots {
            Ok(slots) => return Ok(slots),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn slots(peek: &Peek, offsets: &Offsets, set: u64) -> Result<Vec<Memslot>, SlotsError> {
    const TOO_MANY: SlotsError =
        SlotsError::Damaged { reason: "there are more than KVM can have, or a list goes round" };
    let mut slots = Vec::new();
    match offsets.list {
        List::Hash { id_hash, buckets, node_idx, id_node, node_size } => {
            let index = peek.i32(set.wrapping_add(node_idx))?;
            let index = u64::try_from(index).ok().filter(|index| *index < 2);
            let index = index.ok_or(SlotsError::Damaged { reason: "there is no such list" })?;
            let node = id_node + index * node_size;
            let len = usize::try_from(buckets * 8).unwrap_or(usize::MAX).min(1 << 20);
            for head in peek.vec(set.wrapping_add(id_hash), len)?.chunks_exact(8) {
                let mut next = head.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                while next != 0 {
                    if slots.len() >= MOST_SLOTS {
                        return Err(TOO_MANY);
                    }
                    let bytes = peek.vec(next.wrapping_sub(node), offsets.slot_len()?)?;
                    slots.push(offsets.slot(&bytes)?);
                    next = long(&bytes, node)?;
                }
            }
        }
        List::Array { memslots, used_slots } => {
            let used = peek.i32(set.wrapping_add(used_slots))?;
            let used = u64::try_from(used).ok().filter(|used| *used <= MOST_SLOTS as u64).ok_or(TOO_MANY)?;
            for index in 0..used {
                let at = set.wrapping_add(memslots).wrapping_add(index * offsets.slot_size);
                slots.push(offsets.slot(&peek.vec(at, offsets.slot_len()?)?)?);
            }
        }
    }
    Ok(slots)
}

impl Offsets {
    /// The length of a slot; what a kernel's types say is held against what they can be.
    fn slot_len(&self) -> Result<usize, SlotsError> {
        let len = usize::try_from(self.slot_size).ok().filter(|len| *len <= 1 << 16);
        len.ok_or(SlotsError::Damaged { reason: "the structure of a slot is too large" })
    }

    /// The slot whose structure is in `bytes`.
    fn slot(&self, bytes: &[u8]) -> Result<Memslot, SlotsError> {
        let beyond = || SlotsError::Damaged { reason: "a slot passes the end of the address space" };
        let of_pages = |pages: u64| pages.checked_mul(1 << page_shift()).ok_or_else(beyond);
        let int = |offset: u64| u32_at(bytes, usize::try_from(offset).ok()?);
        Ok(Memslot {
            // A short, that is never the last member.
            id: int(self.id).ok_or(CUT)? as i16,
            guest: PhysAddr::new(of_pages(long(bytes, self.base_gfn)?)?),
            len: of_pages(long(bytes, self.npages)?)?,
            host: long(bytes, self.userspace_addr)?,
            flags: int(self.flags).ok_or(CUT)?,
            kind: SlotKind::Ram,
        })
    }
}

const CUT: SlotsError = SlotsError::Damaged { reason: "a member lies outside of its structure" };

fn long(bytes: &[u8], offset: u64) -> Result<u64, SlotsError> {
    usize::try_from(offset).ok().and_then(|offset| u64_at(bytes, offset)).ok_or(CUT)
}
