//! `bt`: the stacks of threads.

use std::cell::RefCell;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use vmc_windows::{Thread, WindowsError};

use super::Context;
use crate::commands::bt::{Head, Part, StackRow, show};
use crate::debug::WindowsFiles;
use crate::failure::Failure;

/// Which threads, which part, and how frames are named.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) pid: Option<u32>,
    pub(super) tid: Option<u32>,
    pub(super) part: Part,
    pub(super) demangle: bool,
}

pub(super) fn run(
    context: &Context<'_>,
    files: &RefCell<WindowsFiles<'_>>,
    options: Options,
) -> Result<(), Failure> {
    let Options { pid, tid, part, demangle } = options;
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
    let mut files = files.borrow_mut();
    // A guest does not stand still for a server's sake.
    files.stay_offline(context.pause.is_some());
    let stacks = windows.stacks(&processes, Some(&mut *files));
    files.remarks().for_each(|remark| question.notes.detail(remark));
    if let Some(why) = files.trouble() {
        question.notes.say(&why);
    }
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
