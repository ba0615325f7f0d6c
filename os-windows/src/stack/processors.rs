//! Who runs on which processor, and with what registers: a vCPU's, else those that the kernel itself saved.

use alloc::vec::Vec;

use vmc::arch::Registers as AnyRegisters;
use vmc::arch::x86_64::Registers;
use vmc::{ReadExt, VirtAddr};

use super::context;
use super::fields::StackFields;
use crate::windows::Windows;

/// A processor's registers, and the thread that runs on it.
#[derive(Debug)]
pub(super) struct OnProcessor {
    pub thread: VirtAddr,
    pub registers: Registers,
}

/// Where in a TEB the user stack's highest and lowest address are (`NT_TIB`: `StackBase`, `StackLimit`).
const TEB_STACK: u64 = 8;

/// The processors whose threads and registers are known. A vCPU's GS leads to its processor's control region (KPCR): in the kernel
/// itself, in user mode the one that `swapgs` brings. Where no GS is known (a crash dump's CONTEXT) the stack pointer tells the
/// thread. A processor that no vCPU stands for has its registers in its control block, if a crash or a debugger froze it.
pub(super) fn running(windows: &Windows<'_>, fields: Option<&StackFields>) -> Vec<OnProcessor> {
    let (Some(fields), Some(processors)) = (fields, windows.fields().processors.as_ref()) else {
        return Vec::new();
    };
    let kernel = windows.kernel();
    let threads: Vec<(VirtAddr, VirtAddr)> = windows
        .processor_blocks()
        .filter_map(|(_, block)| Some((block, processors.current.pointer(kernel, block).ok()?)))
        .collect();
    let by_gs = |registers: &Registers| {
        let offset = fields.control_block?;
        // User mode may set its own GS to whatever it likes.
        let mut regions = [Some(registers.gs_base), registers.kernel_gs_base];
        if registers.in_user_mode() {
            regions.reverse();
        }
        let blocks = regions.into_iter().flatten().filter(|base| *base >> 63 == 1);
        let mut blocks = blocks.map(|base| VirtAddr::new(base.wrapping_add(offset)));
        blocks.find_map(|block| threads.iter().find(|(known, _)| *known == block)).map(|(_, thread)| *thread)
    };
    let by_stack = |registers: &Registers| {
        let sp = registers.rsp();
        let within = |thread: VirtAddr| {
            if registers.in_user_mode() {
                let teb = windows.thread_fields().ok()?.teb?.pointer(kernel, thread).ok()?;
                let process = windows.thread_fields().ok()?.process?.pointer(kernel, thread).ok()?;
                let root = windows.process_fields().ok()?.page_table.read(kernel, process).ok()?;
                let memory =
                    crate::memory::ProcessMemory::new(windows, crate::process::root_of(root), process)
                        .ok()?;
                let [base, limit]: [u64; 2] = memory.read_value(teb.wrapping_add(TEB_STACK)).ok()?;
                return Some(limit <= sp && sp <= base);
            }
            let base = fields.stack_base.read(kernel, thread).ok()?;
            let limit = fields.stack_limit.read(kernel, thread).ok()?;
            Some(limit <= sp && sp <= base)
        };
        threads.iter().map(|(_, thread)| *thread).find(|thread| within(*thread) == Some(true))
    };
    let vcpus = windows.vcpus();
    let mut running: Vec<OnProcessor> = (0..vcpus.count())
        .filter_map(|index| match vcpus.registers(index) {
            Ok(AnyRegisters::X86_64(registers)) => {
                let thread = by_gs(&registers).or_else(|| by_stack(&registers))?;
                Some(OnProcessor { thread, registers })
            }
            _ => None,
        })
        .collect();
    for (block, thread) in threads.iter().filter(|(_, thread)| !thread.is_null()) {
        if !running.iter().any(|on| on.thread == *thread)
            && let Some(registers) = fields.frozen.as_ref().and_then(|at| context::frozen(kernel, at, *block))
        {
            running.push(OnProcessor { thread: *thread, registers });
        }
    }
    running
}
