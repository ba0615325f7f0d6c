//! `ps --all-ways` and `modules --all-ways`: what there is by independent ways, and what was hidden from one.

use serde_json::{Value, json};
use vmc::view::Ways;
use vmc_linux::Survey;

use super::modules::{self, KernelModule};
use super::ps::{self, DetailedRow, command};
use crate::commands::Context;
use crate::failure::Failure;
use crate::output::{Align, Column, Object, Row};

/// The names of the ways that a thing was hidden from.
fn hidden_from(ways: &Ways) -> Vec<&'static str> {
    ways.hidden_from().collect()
}

/// The row's own fields, and what the ways say.
fn with_ways(mut object: Object, ways: &Ways) -> Object {
    // What could not be read stays at the end.
    let errors = object.shift_remove("errors");
    let each = ways.0.iter().map(|way| (way.name.to_owned(), Value::Bool(way.found)));
    object.insert("ways".to_owned(), Value::Object(each.collect()));
    object.insert("hidden_from".to_owned(), json!(hidden_from(ways)));
    object.extend(errors.map(|errors| ("errors".to_owned(), errors)));
    object
}

/// The cell that marks what was hidden.
fn mark(ways: &Ways) -> String {
    match hidden_from(ways) {
        names if names.is_empty() => "-".to_owned(),
        names => names.join(","),
    }
}

/// The fields of a row, those that the ways add, and last what could not be read.
const fn with_fields<const N: usize, const M: usize, const ALL: usize>(
    row: &[&'static str; N],
    more: [&'static str; M],
) -> [&'static str; ALL] {
    let mut all = ["errors"; ALL];
    let (first, rest) = all.split_at_mut(N - 1);
    first.copy_from_slice(row.split_at(N - 1).0);
    rest.split_at_mut(M).0.copy_from_slice(&more);
    all
}

const PROCESS_FIELDS: [&str; ps::ALL_FIELDS.len() + 3] =
    with_fields(&ps::ALL_FIELDS, ["tid", "ways", "hidden_from"]);
const MODULE_FIELDS: [&str; modules::KERNEL_FIELDS.len() + 2] =
    with_fields(&modules::KERNEL_FIELDS, ["ways", "hidden_from"]);

struct SurveyedProcess {
    row: DetailedRow,
    /// Its own number, where it is a thread and no process.
    tid: Option<u32>,
    ways: Ways,
}

impl Row for SurveyedProcess {
    const FIELDS: &'static [&'static str] = &PROCESS_FIELDS;
    const COLUMNS: &'static [Column] = &[
        ("UID", Align::Right),
        ("PID", Align::Right),
        ("PPID", Align::Right),
        ("S", Align::Left),
        ("HIDDEN FROM", Align::Left),
        ("CMD", Align::Left),
    ];

    fn json(&self) -> Object {
        let mut object = self.row.json();
        if let Some(tid) = self.tid {
            let errors = object.shift_remove("errors");
            object.insert("tid".to_owned(), json!(tid));
            object.extend(errors.map(|errors| ("errors".to_owned(), errors)));
        }
        with_ways(object, &self.ways)
    }

    fn cells(&self) -> Vec<String> {
        let row = &self.row.0;
        let number = |number: Option<u32>| number.map_or_else(ps::unknown, |number| number.to_string());
        let thread = self.tid.map_or_else(String::new, |tid| format!("(thread {tid}) "));
        vec![
            number(row.uid),
            row.pid.to_string(),
            number(row.ppid),
            row.state.map_or_else(ps::unknown, |state| state.to_string()),
            mark(&self.ways),
            format!("{thread}{}", command(row)),
        ]
    }
}

struct SurveyedModule {
    row: KernelModule,
    ways: Ways,
}

impl Row for SurveyedModule {
    const FIELDS: &'static [&'static str] = &MODULE_FIELDS;
    const COLUMNS: &'static [Column] = &[
        ("MODULE", Align::Left),
        ("SIZE", Align::Right),
        ("STATE", Align::Left),
        ("BASE", Align::Left),
        ("HIDDEN FROM", Align::Left),
    ];

    fn json(&self) -> Object {
        with_ways(self.row.json(), &self.ways)
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = self.row.cells();
        cells.push(mark(&self.ways));
        cells
    }
}

/// Says what a survey could not see, and how much was hidden.
fn say<T>(context: &Context<'_>, survey: &Survey<T>, what: &str) {
    context.incomplete(&survey.errors);
    let name = context.name;
    if survey.ended > 0 {
        let ended = survey.ended;
        context.notes.detail(&format_args!("{name}: {ended} more {what} in memory have ended or only begin"));
    }
}

pub(crate) fn processes(context: &Context<'_>) -> Result<(), Failure> {
    let survey = context.linux.processes_all_ways().map_err(|why| context.failed(why))?;
    say(context, &survey, "tasks");
    let rows = survey.rows.into_iter().map(|found| {
        let task = found.what;
        let row = ps::detailed(context, &task);
        let tid = task.tid().ok().filter(|tid| *tid != row.0.pid);
        SurveyedProcess { row, tid, ways: found.ways }
    });
    context.output().rows(rows)
}

pub(crate) fn modules(context: &Context<'_>) -> Result<(), Failure> {
    let survey = context.linux.modules_all_ways().map_err(|why| context.failed(why))?;
    say(context, &survey, "modules");
    let rows = survey
        .rows
        .into_iter()
        .map(|found| SurveyedModule { row: modules::detailed(context, found.what), ways: found.ways });
    context.output().rows(rows)
}
