//! [`Thread`]: one thread of a process.

mod names;

use alloc::vec::Vec;
use core::fmt;

use hashbrown::HashSet;
use vmc::layout::Field;
use vmc::view::RowErrors;
use vmc::{VirtAddr, VirtualMemory};

use crate::error::WindowsError;
use crate::lists::both_ways;
use crate::process::{Id, Process};
use crate::rows::ThreadRow;

pub(crate) use names::RUNNING;

/// A thread.
#[derive(Clone)]
pub struct Thread<'w> {
    process: Process<'w>,
    object: VirtAddr,
    tid: u32,
}

impl fmt::Debug for Thread<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {} at {} of {:?}", self.tid, self.object, self.process)
    }
}

impl<'w> Process<'w> {
    /// Its threads, by its list, walked from both ends where it is broken; then by the table of ids, too. What broke is the last.
    pub fn threads(&self) -> impl Iterator<Item = Result<Thread<'w>, WindowsError>> + use<'w> {
        let mut rows = Vec::new();
        if let Err(error) = self.find_threads(&mut rows) {
            rows.push(Err(error));
        }
        rows.into_iter()
    }

    fn find_threads(&self, rows: &mut Vec<Result<Thread<'w>, WindowsError>>) -> Result<(), WindowsError> {
        let (windows, fields) = (self.windows, self.windows.thread_fields()?);
        let memory = windows.kernel();
        let head =
            windows.process_fields()?.thread_head.ok_or_else(|| vmc::layout::LayoutError::NoMember {
                structure: "_EPROCESS".into(),
                member: "ThreadListHead".into(),
            })?;
        let head = self.object().wrapping_add(head);
        let (objects, damage) =
            both_ways(memory, "the list of threads", head, fields.links, windows.limits().tasks);
        let mut seen = HashSet::new();
        for object in objects {
            seen.insert(object);
            let tid = fields.tid.read(memory, object).map_err(WindowsError::read("the thread's number"));
            rows.push(tid.map(|tid| Thread { process: self.clone(), object, tid: tid as u32 }));
        }
        let Some(damage) = damage else { return Ok(()) };
        // A triage dump has no table of ids; the processors lead to the threads that they run.
        let running = windows.fields().processors.as_ref().into_iter().flat_map(|processors| {
            let current = |block| processors.current.pointer(memory, block).ok();
            windows.processor_blocks().filter_map(move |(_, block)| current(block))
        });
        for object in running.filter(|object| !object.is_null()) {
            if fields.process.is_some_and(|owner| owner.pointer(memory, object) == Ok(self.object()))
                && let Ok(tid) = fields.tid.read(memory, object)
                && seen.insert(object)
            {
                rows.push(Ok(Thread { process: self.clone(), object, tid: tid as u32 }));
            }
        }
        for (tid, id) in windows.ids().into_iter().flatten() {
            if let Id::Thread(object) = id
                && let Some(owner) = fields.process
                && owner.pointer(memory, object) == Ok(self.object())
                && seen.insert(object)
            {
                rows.push(Ok(Thread { process: self.clone(), object, tid }));
            }
        }
        Err(damage)
    }
}

impl<'w> Thread<'w> {
    /// Its number. All idle threads of a guest may have 0.
    #[must_use]
    pub const fn tid(&self) -> u32 {
        self.tid
    }

    /// The kernel's own object for it (`ETHREAD`).
    #[must_use]
    pub const fn object(&self) -> VirtAddr {
        self.object
    }

    /// The process that it belongs to.
    #[must_use]
    pub const fn process(&self) -> &Process<'w> {
        &self.process
    }

    /// The processor that runs it at this moment, as the processors' control blocks have it.
    #[must_use]
    pub fn running_on(&self) -> Option<u32> {
        let windows = self.process.windows;
        let fields = windows.fields().processors.as_ref()?;
        let current = |block| fields.current.pointer(windows.kernel(), block);
        windows.processor_blocks().find(|(_, block)| current(*block) == Ok(self.object)).map(|(cpu, _)| cpu)
    }

    /// What is known of it.
    #[must_use]
    pub fn row(&self) -> ThreadRow {
        let windows = self.process.windows;
        let (memory, limits) = (windows.kernel(), windows.limits());
        let mut errors = RowErrors::default();
        let mut row =
            ThreadRow { tid: self.tid, pid: self.process.pid(), object: self.object, ..ThreadRow::default() };
        row.name = errors.keep(limits, "name", self.process.name()).unwrap_or_default();
        let Some(fields) = errors.keep(limits, "thread", windows.thread_fields()) else {
            row.errors = errors;
            return row;
        };
        let state = get(memory, self.object, "state", fields.state, &mut errors, limits);
        row.state = state.and_then(names::state);
        if state == Some(names::WAITING) {
            let reason = get(memory, self.object, "wait reason", fields.wait_reason, &mut errors, limits);
            row.wait_reason = reason.and_then(names::wait_reason);
        }
        let running = (state == Some(RUNNING)).then(|| self.running_on()).flatten();
        row.on_cpu = running.is_some();
        let last = get(memory, self.object, "processor", fields.processor, &mut errors, limits);
        // The top bit says whether a queue is shared, in kernels that have such.
        row.cpu = running.or(last.map(|cpu| cpu & 0x7fff_ffff));
        let mut address = |what, field| {
            let value = get(memory, self.object, what, field, &mut errors, limits);
            value.map(VirtAddr::new).filter(|address| !address.is_null())
        };
        row.start_address = address("start address", fields.start);
        row.win32_start_address = address("Win32 start address", fields.win32_start);
        row.teb = address("TEB", fields.teb);
        row.errors = errors;
        row
    }
}

fn get<T: bytemuck::Pod, V: VirtualMemory>(
    memory: &V,
    base: VirtAddr,
    what: &str,
    field: Option<Field<T>>,
    errors: &mut RowErrors,
    limits: &vmc::Limits,
) -> Option<T> {
    errors.keep(limits, what, field?.read(memory, base))
}
