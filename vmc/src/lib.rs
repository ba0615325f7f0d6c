//! The core of **vmc**: what every way into a guest and every guest OS share.
//!
//! # What it gives
//! * [`PhysAddr`], [`VirtAddr`]: addresses that cannot be mixed up;
//! * [`PhysMemory`], [`Vcpus`]: the two small traits a backend implements, as far as it can;
//! * [`arch`]: registers and page-table walks by architecture, with the entry that ended a walk;
//! * [`AddressSpace`]: virtual memory over physical memory, with a TLB, saying exactly why a read failed;
//! * [`VirtualMemory`], [`ReadExt`]: values, strings, slices and partial reads on any virtual memory;
//! * [`symbols::SymbolTable`], [`layout::StructLayout`]: names and type layouts, checked when they are asked for;
//! * [`LiveGuest`]: a guest that runs while it is looked at, and how to hold it still;
//! * [`Limits`]: the one place that bounds what a guest can make us do;
//! * [`view`]: processes, threads, mappings, modules and frames as rows that no OS is visible in.
//!
//! # What it needs
//! An allocator. No file, process or OS is known here (`no_std`); backends bring the memory, OS crates the meaning.
//!
//! # What it is not for
//! It does not find a kernel, parse a dump or unwind a stack: see `vmc-dump`, `vmc-linux` and `vmc-unwind`.
//!
//! # Example
//! One page of memory, mapped by hand, read through its page tables:
//! ```
//! use vmc::{AddressSpace, FlatMemory, PageTables, PhysAddr, ReadExt, VirtAddr, VirtualMemory};
//! use vmc::arch::x86_64::{Levels, X86PageTables};
//!
//! let mut ram = vec![0u8; 0x6000];
//! // PML4 at 0x1000 -> PDPT at 0x2000 -> PD at 0x3000 -> PT at 0x4000 -> page at 0x5000
//! for (table, next) in [(0x1000, 0x2003u64), (0x2000, 0x3003), (0x3000, 0x4003), (0x4000, 0x5003)] {
//!     ram[table..table + 8].copy_from_slice(&next.to_le_bytes());
//! }
//! ram[0x5010..0x5016].copy_from_slice(b"hello\0");
//!
//! let memory = FlatMemory::new(PhysAddr::new(0), &ram);
//! let tables = X86PageTables::new(PhysAddr::new(0x1000), Levels::Four);
//! let space = AddressSpace::new(&memory, PageTables::X86_64(tables));
//! assert_eq!(space.read_cstr(VirtAddr::new(0x10), 64)?, b"hello");
//!
//! let why = space.read_u64(VirtAddr::new(0x1000)).unwrap_err();
//! assert_eq!(
//!     why.to_string(),
//!     "0x1000: page table level 1 has entry 0x0 at physical 0x4008, not present"
//! );
//! # Ok::<(), vmc::ReadError>(())
//! ```
#![no_std]

extern crate alloc;

pub mod addr;
pub mod arch;
pub mod bytes;
pub mod layout;
pub mod limits;
pub mod live;
pub mod memory;
pub mod ring;
pub mod space;
pub mod symbols;
pub mod text;
pub mod tlb;
pub mod vcpu;
pub mod view;
pub mod virt;

pub use addr::{PhysAddr, VirtAddr};
pub use arch::{Architecture, PageTables, Registers, TranslateError, Walk, WalkEntry};
pub use limits::Limits;
pub use live::{LiveError, LiveFacts, LiveGuest};
pub use memory::{FlatMemory, PhysError, PhysMemory, Region};
pub use space::AddressSpace;
pub use vcpu::{VcpuError, Vcpus};
pub use virt::{Fault, ReadError, ReadExt, VirtualMemory};
