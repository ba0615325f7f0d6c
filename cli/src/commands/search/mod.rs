//! `search`: where text or bytes lie in memory, and whose they are.

mod pattern;
mod scan;

pub(crate) use pattern::Pattern;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use vmc::addr::PAGE_SIZE;
use vmc::arch::PresentPage;
use vmc::view::{RowErrors, Space};
use vmc::{PhysAddr, PhysMemory, VirtAddr};
use vmc_linux::{AddressSpaceOf, Task};

use crate::args::SearchFor;
use crate::commands::{Context, Question};
use crate::failure::Failure;
use crate::notes::Notes;
use crate::output::{Align, Column, Object, Row, address, object, optional};
use scan::{Found, Memory, Run, search};

/// How many times the guest's memory one process may map: some collectors of garbage map their heap three times.
const MOST_MAPPED: u64 = 8;
/// What is shown of a match.
const SHOWN: usize = 64;

struct MatchRow {
    physical: Option<u64>,
    virtual_address: Option<u64>,
    pid: Option<u32>,
    name: Option<String>,
    kernel_virtual: Option<u64>,
    matched: String,
    context: Option<String>,
}

impl Row for MatchRow {
    const FIELDS: &'static [&'static str] =
        &["physical", "virtual", "pid", "name", "kernel_virtual", "match", "context"];
    const COLUMNS: &'static [Column] = &[
        ("PHYSICAL", Align::Right),
        ("VIRTUAL", Align::Right),
        ("PID", Align::Right),
        ("NAME", Align::Left),
        ("MATCH", Align::Left),
    ];

    fn json(&self) -> Object {
        let fields = [
            ("physical", optional(self.physical, address)),
            ("virtual", optional(self.virtual_address, address)),
            ("pid", json!(self.pid)),
            ("name", json!(self.name)),
            ("kernel_virtual", optional(self.kernel_virtual, address)),
            ("match", json!(self.matched)),
            ("context", optional(self.context.as_deref(), |text| Value::String(text.to_owned()))),
        ];
        object(fields, &RowErrors::default())
    }

    fn cells(&self) -> Vec<String> {
        let hex = |number: Option<u64>| number.map_or_else(String::new, |number| format!("{number:#x}"));
        let owner =
            if self.virtual_address == self.kernel_virtual && self.pid.is_none() { "[k]" } else { "" };
        vec![
            hex(self.physical),
            hex(self.virtual_address),
            self.pid.map_or_else(String::new, |pid| pid.to_string()),
            self.name
                .clone()
                .unwrap_or_else(|| if self.virtual_address.is_some() { owner } else { "" }.to_owned()),
            self.context.clone().unwrap_or_else(|| self.matched.clone()),
        ]
    }
}

/// Bytes as text: what is no printable ASCII stands as `\xNN`.
fn escaped(bytes: &[u8]) -> String {
    let shown = bytes.iter().map(|byte| match byte {
        b'\\' => "\\\\".to_owned(),
        byte if byte.is_ascii_graphic() || *byte == b' ' => char::from(*byte).to_string(),
        byte => format!("\\x{byte:02x}"),
    });
    shown.collect()
}

/// Searches the image, or the memory of one process.
pub(crate) fn run(context: &Context<'_>, what: &SearchFor) -> Result<(), Failure> {
    let pattern = Pattern::new(what).map_err(Failure::Said)?;
    // Only a process' memory has an order of its own; all memory has that of its physical addresses.
    if let Some(pid) = what.pid {
        return in_process(context, pid, &pattern, what);
    }
    let found = in_image(context.name, context.notes, context.target.memory(), &pattern, what)?;
    physical(context, &found, &Lines { memory: Memory::Physical(context.target.memory()), what })
}

/// Searches a target in which no kernel was found.
pub(crate) fn without_guest(
    question: &Question<'_>,
    why: &dyn std::fmt::Display,
    what: &SearchFor,
) -> Result<(), Failure> {
    let pattern = Pattern::new(what).map_err(Failure::Said)?;
    let (name, notes, memory) = (question.name(), question.notes, question.target.memory());
    let found = in_image(name, notes, memory, &pattern, what)?;
    notes.warning(&format_args!("{name}: no virtual addresses: {why}"));
    let lines = Lines { memory: Memory::Physical(memory), what };
    question.output().rows(found.iter().map(|found| lines.row(found, Some(found.at))))
}

/// The matches in all memory.
fn in_image(
    name: &str,
    notes: &Notes,
    image: &dyn PhysMemory,
    pattern: &Pattern,
    what: &SearchFor,
) -> Result<Vec<Found>, Failure> {
    let runs = image.regions().iter().map(|region| Run { start: region.start.get(), len: region.len });
    let bar = notes.progress("searching");
    bar.set_length(image.total());
    let most = what.max.saturating_add(1);
    let found = search(Memory::Physical(image), runs, pattern, most, |done| bar.set_position(done));
    bar.finish_and_clear();
    some(name, notes, what, found, image.total())
}

/// The matches, if there are any; says so if there are more than were asked for.
fn some(
    name: &str,
    notes: &Notes,
    what: &SearchFor,
    mut found: Vec<Found>,
    searched: u64,
) -> Result<Vec<Found>, Failure> {
    if found.is_empty() {
        let mib = searched >> 20;
        return Err(Failure::Said(format!("{name}: {} is not in {mib} MiB of memory", what.pattern)));
    }
    if found.len() > what.max {
        found.truncate(what.max);
        notes.warning(&format_args!("{name}: there are more than {} matches (--max)", what.max));
    }
    Ok(found)
}

/// Rows of matches.
struct Lines<'a> {
    memory: Memory<'a>,
    what: &'a SearchFor,
}

impl Lines<'_> {
    fn row(&self, found: &Found, physical: Option<u64>) -> MatchRow {
        let matched = escaped(&self.memory.from(found.at, found.len.min(SHOWN)));
        let context = (self.what.context > 0).then(|| {
            let most = found.len.saturating_add(self.what.context);
            let before = self.memory.before(found.at, self.what.context);
            escaped(&[before, self.memory.from(found.at, most)].concat())
        });
        MatchRow {
            physical,
            virtual_address: None,
            pid: None,
            name: None,
            kernel_virtual: None,
            matched,
            context,
        }
    }
}

/// Matches in physical memory, with those who map them: a row for each place where a process does.
fn physical(context: &Context<'_>, found: &[Found], lines: &Lines<'_>) -> Result<(), Failure> {
    let linux = context.linux;
    let tasks: Vec<Task<'_, '_>> = match context.tasks(None) {
        Ok(tasks) => tasks,
        Err(why) => {
            context.notes.warning(&why);
            Vec::new()
        }
    };
    let addresses: Vec<PhysAddr> = found.iter().map(|found| PhysAddr::new(found.at)).collect();
    let owners = linux.page_owners(&tasks, &addresses);
    context.incomplete(&owners.errors);
    let names: BTreeMap<u32, String> =
        tasks.iter().filter_map(|task| Some((task.pid().ok()?, task.name().ok()?))).collect();
    let rows = found.iter().flat_map(|found| {
        let at = PhysAddr::new(found.at);
        let kernel = linux.kernel_address(at).map(VirtAddr::get);
        let row = move || MatchRow { kernel_virtual: kernel, ..lines.row(found, Some(found.at)) };
        let mut rows: Vec<MatchRow> = Vec::new();
        for (pid, place) in owners.of(at) {
            let name = names.get(&pid).cloned();
            rows.push(MatchRow { virtual_address: Some(place.get()), pid: Some(pid), name, ..row() });
        }
        if rows.is_empty() {
            rows.push(MatchRow { virtual_address: kernel, ..row() });
        }
        rows
    });
    context.output().rows(rows)
}

/// What of a page is in the image: devices' memory is mapped too, and an image may be cut short.
fn held(memory: &dyn PhysMemory, page: PresentPage) -> Vec<Run> {
    let whole = usize::try_from(page.size).ok().and_then(|size| memory.slice(page.physical, size));
    if whole.is_some() {
        return vec![Run { start: page.start.get(), len: page.size }];
    }
    let small = (0..page.size).step_by(PAGE_SIZE as usize);
    let there = small
        .filter(|into| memory.read(page.physical.wrapping_add(*into), &mut [0; PAGE_SIZE as usize]).is_ok());
    there.map(|into| Run { start: page.start.wrapping_add(into).get(), len: PAGE_SIZE }).collect()
}

/// Matches in what the page tables of process `pid` map, in the order of its own addresses.
fn in_process(context: &Context<'_>, pid: u32, pattern: &Pattern, what: &SearchFor) -> Result<(), Failure> {
    let linux = context.linux;
    let task = context.process(pid)?;
    let process: AddressSpaceOf<'_, '_> = task.memory().map_err(|why| context.failed(why))?;
    let (space, memory) = (process.tables(), linux.memory());
    let mut pages = space.tables().present(memory, Space::User, linux.limits().page_tables);
    let mut searched = 0u64;
    let mut errors = RowErrors::default();
    let most = context.target.memory().total().saturating_mul(MOST_MAPPED);
    let runs = std::iter::from_fn(|| {
        while searched < most {
            match pages.next()? {
                Ok(page) => {
                    searched = searched.saturating_add(page.size);
                    return Some(held(memory, page));
                }
                Err(why) => errors.push(linux.limits(), &pid.to_string(), &why),
            }
        }
        None
    });
    let runs = runs.flatten();
    let memory = Memory::Virtual(space);
    let found = search(memory, runs, pattern, what.max.saturating_add(1), |_| ());
    if pages.exhausted() {
        errors.push(linux.limits(), &pid.to_string(), &"there are more page tables than the limit");
    }
    if searched >= most {
        errors.push(linux.limits(), &pid.to_string(), &"it maps far more than there is memory");
    }
    context.incomplete(&errors);
    let found = some(context.name, context.notes, what, found, searched)?;
    let lines = Lines { memory, what };
    let name = task.name().ok();
    let rows = found.iter().map(|found| {
        let physical = space.translate(VirtAddr::new(found.at)).ok();
        MatchRow {
            virtual_address: Some(found.at),
            pid: Some(pid),
            name: name.clone(),
            kernel_virtual: physical.and_then(|at| linux.kernel_address(at)).map(VirtAddr::get),
            ..lines.row(found, physical.map(PhysAddr::get))
        }
    });
    context.output().rows(rows)
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn what_is_no_text_stays_visible() {
        assert_eq!(escaped(b"a b\\\n\x1b\xff"), "a b\\\\\\x0a\\x1b\\xff");
    }
}
