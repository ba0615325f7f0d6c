//! Live KVM guests of any VMM: registers and memory from outside, without an agent.
//!
//! # What it gives
//! [`Kvm`] attaches to the process of a virtual machine monitor (QEMU, Firecracker, Cloud Hypervisor, crosvm, anything that uses
//! `/dev/kvm`) and is a [`vmc::LiveGuest`]: vCPUs are held and let go, their registers read, the guest's memory read in the process.
//! [`Machine`] is the same without memory.
//!
//! # How
//! * vCPU threads are traced (`PTRACE_SEIZE`) and held by an interrupt, which takes a vCPU out of the guest. Nothing of the VMM's code
//!   or data is written for that.
//! * Registers come by `ioctl`s that a held thread makes on borrowed registers, or, with [`AttachOptions::no_inject`] and wherever a
//!   guest is held again and again, from the page that each vCPU shares with its VMM: KVM stores them there on leaving the guest.
//! * All of that is done by a child process ([`vmc_process::guardian`]). It puts everything right when this process ends, also when
//!   it is killed, at any moment.
//! * Where memory lies comes from the user, QEMU's monitor, the host kernel's memory slots or what is known of the VMM, in that
//!   order, and is held against the guest's page tables.
//!
//! # What it needs
//! Linux 5.3 or later, and the right to trace the process: root, `CAP_SYS_PTRACE`, or the same user where Yama allows it
//! (`kernel.yama.ptrace_scope`). Where it may take a real-time priority (root, `CAP_SYS_NICE`), the thread that attaches or holds a
//! guest has the lowest of these meanwhile, for at most 100 ms at a time, so that the guest is held as briefly on a busy host as on a
//! quiet one; elsewhere a hold may take some ticks of the clock longer. A thread under a seccomp filter needs `CAP_SYS_ADMIN` for injection. x86_64 is tested; aarch64 is
//! written by the kernel's interfaces and **has not been run**.
//!
//! # What it is not for
//! Guests whose state is encrypted (SEV-ES, TDX), and guests that are emulated: those have no KVM to ask. vCPUs that are plugged in
//! after attaching are not seen. While it is attached, signals to vCPU threads pass through the child, and take a little longer.
//!
//! # Example
//! ```no_run
//! use vmc::{LiveGuest, Vcpus};
//! use vmc_kvm::{AttachOptions, Kvm};
//!
//! let guest = Kvm::attach(4711, &AttachOptions::default())?;
//! guest.stop()?;
//! for index in 0..guest.count() {
//!     println!("{:x?}", guest.registers(index)?);
//! }
//! guest.resume()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arch;
mod error;
mod find;
mod guest;
mod machine;
mod options;
mod place;
mod registers;
mod tracer;
mod wire;

pub use error::AttachError;
pub use guest::Kvm;
pub use machine::Machine;
pub use options::{AttachOptions, Step, Watcher};
pub use registers::SystemRegisters;
