//! `containers`: processes that live in namespaces of their own.

use serde_json::{Value, json};
use vmc::view::Container;

use crate::commands::Context;
use crate::failure::Failure;
use crate::output::{Align, Column, Object, Row, object};

/// Characters of an id that tell containers apart, as their runtimes show them.
const SHORT: usize = 12;

struct ContainerRow(Container);

impl Row for ContainerRow {
    const FIELDS: &'static [&'static str] = &[
        "id",
        "runtime",
        "pid",
        "pid_inside",
        "hostname",
        "cgroup",
        "namespaces",
        "processes",
        "root",
        "errors",
    ];
    const COLUMNS: &'static [Column] = &[
        ("ID", Align::Left),
        ("RUNTIME", Align::Left),
        ("PID", Align::Right),
        ("PROCS", Align::Right),
        ("HOSTNAME", Align::Left),
        ("ROOT", Align::Left),
    ];

    fn json(&self) -> Object {
        let row = &self.0;
        let namespaces: Object =
            row.namespaces.iter().map(|(kind, number)| ((*kind).to_owned(), json!(number))).collect();
        let root = object(
            [
                ("fstype", json!(row.root.fstype)),
                ("source", json!(row.root.source)),
                ("path", json!(row.root.path)),
                ("lowerdir", json!(row.root.lower)),
                ("upperdir", json!(row.root.upper)),
                ("workdir", json!(row.root.work)),
            ],
            &vmc::view::RowErrors::default(),
        );
        let fields = [
            ("id", json!(row.id)),
            ("runtime", json!(row.runtime)),
            ("pid", json!(row.pid)),
            ("pid_inside", json!(row.pid_inside)),
            ("hostname", json!(row.hostname)),
            ("cgroup", json!(row.control_group)),
            ("namespaces", Value::Object(namespaces)),
            ("processes", json!(row.processes)),
            ("root", Value::Object(root)),
        ];
        object(fields, &row.errors)
    }

    fn cells(&self) -> Vec<String> {
        let row = &self.0;
        let is_hash = row.id.len() >= 32 && row.id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = if is_hash { row.id.chars().take(SHORT).collect() } else { row.id.clone() };
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let root = row.root.upper.as_ref().or(row.root.path.as_ref());
        vec![
            id,
            row.runtime.unwrap_or("-").to_owned(),
            row.pid.to_string(),
            row.processes.len().to_string(),
            text(&row.hostname),
            format!("{} {}", text(&row.root.fstype), root.cloned().unwrap_or_default()),
        ]
    }
}

pub(crate) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let (rows, errors) = context.linux.containers().map_err(|why| context.failed(why))?;
    context.incomplete(&errors);
    for row in &rows {
        context.notes.row(&row.id, &row.errors);
    }
    context.output().rows(rows.into_iter().map(ContainerRow))
}
