//! The guest's CPUs: their per-CPU areas, and which vCPU each one is.

mod aarch64;
mod run_queues;

use alloc::vec::Vec;

use vmc::layout::{Field, Types};
use vmc::{Architecture, ReadExt, Registers, VirtAddr, VirtualMemory};

use crate::error::LinuxError;
use crate::kernel::Linux;

/// The CPUs of a guest.
#[derive(Debug, Default)]
pub(crate) struct Cpus {
    /// What is added to a per-CPU address, by CPU number.
    offsets: Vec<u64>,
    /// How many are online.
    pub(crate) online: Option<u32>,
    /// Where the run queues are in a per-CPU area, where no symbol tells it.
    run_queues: Option<VirtAddr>,
    /// Which task runs on which vCPU: (task, vCPU).
    running: Vec<(VirtAddr, usize)>,
}

impl Cpus {
    pub(crate) fn find(linux: &Linux<'_>) -> Self {
        match linux.tables().architecture() {
            Architecture::X86_64 => Self::find_x86_64(linux),
            Architecture::Aarch64 => Self::find_aarch64(linux),
        }
    }

    fn find_x86_64(linux: &Linux<'_>) -> Self {
        let mut cpus = Self::default();
        cpus.read_symbols(linux);
        cpus.running = cpus.running_tasks(linux);
        cpus
    }

    /// Offsets and online CPUs, as symbols tell them.
    fn read_symbols(&mut self, linux: &Linux<'_>) {
        let space = linux.space();
        let limit = linux.limits().cpus;
        let ids = linux.known.nr_cpu_ids.and_then(|at| space.read_value::<u32>(at).ok());
        let ids = ids.map_or(1, |ids| ids as usize).clamp(1, limit);
        let offsets = match linux.known.per_cpu_offset {
            Some(table) => {
                (0..ids as u64).map_while(|cpu| space.read_u64(table.wrapping_add(cpu * 8)).ok()).collect()
            }
            // Not built for more than one CPU.
            None => Vec::from([0]),
        };
        let online = linux.known.cpu_online_mask.and_then(|mask| {
            let words = (ids as u64).div_ceil(64);
            (0..words).try_fold(0u32, |sum, word| {
                Some(sum + space.read_u64(mask.wrapping_add(word * 8)).ok()?.count_ones())
            })
        });
        (self.offsets, self.online) = (offsets, online);
    }

    /// Where the pointer to the running task lies in a per-CPU area: `current_task` until 6.1 and since 6.15, a member
    /// of `pcpu_hot` between.
    fn current(linux: &Linux<'_>) -> Option<VirtAddr> {
        let hot = || {
            let member = linux.types().member("pcpu_hot", "current_task").ok()?;
            linux.known.pcpu_hot.map(|at| at.wrapping_add(member.offset))
        };
        linux.known.current_task.or_else(hot)
    }

    /// A vCPU is the CPU whose per-CPU base is in its GS: at once in the kernel, after `swapgs` in a program.
    fn running_tasks(&self, linux: &Linux<'_>) -> Vec<(VirtAddr, usize)> {
        let Some(current) = Self::current(linux) else { return Vec::new() };
        let vcpus = linux.vcpus();
        let mut running = Vec::new();
        for index in 0..vcpus.count().min(linux.limits().cpus) {
            let Ok(Registers::X86_64(registers)) = vcpus.registers(index) else { continue };
            let Some((_, offset)) = self.per_cpu_x86_64(index, &registers) else { continue };
            if let Ok(task) = linux.space().read_pointer(current.wrapping_add(offset)) {
                running.push((task, index));
            }
        }
        running
    }

    /// The CPU that a vCPU is, and what is added to its per-CPU addresses.
    fn per_cpu_x86_64(&self, index: usize, registers: &vmc::arch::x86_64::Registers) -> Option<(u32, u64)> {
        let bases = [Some(registers.gs_base), registers.kernel_gs_base];
        let is_base = |(_, offset): &(u32, u64)| *offset != 0 && bases.contains(&Some(*offset));
        let mut cpus = (0u32..).zip(self.offsets.iter().copied());
        // Notes of QEMU before 5.0 lack the kernel's GS: then vCPUs and CPUs are taken to have one order.
        let by_order = || {
            let offset = self.offsets.get(index).filter(|_| registers.kernel_gs_base.is_none())?;
            Some((u32::try_from(index).ok()?, *offset))
        };
        cpus.find(is_base).or_else(by_order)
    }

    /// The CPU that a vCPU with these registers is, and the task that runs on it; of registers of now, not of those that the
    /// target had when the CPUs were looked for.
    pub(crate) fn now_on(
        &self,
        linux: &Linux<'_>,
        index: usize,
        registers: &Registers,
    ) -> Option<(u32, VirtAddr)> {
        match registers {
            Registers::X86_64(registers) => {
                let (cpu, offset) = self.per_cpu_x86_64(index, registers)?;
                let at = Self::current(linux)?.wrapping_add(offset);
                Some((cpu, linux.space().read_pointer(at).ok()?))
            }
            Registers::Aarch64(registers) => self.now_on_aarch64(linux, index, registers),
            _ => None,
        }
    }

    /// The sum over all CPUs of a `struct percpu_counter` at `counter` (`include/linux/percpu_counter.h`).
    pub(crate) fn percpu_counter(&self, linux: &Linux<'_>, counter: VirtAddr) -> Result<i64, LinuxError> {
        let types = linux.types();
        let space = linux.space();
        let read = LinuxError::read("a per-CPU counter");
        let count: i64 = Field::new(types, "percpu_counter", "count")?.read(space, counter).map_err(&read)?;
        // Kernels for one CPU keep the count alone.
        let Ok(parts) = Field::<u64>::new(types, "percpu_counter", "counters") else { return Ok(count) };
        let parts = parts.pointer(space, counter).map_err(&read)?;
        if self.offsets.is_empty() {
            return Err(LinuxError::NoSymbol { name: "__per_cpu_offset" });
        }
        self.offsets.iter().try_fold(count, |sum, offset| {
            let part: i32 = space.read_value(parts.wrapping_add(*offset)).map_err(&read)?;
            Ok(sum.saturating_add(i64::from(part)))
        })
    }

    /// The CPUs that there could be, with what is added to a per-CPU address for each.
    pub(crate) fn possible(&self, linux: &Linux<'_>) -> Vec<(u32, u64)> {
        let mask = |cpu: u32| match linux.known.cpu_possible_mask {
            Some(mask) => {
                let word = linux.space().read_u64(mask.wrapping_add(u64::from(cpu / 64) * 8)).unwrap_or(0);
                word >> (cpu % 64) & 1 != 0
            }
            None => true,
        };
        (0u32..).zip(self.offsets.iter().copied()).filter(|(cpu, _)| mask(*cpu)).collect()
    }

    /// Where the run queues are in a per-CPU area.
    pub(crate) fn run_queues(&self, linux: &Linux<'_>) -> Option<VirtAddr> {
        linux.known.run_queues.or(self.run_queues)
    }

    /// The tasks that run on vCPUs.
    pub(crate) fn running(&self) -> impl Iterator<Item = VirtAddr> {
        self.running.iter().map(|(task, _)| *task)
    }

    /// The vCPU that `task` runs on.
    pub(crate) fn vcpu_of(&self, task: VirtAddr) -> Option<usize> {
        self.running.iter().find(|(running, _)| *running == task).map(|(_, index)| *index)
    }
}
