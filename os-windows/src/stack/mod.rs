//! Stacks of threads: the kernel part and the user part, each by the tables of the images that the code lies in.
//!
//! A running thread stands where its vCPU's registers say (in crash dumps, which have one processor's, those that the others saved
//! when they were frozen). One that waits stands in the switch frame that
//! `KTHREAD.KernelStack` points at (`KSWITCH_FRAME`: Rbp at 0x30, the return address at 0x38). Its kernel part ends at the
//! frame of its entry into the kernel, where the user registers are.

mod context;
mod fields;
mod modules;
pub(crate) mod names;
mod processors;
mod walk;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use hashbrown::HashMap;
use vmc::layout::LayoutError;
use vmc::view::Stack;
use vmc::{VirtAddr, VirtualMemory};

use crate::error::WindowsError;
use crate::files::SymbolFiles;
use crate::identity::CodeView;
use crate::memory::ProcessMemory;
use crate::process::Process;
use crate::rows::ModuleRow;
use crate::thread::Thread;
use crate::windows::Windows;

use fields::StackFields;
use modules::ModuleMap;
use names::Names;
use processors::OnProcessor;

/// What stacks of some processes need, made ready: their images, their memory, who runs on which vCPU. Threads can be walked
/// side by side.
pub struct Stacks<'w> {
    windows: &'w Windows<'w>,
    fields: Result<StackFields, LayoutError>,
    kernel: ModuleMap,
    processes: HashMap<VirtAddr, OfProcess<'w>>,
    running: Vec<OnProcessor>,
}

/// A process' part.
struct OfProcess<'w> {
    memory: Result<ProcessMemory<'w, 'w>, WindowsError>,
    modules: ModuleMap,
}

impl fmt::Debug for Stacks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stacks of {} processes", self.processes.len())
    }
}

impl Windows<'_> {
    /// Makes ready what the stacks of these processes' threads need. Functions are named by `files` where those know an image, else
    /// by what the image exports.
    #[must_use]
    pub fn stacks<'w>(
        &'w self,
        processes: &[Process<'w>],
        mut files: Option<&mut dyn SymbolFiles>,
    ) -> Stacks<'w>
    where
        Self: 'w,
    {
        let mut known: HashMap<CodeView, Arc<Names>> = HashMap::new();
        let mut map = |rows: Vec<ModuleRow>, kernel| {
            let named = rows.into_iter().map(|row| {
                let names = match &row.pdb {
                    Some(pdb) => {
                        let make = || Arc::new(Names::new(files.as_mut().and_then(|files| files.image(pdb))));
                        Arc::clone(known.entry(pdb.clone()).or_insert_with(make))
                    }
                    None => Arc::new(Names::new(None)),
                };
                (row, names)
            });
            ModuleMap::new(named, kernel)
        };
        let kernel: Vec<ModuleRow> =
            self.modules().map(|rows| rows.filter_map(Result::ok).collect()).unwrap_or_default();
        let identity = self.identity();
        let mut own = ModuleRow {
            name: "ntoskrnl.exe".into(),
            base: identity.base,
            size: identity.size,
            ..ModuleRow::default()
        };
        own.pdb.clone_from(&identity.code_view);
        let kernel = kernel.into_iter().chain([own]).collect();
        let kernel = map(kernel, identity.base..identity.base.wrapping_add(identity.size));
        let mut parts = HashMap::with_capacity(processes.len());
        for process in processes {
            let memory = process.memory();
            // 32-bit code has no tables of functions.
            let rows = process.modules().filter_map(Result::ok).filter(|row| !row.wow64);
            let rows = if memory.is_ok() { rows.collect() } else { Vec::new() };
            parts.insert(process.object(), OfProcess { memory, modules: map(rows, Range::default()) });
        }
        let fields = StackFields::new(self.types());
        let running = processors::running(self, fields.as_ref().ok());
        Stacks { windows: self, fields, kernel, processes: parts, running }
    }
}

impl Stacks<'_> {
    /// A thread's stack: the kernel part, if it is in the kernel, then the user part.
    #[must_use]
    pub fn stack(&self, thread: &Thread<'_>) -> Stack {
        self.walk(thread, true, true)
    }

    /// The kernel part of a thread's stack.
    #[must_use]
    pub fn kernel_stack(&self, thread: &Thread<'_>) -> Stack {
        self.walk(thread, true, false)
    }

    /// The user part of a thread's stack.
    #[must_use]
    pub fn user_stack(&self, thread: &Thread<'_>) -> Stack {
        self.walk(thread, false, true)
    }

    /// The memory in which the kernel part of a thread of `part` is read: its process', which maps its session's drivers, too.
    fn kernel_memory<'s>(&'s self, part: Option<&'s OfProcess<'_>>) -> &'s dyn VirtualMemory {
        match part.map(|part| &part.memory) {
            Some(Ok(memory)) => memory,
            _ => self.windows.kernel(),
        }
    }
}
