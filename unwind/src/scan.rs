//! Guesses: words on a stack that look like return addresses.

use alloc::vec::Vec;

use vmc::view::FoundBy;
use vmc::{Limits, VirtAddr, VirtualMemory};

use crate::code_address::CodeAddress;
use crate::frame::Frame;
use crate::module::Modules;
use crate::row_step::RegisterFile;
use crate::x86;
use crate::x86_64::{Registers, call_before};

/// The words from `from` up that lie behind a call in executable memory, as frames. Some are left over from calls that have
/// returned: nothing tells which. It ends at memory that cannot be read, and at the bounds of words and frames.
#[must_use]
pub fn guess_callers<M: Modules + ?Sized, V: VirtualMemory + ?Sized>(
    modules: &M,
    memory: &V,
    from: VirtAddr,
    limits: &Limits,
) -> Vec<Frame> {
    guess(modules, memory, from, limits, Registers::new)
}

/// The same on the stack of a 32-bit program.
#[must_use]
pub fn guess_callers_x86<M: Modules + ?Sized, V: VirtualMemory + ?Sized>(
    modules: &M,
    memory: &V,
    from: VirtAddr,
    limits: &Limits,
) -> Vec<Frame<x86::Registers>> {
    guess(modules, memory, from, limits, |ip, sp| x86::Registers::new(ip.get() as u32, sp.get() as u32))
}

fn guess<R: RegisterFile, M: Modules + ?Sized, V: VirtualMemory + ?Sized>(
    modules: &M,
    memory: &V,
    from: VirtAddr,
    limits: &Limits,
    registers: impl Fn(VirtAddr, VirtAddr) -> R,
) -> Vec<Frame<R>> {
    let size = u64::from(R::WORD.bytes());
    let start = from.get().checked_next_multiple_of(size).unwrap_or(u64::MAX);
    let slots = (0..limits.scan_words as u64).map_while(|index| start.checked_add(index * size));
    let words = slots.map_while(|slot| Some((slot, VirtAddr::new(R::read(memory, slot).ok()?))));
    let returns = words.filter(|(_, ip)| {
        let call = ip.checked_sub(1).and_then(|at| modules.find(at));
        // Calls are the same bytes in 32-bit code.
        call.is_some() && call_before(memory, *ip).is_some()
    });
    let frames = returns.map(|(slot, ip)| {
        let sp = VirtAddr::new(slot.wrapping_add(size));
        Frame {
            address: CodeAddress::ReturnAddress(ip),
            sp,
            cfa: None,
            found_by: FoundBy::Scan,
            interrupted_by_signal: false,
            registers: registers(ip, sp),
        }
    });
    frames.take(limits.frames).collect()
}
