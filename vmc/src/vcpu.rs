//! Virtual CPUs, as a backend offers them.

use crate::arch::Registers;

/// Why a vCPU's registers are not to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VcpuError {
    /// There is no such vCPU.
    #[error("there is no vCPU {index}: the target has {count}")]
    NoSuchVcpu {
        /// The one that was asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// The backend could not read them.
    #[error("the registers of vCPU {index} could not be read: {reason}")]
    Failed {
        /// The vCPU.
        index: usize,
        /// What the backend says.
        reason: &'static str,
    },
}

/// A guest's vCPUs. A target without registers (a raw image) has none.
pub trait Vcpus: Sync {
    /// How many there are, in the order in which the virtual machine numbers them.
    fn count(&self) -> usize;

    /// The registers of one, as they are now.
    ///
    /// # Errors
    /// [`VcpuError`] where there is no such vCPU, or it cannot be read.
    fn registers(&self, index: usize) -> Result<Registers, VcpuError>;
}

/// No vCPUs: what goes with memory alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoVcpus;

impl Vcpus for NoVcpus {
    fn count(&self) -> usize {
        0
    }

    fn registers(&self, index: usize) -> Result<Registers, VcpuError> {
        Err(VcpuError::NoSuchVcpu { index, count: 0 })
    }
}
