//! Printing: rows as a table, as JSON, as JSON lines or as CSV.

mod sink;
mod table;
mod values;

pub(crate) use sink::{Sink, TooMuch};
pub(crate) use table::{Align, Column};
pub(crate) use values::{address, object, optional, texts, time};

use std::io::{IsTerminal, Write};

use serde_json::{Map, Value};
use vmc::text::printable;

use crate::args::{Color, Common, Format};
use crate::failure::Failure;
use sink::Stream;
use table::Table;

/// A JSON object.
pub(crate) type Object = Map<String, Value>;

/// Something that is printed as a row.
pub(crate) trait Row {
    /// The fields of its JSON, in their order: the header of CSV.
    const FIELDS: &'static [&'static str];
    /// The columns of its table.
    const COLUMNS: &'static [Column];

    /// The row as JSON.
    fn json(&self) -> Object;

    /// The row as cells of a table, one a column; they are made printable here, not by the row.
    fn cells(&self) -> Vec<String>;
}

/// Where results go.
pub(crate) struct Output {
    format: Format,
    out: Stream,
    terminal: bool,
    color: bool,
    width: Option<usize>,
}

impl Output {
    pub(crate) fn new(common: &Common, sink: &Sink) -> Self {
        let stdout = std::io::stdout();
        let terminal = stdout.is_terminal();
        let color = match common.color {
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            Color::Always => true,
            Color::Never => false,
        };
        let size = if terminal { rustix::termios::tcgetwinsize(&stdout).ok() } else { None };
        let width = size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
        Self { format: common.format, out: sink.stream(), terminal, color, width }
    }

    pub(crate) const fn format(&self) -> Format {
        self.format
    }

    pub(crate) const fn color(&self) -> bool {
        self.color
    }

    /// The raw stream, for what is no row.
    pub(crate) fn stream(&mut self) -> &mut impl Write {
        &mut self.out
    }

    /// One object: a document of its own, or `key: value` lines.
    pub(crate) fn object(&mut self, object: Object) -> Result<(), Failure> {
        match self.format {
            Format::Table => {
                let width = object.keys().map(|key| key.len() + 1).max().unwrap_or(0);
                for (key, value) in &object {
                    let key = format!("{key}:");
                    writeln!(self.out, "{key:<width$} {}", values::cell(value))?;
                }
            }
            Format::Json => self.document(&Value::Object(object))?,
            Format::Jsonl => self.line(&Value::Object(object))?,
            Format::Csv => {
                let (header, rows) = values::records(&object);
                let mut csv = csv::Writer::from_writer(&mut self.out);
                csv.write_record(header)?;
                rows.iter().try_for_each(|row| csv.write_record(row))?;
                csv.flush()?;
            }
        }
        Ok(self.out.flush()?)
    }

    /// Rows, as they come.
    pub(crate) fn rows<R: Row>(&mut self, rows: impl IntoIterator<Item = R>) -> Result<(), Failure> {
        match self.format {
            Format::Table => {
                let mut table = Table::new(R::COLUMNS);
                rows.into_iter().for_each(|row| table.push(row.cells()));
                table.print(&mut self.out, self.width, self.color)?;
            }
            Format::Json => {
                // An array, a row a line, so that nothing has to be kept.
                let mut separator = "[\n";
                for row in rows {
                    self.out.write_all(separator.as_bytes())?;
                    serde_json::to_writer(&mut self.out, &row.json())?;
                    separator = ",\n";
                }
                let end = if separator == ",\n" { "\n]\n" } else { "[]\n" };
                self.out.write_all(end.as_bytes())?;
            }
            Format::Jsonl => {
                for row in rows {
                    self.line(&Value::Object(row.json()))?;
                    self.out.flush()?;
                }
            }
            Format::Csv => {
                let terminal = self.terminal;
                let mut csv = csv::Writer::from_writer(&mut self.out);
                csv.write_record(R::FIELDS)?;
                for row in rows {
                    let json = row.json();
                    let cell = |field: &&str| json.get(*field).map_or(String::new(), values::flat);
                    // A file keeps what the guest has; a terminal would act on it.
                    let shown = |text: String| if terminal { printable(&text) } else { text };
                    csv.write_record(R::FIELDS.iter().map(cell).map(shown))?;
                }
                csv.flush()?;
            }
        }
        Ok(self.out.flush()?)
    }

    fn document(&mut self, value: &Value) -> Result<(), Failure> {
        serde_json::to_writer_pretty(&mut self.out, value)?;
        Ok(self.out.write_all(b"\n")?)
    }

    fn line(&mut self, value: &Value) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, value)?;
        Ok(self.out.write_all(b"\n")?)
    }
}
