//! x64: unwind information, epilogs, steps and walks.

mod epilog;
mod info;
mod step;
mod walk;

pub use info::{Chained, InfoError, Operation, UnwindCode, UnwindInfo};
pub use walk::{PeUnwinder, PeWalk};

/// DWARF's numbers of the registers by the processor's: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
const DWARF: [u16; 16] = [0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15];

/// DWARF's number of a register by the processor's; of its four bits only.
fn dwarf(number: u8) -> u16 {
    DWARF.get(usize::from(number & 15)).copied().unwrap_or_default()
}
