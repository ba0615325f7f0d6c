//! The layout that the host's kernel itself has: the memory slots of a KVM virtual machine.
//!
//! A BPF iterator over the process' files gives the address of `struct kvm`, and a second program reads the slots from there.
//! Where their members lie the kernel says itself (BTF), so that nothing goes by its version. It needs no kprobes, changes
//! nothing, and knows every monitor: what is here is what KVM translates by.
//!
//! Source: `struct kvm_memslots` and `struct kvm_memory_slot` in `include/linux/kvm_host.h`.

mod bpf;
mod kernel;
mod program;
mod walk;

use std::io;

use vmc::layout::LayoutError as TypesError;
use vmc::{Limits, PhysAddr};

use crate::error::{LayoutError, ProcessError};
use crate::layout::{Layout, Piece};
use crate::maps::Map;
use crate::proc;
use kernel::{Host, Peek};

/// KVM's own bound on slots (`KVM_USER_MEM_SLOTS` and the few of its own behind them).
const MOST_SLOTS: usize = 32_768;

/// How often slots are read again that changed while they were read.
const TRIES: usize = 5;

/// A virtual machine's address spaces begin with the one that all but system management mode uses.
const READ_ONLY: u32 = 1 << 1;

/// What the memory of a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// The guest's RAM.
    Ram,
    /// Firmware and other memory that the guest cannot write to.
    ReadOnly,
    /// Memory that is not RAM though the guest can write to it: of a graphics card, for example.
    Other,
    /// A device of the host, where reads have effects: it is never read.
    Device,
}

/// A memory slot of KVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memslot {
    /// The monitor's number for it.
    pub id: i16,
    /// Its first guest-physical address.
    pub guest: PhysAddr,
    /// Its length in bytes.
    pub len: u64,
    /// Its address in the monitor's process.
    pub host: u64,
    /// `KVM_MEM_…`: 1 writes are logged, 2 read-only, 4 has private memory.
    pub flags: u32,
    /// What it is.
    pub kind: SlotKind,
}

/// Why the host kernel's memory slots are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum SlotsError {
    /// The process has no virtual machine.
    #[error("process {pid} has no KVM virtual machine open")]
    NoVm {
        /// The process.
        pid: u32,
    },
    /// It has more than one.
    #[error("process {pid} has {count} KVM virtual machines open: which one is meant cannot be told")]
    SeveralVms {
        /// The process.
        pid: u32,
        /// How many.
        count: usize,
    },
    /// We may not ask the kernel.
    #[error(
        "the host kernel does not tell its memory slots: that needs CAP_BPF and CAP_PERFMON (run as root)"
    )]
    NotPermitted,
    /// The kernel does not tell of its types.
    #[error("the host kernel's types cannot be read from {path}: {reason}")]
    NoTypes {
        /// The file.
        path: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The kernel cannot do what is needed, or does not want to.
    #[error("the host kernel cannot be asked for its memory slots: {reason}")]
    Unsupported {
        /// What it says.
        reason: String,
    },
    /// The kernel's types lack what is needed.
    #[error("the host kernel's memory slots cannot be found: {reason}")]
    Layout {
        /// What is missing.
        reason: String,
    },
    /// The descriptor of the virtual machine was not met.
    #[error(
        "descriptor {fd} of process {pid} was not met among its files: it was closed, or the process ended"
    )]
    Lost {
        /// The process.
        pid: u32,
        /// The descriptor.
        fd: i32,
    },
    /// The kernel's memory could not be read at an address.
    #[error("the host kernel's memory at {address:#x} could not be read")]
    Unreadable {
        /// The address.
        address: u64,
    },
    /// The slots contradict themselves, or changed all the time.
    #[error("the host kernel's memory slots make no sense: {reason}")]
    Damaged {
        /// What is wrong.
        reason: &'static str,
    },
    /// The process' own files.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The layout that they make.
    #[error(transparent)]
    Pieces(#[from] LayoutError),
    /// Another failure of the system.
    #[error("the host kernel did not make {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
}

fn layout_error(error: TypesError) -> SlotsError {
    SlotsError::Layout { reason: error.to_string() }
}

/// The layout of the virtual machine in process `pid`, as the host's kernel has it.
///
/// All slots but devices of the host are pieces of it; its RAM is counted without firmware and other memory.
///
/// # Errors
/// [`SlotsError`] where the kernel cannot be asked, the process has no virtual machine, or more than one.
pub fn kernel_memslots(pid: u32) -> Result<Layout, SlotsError> {
    let slots = memslots(pid)?;
    let readable = slots.iter().filter(|slot| slot.kind != SlotKind::Device);
    let pieces = readable.map(|slot| Piece { guest: slot.guest, len: slot.len, host: slot.host });
    let mut layout = Layout::new(pieces.collect(), "the host kernel's memory slots")?;
    let ram = slots.iter().filter(|slot| slot.kind == SlotKind::Ram);
    layout.ram_bytes = ram.fold(0, |sum, slot| sum.saturating_add(slot.len));
    Ok(layout)
}

/// The memory slots of the virtual machine in process `pid`, in ascending order.
///
/// # Errors
/// [`SlotsError`] where the kernel cannot be asked, the process has no virtual machine, or more than one.
pub fn memslots(pid: u32) -> Result<Vec<Memslot>, SlotsError> {
    let fds = proc::descriptors(pid, "anon_inode:kvm-vm")?;
    if fds.is_empty() {
        return Err(SlotsError::NoVm { pid });
    }
    let host = Host::get(&Limits::default())?;
    // A monitor may have the same virtual machine open several times.
    let mut vms = Vec::new();
    for fd in fds {
        let vm = kernel::private_data(host, pid, fd)?;
        if !vms.contains(&vm) {
            vms.push(vm);
        }
    }
    let [vm] = vms[..] else { return Err(SlotsError::SeveralVms { pid, count: vms.len() }) };
    let peek = Peek::new()?;
    let mut slots = walk::steady(&peek, &host.slots, vm)?;
    slots.sort_by_key(|slot| slot.guest);
    mark(&mut slots, &proc::maps(pid)?)?;
    Ok(slots)
}

/// Says what each slot is, by its flags, by what the process has mapped there, and by where it lies. Slots and mappings are in
/// ascending order.
fn mark(slots: &mut [Memslot], maps: &[Map]) -> Result<(), SlotsError> {
    for slot in &mut *slots {
        let map = maps.get(maps.partition_point(|map| map.end <= slot.host));
        let map = map.filter(|map| map.contains(slot.host));
        let map =
            map.ok_or(SlotsError::Damaged { reason: "the process has nothing mapped where a slot is" })?;
        slot.kind = match () {
            () if map.is_device() => SlotKind::Device,
            () if slot.flags & READ_ONLY != 0 => SlotKind::ReadOnly,
            () => SlotKind::Ram,
        };
    }
    // RAM of which the guest has write-protected a part: slots that go on in the process as they do in the guest.
    let goes_on = |one: &Memslot, next: &Memslot| {
        let host = one.host.wrapping_add(one.len) == next.host;
        host && one.guest.wrapping_add(one.len) == next.guest && next.kind != SlotKind::Device
    };
    for run in slots.chunk_by_mut(goes_on) {
        if run.iter().any(|slot| slot.kind == SlotKind::Ram) {
            run.iter_mut().for_each(|slot| slot.kind = SlotKind::Ram);
        }
    }
    if cfg!(target_arch = "x86_64") {
        mark_hole(slots);
    }
    Ok(())
}

/// On a PC, RAM below 4 GiB begins at 0 and goes on to its end, but for what lies between 640 KiB and 1 MiB: what comes in the
/// hole behind it is other memory.
fn mark_hole(slots: &mut [Memslot]) {
    let mut end = 1 << 20;
    for slot in slots.iter_mut().filter(|slot| slot.guest.get() < 4 << 30) {
        if slot.guest.get() <= end {
            end = end.max(slot.guest.get().saturating_add(slot.len));
        } else if slot.kind == SlotKind::Ram {
            slot.kind = SlotKind::Other;
        }
    }
}

#[cfg(test)]
mod tests;
