//! From registers to stack frames.
//!
//! # What it gives
//! * [`UnwindTable`]: the call frame information of one ELF image, with a [`Row`] of plain rules for any address;
//! * [`Unwinder`]: a [`Walk`] over the frames of a stack, each saying how it was found, and at its end why it ended;
//! * [`orc`]: the same for the Linux kernel, by the tables that it carries for its own code;
//! * [`aarch64::kernel`]: the same for the Linux kernel there, by its chain of frame records;
//! * [`pe`]: the same for x64 code in PE images, by their `.pdata` and `.xdata`; those of ARM64 images are read, not yet walked by;
//! * ways on through code that has no tables: what the code does up to its return, frame pointers, signal returns;
//! * on aarch64: frames that have stored nothing, and return addresses that are signed;
//! * all callee-saved registers in every frame, not only the ones that the next frame happens to need;
//! * [`Cache`]: rules by address, shared by all processes that map the same file;
//! * [`CodeAddress`]: the "look up one byte before a return address" rule, in one place.
//!
//! # What it needs
//! Memory to read the stack from ([`vmc::VirtualMemory`]), the bytes of `.eh_frame_hdr` and `.eh_frame` of each image,
//! and which image lies where ([`Modules`]). Parts of a section may be missing, as they are in a guest's memory: an entry
//! that touches one is [`RowError::NotResident`], never garbage. No file, process or OS is known here (`no_std`).
//!
//! # What it is not for
//! It names no functions, and a walk guesses nothing: where no rule and no code says how to go on, it stops and says so
//! (guesses are to be had apart, by [`guess_callers`]). It does not run personality routines or landing pads. Today it reads
//! `.eh_frame` and `.debug_frame` of x86_64, [i386](x86) and [aarch64], the code of the two 64-bit ones, ORC, the frame
//! pointers of Linux kernels, and the exception directories of PE images; other formats and architectures have their place beside it.
//!
//! # Why it is fast
//! FDEs are found by binary search in `.eh_frame_hdr` as it lies there; nothing is parsed ahead. What compilers write is
//! folded straight into a rule of 20 bytes; only odder programs are run in full. The rule then stays in a fixed cache under
//! its link-time address, so that a hit costs a few compares and the reads of what the frame has saved. A walk allocates
//! nothing until it meets a signal frame.
//!
//! # Not only for virtual machines
//! Whatever has memory, a map of images and registers can be walked; a core file's notes and segments do as well. This is
//! the whole of `examples/process.rs`: the stack of a blocked process of the host, out of `/proc` alone.
//! ```no_run
#![doc = include_str!("../examples/process.rs")]
//! ```
//!
//! # Hostile input
//! Sections and stacks come from a guest. Nothing panics; walks go up the stack or end; expressions, entries and frames
//! are bounded (see [`vmc::Limits`]).
//!
//! # Example
//! One function that has pushed rbp, called by the outermost one:
//! ```
//! use std::sync::Arc;
//! use vmc::view::Stop;
//! use vmc::{Fault, Limits, ReadError, VirtAddr, VirtualMemory};
//! use vmc_unwind::x86_64::Registers;
//! use vmc_unwind::{Cache, Module, ModuleMap, Section, Sections, UnwindTable, Unwinder};
//!
//! let eh_frame = [
//!     // CIE: CFA = rsp + 8, return address at CFA - 8
//!     &[20, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x00, 0x0c, 7, 8, 0x90, 1, 0, 0][..],
//!     // FDE of 0x1000..0x1100: CFA = rsp + 16, rbp at CFA - 16
//!     &[28, 0, 0, 0, 28, 0, 0, 0, 0x00, 0x10, 0, 0, 0, 0, 0, 0, 0x00, 0x01, 0, 0, 0, 0, 0, 0, 0],
//!     &[0x0e, 16, 0x86, 2, 0, 0, 0],
//!     // FDE of 0x2000..0x2100: the return address is undefined
//!     &[28, 0, 0, 0, 60, 0, 0, 0, 0x00, 0x20, 0, 0, 0, 0, 0, 0, 0x00, 0x01, 0, 0, 0, 0, 0, 0, 0],
//!     &[0x07, 16, 0, 0, 0, 0, 0],
//! ];
//! let eh_frame = Section::new(0x3000, eh_frame.concat());
//! let table = Arc::new(UnwindTable::new(Sections { eh_frame, ..Sections::default() }));
//! let range = VirtAddr::new(0x7f00_0000_1000)..VirtAddr::new(0x7f00_0000_3000);
//! let modules = ModuleMap::new(vec![Module { range, bias: 0x7f00_0000_0000, table: Some(table), index: 0 }]);
//!
//! struct Stack([u64; 2]); // at 0x8000
//! impl VirtualMemory for Stack {
//!     fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
//!         let word = addr.get().checked_sub(0x8000).and_then(|at| self.0.get(at as usize / 8));
//!         buf.copy_from_slice(&word.ok_or(ReadError::new(addr, Fault::NotMapped))?.to_le_bytes());
//!         Ok(())
//!     }
//! }
//! let stack = Stack([0xbeef, 0x7f00_0000_2020]); // rbp, return address
//!
//! let limits = Limits::default();
//! let mut cache = Cache::new();
//! let registers = Registers::new(VirtAddr::new(0x7f00_0000_1004), VirtAddr::new(0x8000));
//! let mut walk = Unwinder::new(&modules, &stack, &limits).walk(registers, &mut cache);
//! let frames: Vec<_> = walk.by_ref().collect();
//! assert_eq!(frames[1].address.address(), VirtAddr::new(0x7f00_0000_2020));
//! assert_eq!(frames[1].registers.get(gimli::X86_64::RBP), Some(0xbeef));
//! assert_eq!((frames.len(), walk.stop()), (2, Stop::End));
//! ```
#![no_std]

extern crate alloc;

pub mod aarch64;
pub mod cache;
pub mod cfi;
pub mod code_address;
mod cursor;
pub mod expression;
mod follow;
pub mod frame;
mod machine;
pub mod module;
pub mod orc;
pub mod pe;
mod reach;
mod row_step;
pub mod scan;
#[cfg(test)]
mod test_memory;
pub mod unwinder;
pub mod x86;
pub mod x86_64;

pub use cache::Cache;
pub use cfi::{AddressSize, Row, RowError, Scratch, Section, Sections, UnwindTable, eh_frame_address};
pub use code_address::CodeAddress;
pub use frame::Frame;
pub use gimli;
pub use module::{Found, Module, ModuleMap, Modules, NoTable};
pub use scan::{guess_callers, guess_callers_aarch64, guess_callers_x86};
pub use unwinder::{Unwinder, Walk};
