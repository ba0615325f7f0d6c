//! `modules`: kernel modules, or the libraries of a process.

use serde_json::{Value, json};
use vmc::view::{Module, ModuleDetails, RowErrors};

use crate::commands::Context;
use crate::failure::Failure;
use crate::output::{Align, Column, Object, Row, address, object, optional, texts};

/// What both kinds of modules have in JSON.
fn json_of(row: &Module) -> Object {
    let fields = [
        ("name", json!(row.name)),
        ("path", json!(row.path)),
        ("base", address(row.base)),
        ("size", json!(row.size)),
        ("state", json!(row.state)),
        ("build_id", optional(row.build_id.as_ref(), |id| Value::String(id.to_string()))),
        ("object", if row.object.is_null() { Value::Null } else { address(row.object) }),
    ];
    object(fields, &row.errors)
}

const FIELDS: &[&str] = &["name", "path", "base", "size", "state", "build_id", "object", "errors"];

pub(crate) const KERNEL_FIELDS: [&str; 14] = [
    "name",
    "base",
    "size",
    "state",
    "build_id",
    "object",
    "refcount",
    "used_by",
    "taints",
    "version",
    "srcversion",
    "args",
    "sections",
    "errors",
];

/// A kernel module with its details.
pub(crate) struct KernelModule(pub(crate) Module, pub(crate) ModuleDetails);

impl Row for KernelModule {
    const FIELDS: &'static [&'static str] = &KERNEL_FIELDS;
    const COLUMNS: &'static [Column] = &[
        ("MODULE", Align::Left),
        ("SIZE", Align::Right),
        ("STATE", Align::Left),
        ("BASE", Align::Left),
        ("TAINTS", Align::Left),
        ("USED", Align::Right),
        ("BY", Align::Left),
    ];

    fn json(&self) -> Object {
        let Self(row, more) = self;
        let sections: Object =
            more.sections.iter().map(|section| (section.name.clone(), address(section.address))).collect();
        let mut all = json_of(row);
        let errors = all.remove("errors");
        let fields = [
            ("refcount", json!(more.references)),
            ("used_by", texts(&more.used_by)),
            ("taints", json!(more.taints)),
            ("version", json!(more.version)),
            ("srcversion", json!(more.source_version)),
            ("args", json!(more.args.as_deref().filter(|args| !args.is_empty()))),
            ("sections", Value::Object(sections)),
            ("errors", errors.unwrap_or(Value::Null)),
        ];
        all.extend(object(fields, &RowErrors::default()));
        all
    }

    fn cells(&self) -> Vec<String> {
        let Self(row, more) = self;
        vec![
            row.name.clone(),
            row.size.to_string(),
            row.state.unwrap_or("?").to_owned(),
            row.base.to_string(),
            more.taints.clone().filter(|taints| !taints.is_empty()).unwrap_or_else(|| "-".to_owned()),
            more.references.map_or_else(|| "-".to_owned(), |count| count.to_string()),
            more.used_by.join(","),
        ]
    }
}

struct Library(Module);

impl Row for Library {
    const FIELDS: &'static [&'static str] = FIELDS;
    const COLUMNS: &'static [Column] =
        &[("BASE", Align::Left), ("SIZE", Align::Right), ("BUILD-ID", Align::Left), ("PATH", Align::Left)];

    fn json(&self) -> Object {
        json_of(&self.0)
    }

    fn cells(&self) -> Vec<String> {
        let row = &self.0;
        // Twelve digits tell builds apart; the whole is in the other formats.
        let id =
            row.build_id.as_ref().map_or_else(String::new, |id| id.to_string().chars().take(12).collect());
        vec![
            row.base.to_string(),
            row.size.to_string(),
            id,
            row.path.clone().unwrap_or_else(|| row.name.clone()),
        ]
    }
}

/// A kernel module with its details; what could not be read of either is told.
pub(crate) fn detailed(context: &Context<'_>, mut row: Module) -> KernelModule {
    let mut details = context.linux.module_details(row.object);
    row.errors.append(context.linux.limits(), std::mem::take(&mut details.errors));
    context.notes.row(&row.name, &row.errors);
    KernelModule(row, details)
}

pub(crate) fn run(context: &Context<'_>, pid: Option<u32>) -> Result<(), Failure> {
    let Some(pid) = pid else {
        let modules = context.linux.modules().map_err(|why| context.failed(why))?;
        let modules = context.as_far_as_it_goes(modules)?;
        return context.output().rows(modules.into_iter().map(|row| detailed(context, row)));
    };
    let memory = context.process(pid)?.memory().map_err(|why| context.failed(why))?;
    let images = memory.module_rows();
    for row in &images {
        context.notes.row(&row.name, &row.errors);
    }
    context.output().rows(images.into_iter().map(Library))
}
