//! The VMM's memory, as far as the child reads and writes it: scratch bytes of a stack, and the pages that vCPUs share.

use std::io::{IoSlice, IoSliceMut};

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;

fn remote(at: u64, len: usize) -> Result<RemoteIoVec, Errno> {
    Ok(RemoteIoVec { base: usize::try_from(at).map_err(|_| Errno::EFAULT)?, len })
}

fn whole(done: usize, len: usize) -> Result<(), Errno> {
    if done == len { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Fills `buf` from address `at` on of the process that `thread` is of.
pub(crate) fn read(thread: i32, at: u64, buf: &mut [u8]) -> Result<(), Errno> {
    let len = buf.len();
    let done = process_vm_readv(Pid::from_raw(thread), &mut [IoSliceMut::new(buf)], &[remote(at, len)?])?;
    whole(done, len)
}

/// Writes all of `bytes` at `at` there.
pub(crate) fn write(thread: i32, at: u64, bytes: &[u8]) -> Result<(), Errno> {
    let done = process_vm_writev(Pid::from_raw(thread), &[IoSlice::new(bytes)], &[remote(at, bytes.len())?])?;
    whole(done, bytes.len())
}
