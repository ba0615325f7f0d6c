//! Is a layout right? The guest's own memory says so.
//!
//! What the processor executes has to be mapped, and to be code; the page tables that it walks have to be page tables wherever
//! they lie, and the RAM that they map has to be there. A layout that is cut at the wrong place puts other memory where tables
//! and code should be. Without registers there are the tables of firmware and boot loaders, as far as there are any.

mod code;
mod firmware;
mod tables;

use vmc::arch::x86_64::{Levels, X86PageTables};
use vmc::arch::{self, Registers};
use vmc::{PageTables, PhysAddr, PhysMemory, VirtAddr};

use crate::error::ProcessError;
use crate::layout::{Layout, Piece};
use crate::memory::ProcessMemory;

/// What speaks for a layout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// What was confirmed, a phrase each: `the code that vCPU 0 executes`. Empty where nothing could be looked at: a guest that
    /// has not begun yet has no page tables.
    pub confirmed: Vec<String>,
    /// Has memory of each piece that the cut could have displaced been confirmed? Also true where there is but one.
    pub whole: bool,
}

/// What speaks against a layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The page tables lie where there is no memory.
    #[error("the layout has no memory at {root}, where the page tables of vCPU {vcpu} begin")]
    Root {
        /// The vCPU.
        vcpu: usize,
        /// Where its page tables begin.
        root: PhysAddr,
    },
    /// Code is not there, or is none.
    #[error("by the layout, vCPU {vcpu}'s {what} at {address} {reason}")]
    Code {
        /// The vCPU.
        vcpu: usize,
        /// What was looked at.
        what: &'static str,
        /// Where it is.
        address: VirtAddr,
        /// What is wrong.
        reason: String,
    },
    /// Page tables are none.
    #[error("by the layout, {wrong} of {all} page tables in the memory from {guest} on are none")]
    Tables {
        /// Where the piece of memory begins.
        guest: PhysAddr,
        /// How many are none.
        wrong: usize,
        /// How many were looked at.
        all: usize,
    },
    /// The guest maps RAM that is not there.
    #[error(
        "the guest maps RAM that the layout does not have: {outside:#x} bytes, as at {example}, beside {inside:#x} that it has"
    )]
    Ram {
        /// Bytes that are mapped and not there.
        outside: u64,
        /// Bytes that are mapped and there.
        inside: u64,
        /// One of those that are not there.
        example: PhysAddr,
    },
    /// A table of firmware is not there, or speaks of other memory.
    #[error("by the layout, {what} at {at} {reason}")]
    Firmware {
        /// The table.
        what: &'static str,
        /// Where it should be.
        at: PhysAddr,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Looks whether `layout` is right, by what `memory` reads by it and by the vCPUs' registers, which may be none.
///
/// # Errors
/// [`VerifyError`]: what speaks against it.
pub fn verify(
    layout: &Layout,
    memory: &dyn PhysMemory,
    registers: &[Registers],
) -> Result<Verified, VerifyError> {
    verify_with(layout, memory, registers, &[])
}

/// As [`verify`], with addresses of the kernel's code that are known from elsewhere: where system calls begin (LSTAR), for
/// example. Each has to be mapped by every vCPU's page tables.
///
/// # Errors
/// [`VerifyError`]: what speaks against it.
pub fn verify_with(
    layout: &Layout,
    memory: &dyn PhysMemory,
    registers: &[Registers],
    code: &[VirtAddr],
) -> Result<Verified, VerifyError> {
    let mut confirmed = Vec::new();
    let mut census = tables::Census::new(layout);
    for (vcpu, registers) in registers.iter().enumerate() {
        match registers {
            Registers::X86_64(registers) => {
                let Some(tables) = x86_tables(registers) else { continue };
                if !memory.regions().iter().any(|region| region.contains(tables.root())) {
                    return Err(VerifyError::Root { vcpu, root: tables.root() });
                }
                let all = PageTables::X86_64(tables);
                if let Some(good) = code::executed(memory, &all, vcpu, VirtAddr::new(registers.rip))? {
                    confirmed.push(good);
                }
                for at in code {
                    confirmed.push(code::entry(memory, &all, vcpu, *at)?);
                }
                census.add(tables);
            }
            Registers::Aarch64(registers) => confirmed.extend(arm(memory, registers, vcpu)?),
            _ => {}
        }
    }
    let mut pieces = vec![false; layout.pieces.len()];
    if let Some(good) = census.take(memory, &mut pieces)? {
        confirmed.push(good);
    }
    confirmed.extend(firmware::look(memory, &mut pieces)?);
    confirmed.dedup();
    let whole = layout.pieces.iter().zip(&pieces).all(|(piece, seen)| *seen || !is_displaced(layout, piece));
    Ok(Verified { whole: whole && !confirmed.is_empty(), confirmed })
}

/// Can a cut at the wrong place have displaced a piece? What lies as far from its place in the process as the first piece
/// does cannot be: of a PC's first MiB, and what follows it.
fn is_displaced(layout: &Layout, piece: &Piece) -> bool {
    let distance = |piece: &Piece| piece.host.wrapping_sub(piece.guest.get());
    layout.pieces.first().is_some_and(|first| distance(first) != distance(piece))
}

/// The page tables that a processor walks; none where it does not, or in a way of 32-bit kernels.
fn x86_tables(registers: &arch::x86_64::Registers) -> Option<X86PageTables> {
    const PG: u64 = 1 << 31;
    const PAE: u64 = 1 << 5;
    let walks = registers.cr0 & PG != 0 && registers.cr4 & PAE != 0;
    let levels = if registers.five_levels() { Levels::Five } else { Levels::Four };
    walks.then(|| X86PageTables::new(PhysAddr::new(registers.page_table_root()), levels))
}

/// Code of an aarch64 kernel: where it is, and its vectors.
fn arm(
    memory: &dyn PhysMemory,
    registers: &arch::aarch64::Registers,
    vcpu: usize,
) -> Result<Vec<String>, VerifyError> {
    let mut confirmed = Vec::new();
    let Some(tables) = tables::upper_half(registers) else { return Ok(confirmed) };
    let tables = PageTables::Aarch64(tables);
    if !memory.regions().iter().any(|region| region.contains(tables.root())) {
        return Err(VerifyError::Root { vcpu, root: tables.root() });
    }
    // Bit 55 says which half it is.
    let upper = |address: &u64| address >> 55 & 1 == 1;
    if let Some(pc) = Some(registers.pc).filter(upper) {
        confirmed.extend(code::executed(memory, &tables, vcpu, VirtAddr::new(pc))?);
    }
    if let Some(vectors) = registers.vbar.filter(upper) {
        confirmed.push(code::entry(memory, &tables, vcpu, VirtAddr::new(vectors))?);
    }
    Ok(confirmed)
}

/// Why no layout was chosen.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    /// There was none to choose from.
    #[error("there is no layout to choose from")]
    None,
    /// All are wrong.
    #[error("the guest's memory contradicts {how}: {why}")]
    Wrong {
        /// The last layout that was tried, as it is known.
        how: String,
        /// What speaks against it.
        why: VerifyError,
    },
    /// More than one can be, and nothing tells which.
    #[error(
        "{count} layouts are possible, and the guest's memory does not tell which is right; give it as GPA+SIZE@HVA,…"
    )]
    Undecided {
        /// How many.
        count: usize,
    },
    /// The process' memory.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// The one of several layouts of process `pid` that the guest's memory confirms, with its memory.
///
/// # Errors
/// [`ChooseError`] where all are contradicted, or more than one is not.
pub fn choose(
    pid: u32,
    candidates: Vec<Layout>,
    registers: &[Registers],
) -> Result<(Layout, ProcessMemory, Verified), ChooseError> {
    let mut possible = Vec::new();
    let mut wrong = None;
    for layout in candidates {
        let memory = ProcessMemory::open(pid, &layout)?;
        match verify(&layout, &memory, registers) {
            Ok(verified) => possible.push((layout, memory, verified)),
            Err(why) => wrong = Some(ChooseError::Wrong { how: layout.how, why }),
        }
    }
    let count = possible.len();
    // One that is confirmed as a whole stands above those of which nothing is known.
    if count > 1 {
        possible.retain(|(_, _, verified)| verified.whole);
    }
    match (possible.pop(), possible.is_empty()) {
        (Some(one), true) => Ok(one),
        _ if count > 0 => Err(ChooseError::Undecided { count }),
        _ => Err(wrong.unwrap_or(ChooseError::None)),
    }
}

#[cfg(test)]
mod tests;
