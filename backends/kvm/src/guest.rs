//! A live KVM guest: vCPUs and memory of a process.

use vmc::addr::PhysAddr;
use vmc::arch::Registers;
use vmc::live::{LiveError, LiveFacts, LiveGuest};
use vmc::memory::{PhysError, PhysMemory, Region};
use vmc::vcpu::{VcpuError, Vcpus};
use vmc_process::ProcessMemory;

use crate::error::AttachError;
use crate::machine::Machine;
use crate::options::AttachOptions;
use crate::place::{self, Placed};
use crate::registers::SystemRegisters;

/// A live KVM guest, attached to by its VMM's process.
///
/// Its threads stay traced until it is dropped; nothing of the VMM is changed then.
#[derive(Debug)]
pub struct Kvm {
    machine: Machine,
    memory: ProcessMemory,
    placed: Placed,
    no_inject: bool,
}

impl Kvm {
    /// Attaches to the guest of process `pid`, which runs on but for a moment in which its registers are read: the layout of its
    /// memory is confirmed by its page tables.
    ///
    /// # Errors
    /// [`AttachError`], a line each.
    pub fn attach(pid: u32, options: &AttachOptions) -> Result<Self, AttachError> {
        let machine = Machine::attach(pid, options)?;
        let candidates = place::candidates(pid, machine.name(), options)?;
        let refused = |error: LiveError| AttachError::Refused {
            pid,
            name: machine.name().to_owned(),
            why: error.to_string(),
        };
        machine.stop().map_err(refused)?;
        let registers: Vec<Registers> =
            (0..machine.count()).filter_map(|index| machine.registers(index).ok()).collect();
        let (memory, placed) = candidates.choose(pid, machine.name(), &registers)?;
        machine.resume().map_err(refused)?;
        let kvm = Self { machine, memory, placed, no_inject: options.no_inject };
        kvm.forget();
        Ok(kvm)
    }

    /// The vCPUs alone.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// What [`Registers`] lack.
    ///
    /// # Errors
    /// As [`registers`](Vcpus::registers).
    pub fn system_registers(&self, index: usize) -> Result<SystemRegisters, VcpuError> {
        self.machine.system_registers(index)
    }
}

impl PhysMemory for Kvm {
    fn regions(&self) -> &[Region] {
        self.memory.regions()
    }

    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        self.memory.read(addr, buf)
    }

    fn read_u64(&self, addr: PhysAddr) -> Result<u64, PhysError> {
        self.memory.read_u64(addr)
    }
}

impl Vcpus for Kvm {
    fn count(&self) -> usize {
        self.machine.count()
    }

    fn registers(&self, index: usize) -> Result<Registers, VcpuError> {
        self.machine.registers(index)
    }
}

impl LiveGuest for Kvm {
    fn stop(&self) -> Result<(), LiveError> {
        if !self.machine.held() {
            self.machine.stop()?;
            self.memory.forget();
        }
        Ok(())
    }

    fn resume(&self) -> Result<(), LiveError> {
        self.machine.resume()
    }

    fn running(&self) -> bool {
        self.machine.running()
    }

    fn forget(&self) {
        self.memory.forget();
        self.machine.forget();
    }

    fn facts(&self) -> LiveFacts {
        let registers = match (self.machine.how(), self.no_inject) {
            ("none yet", true) => "kvm_run",
            ("none yet", false) => "injected ioctl",
            (how, _) => how,
        };
        LiveFacts {
            backend: "kvm",
            vmm: Some(self.machine.name().to_owned()),
            pid: Some(self.machine.pid()),
            layout: self.placed.how.clone(),
            memory: self.memory.how().to_owned(),
            registers: registers.to_owned(),
            ram_bytes: self.placed.ram_bytes,
            warnings: self.placed.warnings.clone(),
        }
    }

    fn as_memory(&self) -> &dyn PhysMemory {
        self
    }

    fn as_vcpus(&self) -> &dyn Vcpus {
        self
    }
}
