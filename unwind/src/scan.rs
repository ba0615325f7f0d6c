//! Guesses: words on a stack that look like return addresses.

use alloc::vec::Vec;

use vmc::view::FoundBy;
use vmc::{Limits, VirtAddr, VirtualMemory};

use crate::aarch64::{self, Signature};
use crate::code_address::CodeAddress;
use crate::frame::Frame;
use crate::module::Modules;
use crate::row_step::RegisterFile;
use crate::x86;
use crate::x86_64::Registers;

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

/// The same on the stack of an aarch64 program, whose return addresses may be signed.
#[must_use]
pub fn guess_callers_aarch64<M: Modules + ?Sized, V: VirtualMemory + ?Sized>(
    modules: &M,
    memory: &V,
    from: VirtAddr,
    limits: &Limits,
    signature: Signature,
) -> Vec<Frame<aarch64::Registers>> {
    let registers = |ip, sp| aarch64::Registers::new(ip, sp).with_signature(signature);
    guess(modules, memory, from, limits, registers)
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
    let words = slots.map_while(|slot| {
        let word = VirtAddr::new(R::read(memory, slot).ok()?);
        Some(registers(word, VirtAddr::new(slot.wrapping_add(size))))
    });
    let returns = words.filter(|registers| {
        let ip = registers.ip();
        let call = ip.checked_sub(1).and_then(|at| modules.find(at));
        call.is_some() && R::is_called_before(memory, ip)
    });
    let frames = returns.map(|registers| Frame {
        address: CodeAddress::ReturnAddress(registers.ip()),
        sp: registers.sp(),
        cfa: None,
        found_by: FoundBy::Scan,
        interrupted_by_signal: false,
        registers,
    });
    frames.take(limits.frames).collect()
}
