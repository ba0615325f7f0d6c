//! `info`: what guest it is.

use serde_json::{Value, json};

use super::Context;
use crate::commands::info::{SCHEMA, of_target};
use crate::failure::Failure;
use crate::output::{address, object, optional, time};

pub(super) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let facts = context.windows.facts();
    let (question, target) = (context.question, context.question.target);
    question.notes.row(&"info", &facts.errors);
    let text = |text: String| Value::String(text);
    let fields = [
        ("schema", json!(SCHEMA)),
        ("os", json!("windows")),
        ("release", optional(facts.version, text)),
        ("version", optional(facts.build_lab, text)),
        ("arch", json!(facts.architecture.name())),
        ("cpus", json!(facts.processors)),
        ("memory_bytes", json!(target.ram_bytes())),
        ("kernel_base", address(facts.kernel_base)),
        ("kernel_size", json!(Some(facts.kernel_size).filter(|size| *size > 0))),
        ("kernel_timestamp", optional(context.windows.identity().timestamp, address)),
        ("kernel_pdb", optional(facts.pdb, |pdb| json!(format!("{} {pdb}", pdb.name)))),
        ("page_table_root", optional(facts.page_table_root, address)),
        (
            "page_table_levels",
            optional(context.windows.kernel().tables(), |space| json!(space.tables().levels())),
        ),
        ("boot_time", optional(facts.boot_time.and_then(time), text)),
        ("system_time", optional(facts.system_time.and_then(time), text)),
        ("system_root", optional(facts.system_root, text)),
        ("types", json!(context.windows.types().source())),
        ("symbols", json!(context.windows.types().source())),
        ("registers", json!(target.vcpus().count() > 0)),
    ];
    let crash = target.crash().map(|crash| super::crash::fields(context, crash)).unwrap_or_default();
    let fields = fields.into_iter().chain(crash).chain(of_target(target, &question.args.common));
    context.output().object(object(fields, &facts.errors))
}
