//! All processes: the idle one, those on the list of active processes, and those that are in the table of ids only.

use alloc::vec::Vec;

use hashbrown::HashSet;
use vmc::{ReadExt, VirtAddr};

use super::{Found, Process};
use crate::error::WindowsError;
use crate::fields::{Fields, ProcessFields, TableFields, ThreadFields};
use crate::handle::Table;
use crate::lists::both_ways;
use crate::windows::Windows;

/// `KOBJECTS`, which `DISPATCHER_HEADER.Type` is one of (ntddk.h).
const PROCESS_OBJECT: u8 = 3;
const THREAD_OBJECT: u8 = 6;

/// What a place of the table of ids stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Id {
    Process(VirtAddr),
    Thread(VirtAddr),
}

impl<'m> Windows<'m> {
    pub(crate) fn fields(&self) -> &Fields {
        self.fields.get_or_init(|| alloc::boxed::Box::new(Fields::new(self)))
    }

    pub(crate) fn process_fields(&self) -> Result<&ProcessFields, WindowsError> {
        self.fields().process.as_ref().map_err(|error| error.clone().into())
    }

    pub(crate) fn thread_fields(&self) -> Result<&ThreadFields, WindowsError> {
        self.fields().thread.as_ref().map_err(|error| error.clone().into())
    }

    pub(crate) fn table_fields(&self) -> Result<&TableFields, WindowsError> {
        self.fields().table.as_ref().map_err(|error| error.clone().into())
    }

    /// All processes: first the idle one (0), then those on the list of active processes, walked from both ends where it is
    /// broken, then those that only the table of ids has: unlinked ones, and those that are gone but still referred to.
    ///
    /// What is wrong with the list or the table is among them, as errors.
    pub fn processes(&self) -> impl Iterator<Item = Result<Process<'_>, WindowsError>> {
        self.find_processes().into_iter()
    }

    /// The process with the number `pid`.
    ///
    /// # Errors
    /// [`WindowsError::NoProcess`] where there is none.
    pub fn process(&self, pid: u32) -> Result<Process<'_>, WindowsError> {
        let mut count = 0;
        let mut damage = None;
        for process in self.processes() {
            match process {
                Ok(process) if process.pid == pid => return Ok(process),
                Ok(_) => count += 1,
                Err(error) => damage = Some(error),
            }
        }
        match damage {
            Some(error) if count == 0 => Err(error),
            _ => Err(WindowsError::NoProcess { pid, count }),
        }
    }

    fn find_processes(&self) -> Vec<Result<Process<'_>, WindowsError>> {
        let fields = match self.process_fields() {
            Ok(fields) => fields,
            Err(error) => return alloc::vec![Err(error)],
        };
        let mut rows = Vec::new();
        let mut seen = HashSet::new();
        if let Some(object) = self.idle_process() {
            seen.insert(object);
            rows.push(Ok(Process { windows: self, object, pid: 0, found: Found::Idle }));
        }
        match &self.fields().process_head {
            Ok(head) => {
                let (objects, damage) = both_ways(
                    self.kernel(),
                    "the list of processes",
                    *head,
                    fields.links,
                    self.limits().tasks,
                );
                for object in objects {
                    if !seen.insert(object) {
                        continue;
                    }
                    rows.push(self.pid_of(fields, object).map(|pid| Process {
                        windows: self,
                        object,
                        pid,
                        found: Found::List,
                    }));
                }
                if let Some(error) = damage {
                    for object in self.pointed_at(fields) {
                        if seen.insert(object) {
                            let found = self.pid_of(fields, object);
                            rows.push(found.map(|pid| Process {
                                windows: self,
                                object,
                                pid,
                                found: Found::List,
                            }));
                        }
                    }
                    rows.push(Err(error));
                }
            }
            Err(error) => rows.push(Err(error.clone())),
        }
        for id in self.ids() {
            match id {
                Ok((pid, Id::Process(object))) => {
                    if seen.insert(object) {
                        rows.push(Ok(Process { windows: self, object, pid, found: Found::Table }));
                    }
                }
                Ok(_) => {}
                Err(error) => rows.push(Err(error)),
            }
        }
        rows
    }

    /// Processes that something else than the list leads to: a triage dump has little more than those.
    fn pointed_at(&self, fields: &ProcessFields) -> Vec<VirtAddr> {
        let memory = self.kernel();
        let owner = self.thread_fields().ok().and_then(|thread| thread.process);
        let running = self.processor_blocks().filter_map(|(_, block)| {
            let thread = self.fields().processors.as_ref()?.current.pointer(memory, block).ok()?;
            owner?.pointer(memory, thread).ok()
        });
        let is_process = |object: &VirtAddr| {
            fields.kind.is_some_and(|kind| {
                kind.read(memory, *object).is_ok_and(|kind| kind & 0x7f == PROCESS_OBJECT)
            })
        };
        self.pointer_at("PsInitialSystemProcess").into_iter().chain(running).filter(is_process).collect()
    }

    fn pid_of(&self, fields: &ProcessFields, object: VirtAddr) -> Result<u32, WindowsError> {
        let pid = fields.pid.read(self.kernel(), object).map_err(WindowsError::read("UniqueProcessId"))?;
        u32::try_from(pid).map_err(|_| WindowsError::Broken {
            what: "a process",
            at: object,
            reason: "its number has more than 32 bits",
        })
    }

    /// What the table of ids (`PspCidTable`) has: each entry whose object says the same number of itself.
    pub(crate) fn ids(&self) -> Vec<Result<(u32, Id), WindowsError>> {
        let mut found = Vec::new();
        if let Err(error) = self.gather_ids(&mut found) {
            found.push(Err(error));
        }
        found
    }

    fn gather_ids(&self, found: &mut Vec<Result<(u32, Id), WindowsError>>) -> Result<(), WindowsError> {
        let variable = self.fields().id_table.clone()?;
        let memory = self.kernel();
        let table = memory.read_pointer(variable).map_err(WindowsError::read("PspCidTable"))?;
        let process = self.process_fields()?;
        let thread = self.thread_fields().ok();
        for entry in Table::new(self, table)? {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    found.push(Err(error));
                    continue;
                }
            };
            let object = entry.object;
            let kind = process.kind.and_then(|kind| kind.read(memory, object).ok());
            let is = |number| kind.is_none_or(|kind| kind & 0x7f == number);
            let same = |read: Result<u64, _>| read.is_ok_and(|id| id == u64::from(entry.handle));
            if is(PROCESS_OBJECT) && same(process.pid.read(memory, object)) {
                found.push(Ok((entry.handle, Id::Process(object))));
            } else if let Some(thread) = thread
                && is(THREAD_OBJECT)
                && same(thread.tid.read(memory, object))
            {
                found.push(Ok((entry.handle, Id::Thread(object))));
            }
        }
        Ok(())
    }

    /// The process that the idle threads belong to. It is on no list and has no id.
    fn idle_process(&self) -> Option<VirtAddr> {
        let process = self.process_fields().ok()?;
        let memory = self.kernel();
        let good = |object: &VirtAddr| {
            !object.is_null()
                && process.pid.read(memory, *object) == Ok(0)
                && process.kind.is_none_or(|kind| {
                    kind.read(memory, *object).is_ok_and(|kind| kind & 0x7f == PROCESS_OBJECT)
                })
        };
        let by_thread = || {
            let owner = self.thread_fields().ok()?.process?;
            let fields = self.fields().processors.as_ref()?;
            let (_, block) = self.processor_blocks().next()?;
            let thread = fields.idle.pointer(memory, block).ok()?;
            owner.pointer(memory, thread).ok()
        };
        by_thread()
            .filter(good)
            .or_else(|| self.pointer_at("PsIdleProcess").ok().filter(good))
            .or_else(|| self.symbol("KiInitialProcess").ok().filter(good))
    }

    /// The processors' control blocks (`KPRCB`), with their numbers.
    pub(crate) fn processor_blocks(&self) -> impl Iterator<Item = (u32, VirtAddr)> {
        let fields = self.fields().processors.as_ref();
        let count = fields.and_then(|fields| {
            let count: u32 = self.kernel().read_value(fields.count?).ok()?;
            Some((count as usize).min(self.limits().cpus))
        });
        // Without a count the table ends at its first empty place.
        let count = count.unwrap_or(if fields.is_some() { 64 } else { 0 });
        let blocks = fields.map_or(VirtAddr::new(0), |fields| fields.blocks);
        (0u32..).take(count).map_while(move |cpu| {
            let at = blocks.wrapping_add(8 * u64::from(cpu));
            self.kernel().read_pointer(at).ok().filter(|block| !block.is_null()).map(|block| (cpu, block))
        })
    }
}
