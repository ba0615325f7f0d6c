//! `env`: a process' environment.

use std::io::Write;

use serde_json::json;
use vmc::text::printable;
use vmc::view::RowErrors;

use crate::args::Format;
use crate::commands::Context;
use crate::failure::Failure;
use crate::output::{Column, Object, Row, object};

struct Variable {
    name: String,
    value: Option<String>,
}

impl Variable {
    /// The line of env.
    fn line(&self) -> String {
        let name = printable(&self.name);
        self.value.as_deref().map_or_else(|| name.clone(), |value| format!("{name}={}", printable(value)))
    }
}

impl Row for Variable {
    const FIELDS: &'static [&'static str] = &["name", "value"];
    // The table is env's own form.
    const COLUMNS: &'static [Column] = &[];

    fn json(&self) -> Object {
        object([("name", json!(self.name)), ("value", json!(self.value))], &RowErrors::default())
    }

    fn cells(&self) -> Vec<String> {
        vec![self.line()]
    }
}

pub(crate) fn run(context: &Context<'_>, pid: u32) -> Result<(), Failure> {
    let memory = context.process(pid)?.memory().map_err(|why| context.failed(why))?;
    let variables = memory.environment().map_err(|why| context.failed(why))?;
    let rows = variables.into_iter().map(|(name, value)| Variable { name, value });
    let mut output = context.output();
    if output.format() != Format::Table {
        return output.rows(rows);
    }
    for row in rows {
        writeln!(output.stream(), "{}", row.line())?;
    }
    Ok(output.stream().flush()?)
}
