//! What differs by the host's architecture, and so by the guest's: how a thread makes a system call on borrowed registers, what KVM
//! is asked for a vCPU's registers, and how its answers are read.
//!
//! Both architectures are built and tested on either. x86_64 was run on real guests; **aarch64 follows the kernel's interfaces and
//! has not been run**.

#[cfg_attr(
    not(target_arch = "aarch64"),
    allow(dead_code, reason = "built and tested everywhere, used on its own hosts")
)]
pub(crate) mod aarch64;
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "built and tested everywhere, used on its own hosts")
)]
pub(crate) mod x86_64;

use vmc::arch::Registers;

use crate::registers::SystemRegisters;

/// The architecture of this host.
#[cfg(target_arch = "x86_64")]
pub(crate) type Host = x86_64::X86;
/// The architecture of this host.
#[cfg(target_arch = "aarch64")]
pub(crate) type Host = aarch64::Arm;

/// The most words that a thread's general registers have.
pub(crate) const WORDS: usize = 34;

/// A thread's general registers, as `NT_PRSTATUS` of `PTRACE_GETREGSET` has them.
pub(crate) type Frame = [u64; WORDS];

/// The bytes of the tracee's stack that are borrowed.
pub(crate) const SCRATCH: usize = 512;

/// The most bytes that are kept of a vCPU.
pub(crate) const BLOCK: usize = 512;

/// `KVM_RUN`: `_IO(0xAE, 0x80)` of linux/kvm.h.
pub(crate) const KVM_RUN: u64 = 0xae80;

/// `KVM_CHECK_EXTENSION`: `_IO(0xAE, 0x03)`.
pub(crate) const KVM_CHECK_EXTENSION: u64 = 0xae03;

/// `KVM_CAP_SYNC_REGS` of linux/kvm.h.
pub(crate) const KVM_CAP_SYNC_REGS: u64 = 74;

/// Where `kvm_valid_regs` of `struct kvm_run` stands; `kvm_dirty_regs` follows, then the registers.
pub(crate) const VALID_REGS: u64 = 288;

/// An `ioctl` of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// The request.
    pub(crate) request: u64,
    /// How many bytes of the scratch memory are written before.
    pub(crate) put: usize,
    /// How many bytes of it are read afterwards.
    pub(crate) take: usize,
}

/// What an architecture has to say. Everything here runs in the child and allocates nothing, but for what makes registers of a block.
pub(crate) trait Arch {
    /// How many words of a [`Frame`] there are.
    const WORDS: usize;
    /// The bytes of the instruction that makes a system call.
    const SYSTEM_CALL: &'static [u8];
    /// `ioctl`.
    const IOCTL: u64;
    /// How many bytes below the stack pointer may be in use.
    const RED_ZONE: u64;
    /// What `kvm_valid_regs` has to ask for; 0 where the page has no registers.
    const SYNC_WANTED: u64;
    /// The bytes of the registers in the page.
    const SYNC_LEN: usize;
    /// Where among these a word stands that is never 0 in a vCPU that has run.
    const SYNC_MARK: usize;

    /// Where the thread is.
    fn pc(frame: &Frame) -> u64;
    /// The stack pointer.
    fn sp(frame: &Frame) -> u64;
    /// The system call that the thread is in, with its first two arguments.
    fn system_call(frame: &Frame) -> Option<(u64, u64, u64)>;
    /// Sets the thread up to make a system call at `pc`, one that is not made again when it is interrupted.
    fn call(frame: &mut Frame, pc: u64, number: u64, arguments: [u64; 3]);
    /// What a system call returned.
    fn result(frame: &Frame) -> i64;

    /// The `step`th thing to ask for, its input in `scratch`, which lies at `at`. None where there is no more to ask.
    /// `state` is kept for the same vCPU from step to step, and is 0 at first.
    fn ask(step: usize, state: &mut u64, at: u64, scratch: &mut [u8; SCRATCH]) -> Option<Ask>;
    /// Takes the answer: `result` and what is in `scratch`.
    ///
    /// # Errors
    /// The number of the error where that is one.
    fn answer(
        step: usize,
        state: &mut u64,
        result: i64,
        scratch: &[u8; SCRATCH],
        block: &mut [u8; BLOCK],
    ) -> Result<(), i32>;
    /// The registers of the page as a block.
    fn from_sync(sync: &[u8], block: &mut [u8; BLOCK]);

    /// The registers of a block.
    fn registers(block: &[u8]) -> Registers;
    /// The others.
    fn system_registers(block: &[u8]) -> SystemRegisters;
}

/// The little-endian words of `N` bytes at `at`; zeros where there are none.
pub(crate) fn bytes<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(found) = at.checked_add(N).and_then(|end| from.get(at..end)) {
        out.copy_from_slice(found);
    }
    out
}

pub(crate) fn word(from: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes(from, at))
}

/// The error of a call that returned what KVM does not: `EPROTO`.
pub(crate) const NO_ANSWER: i32 = 71;

/// Did a call succeed that returns 0 then?
pub(crate) fn done(result: i64) -> Result<(), i32> {
    match result {
        0 => Ok(()),
        1.. => Err(NO_ANSWER),
        _ => Err(i32::try_from(-result).unwrap_or(NO_ANSWER)),
    }
}

/// The descriptor of the vCPU that a thread runs by this system call, with its first two arguments; nothing where it is another call.
pub(crate) const fn vcpu_run(call: (u64, u64, u64)) -> Option<u64> {
    match call {
        (Host::IOCTL, fd, KVM_RUN) => Some(fd),
        _ => None,
    }
}

/// Is the argument of a system call one of these descriptors?
pub(crate) fn is_one_of(fd: u64, fds: &[i32]) -> bool {
    fds.iter().any(|one| i64::from(*one).cast_unsigned() == fd)
}

/// A word of a thread's registers.
fn get(frame: &Frame, index: usize) -> u64 {
    frame.get(index).copied().unwrap_or(0)
}

fn set(frame: &mut Frame, index: usize, value: u64) {
    if let Some(place) = frame.get_mut(index) {
        *place = value;
    }
}

/// Writes `what` at `at`, where it fits.
pub(crate) fn put(to: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = at.checked_add(what.len()).and_then(|end| to.get_mut(at..end)) {
        place.copy_from_slice(what);
    }
}
