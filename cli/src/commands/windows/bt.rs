//! `bt`: the stacks of threads.

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use vmc_windows::{SymbolFiles, Thread, WindowsError};

use super::Context;
use crate::commands::bt::{Head, Part, StackRow, show};
use crate::debug::WindowsFiles;
use crate::failure::Failure;

pub(super) fn run(
    context: &Context<'_>,
    pid: Option<u32>,
    tid: Option<u32>,
    part: Part,
    demangle: bool,
) -> Result<(), Failure> {
    let (question, windows) = (context.question, context.windows);
    let processes = context.processes(pid)?;
    let threads = processes.iter().flat_map(|process| context.found(process.threads()));
    let mut threads: Vec<Thread<'_>> = threads.collect();
    if let Some(tid) = tid {
        threads.retain(|thread| thread.tid() == tid);
        if threads.is_empty() {
            return Err(context.failed(&WindowsError::NoThread { tid }));
        }
    }
    let symbols = &question.args.common.symbols;
    let mut files = WindowsFiles::new(symbols);
    let given: Option<&mut dyn SymbolFiles> = if symbols.is_empty() { None } else { Some(&mut files) };
    let stacks = windows.stacks(&processes, given);
    // Stacks do not depend on one another.
    let one = |thread: &Thread<'_>| {
        let mut stack = match part {
            Part::Both => stacks.stack(thread),
            Part::Kernel => stacks.kernel_stack(thread),
            Part::User => stacks.user_stack(thread),
        };
        let mut row = thread.row();
        row.errors.append(windows.limits(), std::mem::take(&mut stack.errors));
        let state = match (row.state, row.wait_reason) {
            (Some(state), Some(reason)) => Some(format!("{state}:{reason}")),
            (state, _) => state.map(ToOwned::to_owned),
        };
        let head = Head {
            pid: row.pid,
            tid: row.tid,
            name: row.name,
            state,
            cpu: row.cpu,
            on_cpu: row.on_cpu,
            errors: row.errors,
        };
        StackRow::new(part, head, stack)
    };
    let rows: Vec<StackRow> = threads.par_iter().map(one).collect();
    context.all_is_read();
    show(question.notes, &mut context.output(), rows, demangle, windows.limits().demangled_bytes)
}
