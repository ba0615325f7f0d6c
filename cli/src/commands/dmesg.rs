//! `dmesg`: the kernel's log.

use std::io::Write;

use serde_json::json;
use vmc::text::printable;
use vmc::view::LogRecord;

use crate::args::Format;
use crate::commands::Context;
use crate::commands::ps::unknown;
use crate::failure::Failure;
use crate::output::{Column, Object, Row, object};

struct RecordRow(LogRecord);

impl RecordRow {
    /// The lines of dmesg: the time stands before the first, what follows is indented like it.
    fn lines(&self) -> String {
        let row = &self.0;
        let (seconds, micros) = (row.time / 1_000_000_000, row.time / 1000 % 1_000_000);
        let stamp = format!("[{seconds:5}.{micros:06}] ");
        let Some(message) = &row.message else { return stamp + &unknown() };
        let mut lines = message.split('\n').map(printable);
        let mut text = stamp.clone() + &lines.next().unwrap_or_default();
        for line in lines {
            text.push_str(&format!("\n{:width$}{line}", "", width = stamp.len()));
        }
        text
    }
}

impl Row for RecordRow {
    const FIELDS: &'static [&'static str] = &["time", "level", "message", "sequence", "errors"];
    // The table is dmesg's own form.
    const COLUMNS: &'static [Column] = &[];

    fn json(&self) -> Object {
        let row = &self.0;
        let fields = [
            // The kernel's clock counts nanoseconds; a double has room for those of a hundred days.
            ("time", json!(row.time as f64 / 1e9)),
            ("level", json!(row.level)),
            ("message", json!(row.message)),
            ("sequence", json!(row.sequence)),
        ];
        object(fields, &row.errors)
    }

    fn cells(&self) -> Vec<String> {
        vec![self.lines()]
    }
}

pub(crate) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let rows = context.linux.log().map_err(|why| context.failed(why))?;
    let rows = rows
        .inspect(|row| context.notes.row(&format_args!("record {}", row.sequence), &row.errors))
        .map(RecordRow);
    let mut output = context.output();
    if output.format() != Format::Table {
        return output.rows(rows);
    }
    for row in rows {
        writeln!(output.stream(), "{}", row.lines())?;
    }
    Ok(output.stream().flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_forge_a_record() {
        let message = Some("a\n[    0.000000] b\u{1b}[2J".to_owned());
        let row = RecordRow(LogRecord { time: 1_234_567_890, message, ..LogRecord::default() });
        assert_eq!(row.lines(), "[    1.234567] a\n               [    0.000000] b\\x1b[2J");
    }
}
