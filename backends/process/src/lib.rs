//! Guest memory in another process of this host: layout, reads and a page cache for live virtual machines.
//!
//! # What it gives
//! [`Layout`] says which addresses of a virtual machine monitor's process hold which guest-physical memory;
//! [`ProcessMemory`] reads the guest's memory by it, as [`vmc::PhysMemory`]. A layout comes from its user ([`Layout::parse`]),
//! from the host's kernel ([`kernel_memslots`]: exact, for any monitor that uses KVM), or from what is known of the monitor
//! ([`vmm_rules`]: QEMU, Firecracker, Cloud Hypervisor, crosvm); [`verify()`] and [`choose`] hold it against the guest's own
//! memory. [`socket`] and [`peer`] lead to monitors and stubs and to who is behind them; [`guardian`] and [`orphan`] finish what a
//! killed tool had begun.
//!
//! # What it needs
//! Linux, and the right to read the process' memory: what ptrace needs (the same user where Yama allows it, or `CAP_SYS_PTRACE`).
//! The host kernel's slots need `CAP_BPF` and `CAP_PERFMON`, and a kernel that tells of its types (`CONFIG_DEBUG_INFO_BTF`).
//!
//! # What it is not for
//! Guests whose memory is encrypted or kept from their monitor: there is nothing to be read.
//!
//! # Why it is fast
//! Memory that the monitor shares (memfd, files) is mapped here too, unless it is filled on demand (userfaultfd); other memory is read in single pages or in large pieces,
//! each in the quickest way. What was read stays, up to 16 MiB, until [`ProcessMemory::forget`].
//!
//! # Hostile input
//! The process is no more trusted than its guest: what it says in its files under `/proc` is read up to a bound, and its memory
//! is copied, never referred to, as it may change or vanish at any moment. A shared file that shrinks costs its mapping only.
//! `unsafe` stands in `mapped.rs`, `slots/bpf.rs`, `guardian.rs` and `orphan.rs`.
//!
//! # Example
//! ```
//! use vmc::{PhysAddr, PhysMemory};
//! use vmc_process::{Layout, ProcessMemory};
//!
//! // This process' own memory, as if it were a guest's.
//! let ram = vec![0x5a_u8; 8192];
//! let layout = Layout::parse(&format!("0x100000000+8K@{:#x}", ram.as_ptr().addr()))?;
//! let memory = ProcessMemory::open(std::process::id(), &layout)?;
//! assert_eq!(memory.read_u64(PhysAddr::new(0x1_0000_0ff8))?, 0x5a5a_5a5a_5a5a_5a5a);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
mod cache;
mod error;
pub mod guardian;
mod layout;
mod mapped;
mod maps;
mod memory;
pub mod orphan;
mod parse;
pub mod peer;
mod proc;
mod rules;
mod segments;
mod slots;
pub mod socket;
mod verify;

pub use address::{Address, AddressError};
pub use error::{LayoutError, ProcessError};
pub use layout::{Layout, Piece};
pub use memory::ProcessMemory;
pub use rules::{Rules, RulesError, vmm_rules};
pub use slots::{Memslot, SlotKind, SlotsError, kernel_memslots, memslots};
pub use verify::{ChooseError, Verified, VerifyError, choose, verify, verify_with};
