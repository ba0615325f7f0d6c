//! Aligned tables: readable at 80 columns, no cell with power over the terminal.

use std::io::{self, Write};

use vmc::text::printable;

/// Where a cell's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A column: its title, and where its text stands.
pub(crate) type Column = (&'static str, Align);

/// A table whose columns are as wide as their widest cell. The last one may be cut at the terminal's edge.
pub(crate) struct Table {
    columns: &'static [Column],
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &'static [Column]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    pub(crate) fn push(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| printable(cell)).collect());
    }

    pub(crate) fn print(&self, out: &mut impl Write, width: Option<usize>, color: bool) -> io::Result<()> {
        let titles: Vec<String> = self.columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        let widest = |index: usize| {
            let cells = self.rows.iter().chain([&titles]).filter_map(|row| row.get(index));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(widest).collect();
        let (bold, plain) = if color { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        writeln!(out, "{bold}{}{plain}", self.line(&titles, &widths, width))?;
        for row in &self.rows {
            writeln!(out, "{}", self.line(row, &widths, width))?;
        }
        Ok(())
    }

    fn line(&self, cells: &[String], widths: &[usize], width: Option<usize>) -> String {
        let mut line = String::new();
        for (index, ((cell, column), width)) in cells.iter().zip(self.columns).zip(widths).enumerate() {
            if index > 0 {
                line.push(' ');
            }
            match column.1 {
                Align::Right => line.push_str(&format!("{cell:>width$}")),
                Align::Left if index + 1 == self.columns.len() => line.push_str(cell),
                Align::Left => line.push_str(&format!("{cell:<width$}")),
            }
        }
        line.truncate(line.trim_end().len());
        match width {
            Some(width) if line.chars().count() > width => line.chars().take(width).collect(),
            _ => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(rows: &[[&str; 2]], width: Option<usize>) -> String {
        const COLUMNS: &[Column] = &[("PID", Align::Right), ("NAME", Align::Left)];
        let mut table = Table::new(COLUMNS);
        rows.iter().for_each(|row| table.push(row.iter().map(|cell| (*cell).to_owned()).collect()));
        let mut out = Vec::new();
        table.print(&mut out, width, false).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_aligned_and_cut_at_the_edge() {
        assert_eq!(printed(&[["1", "init"], ["1000", "a"]], None), " PID NAME\n   1 init\n1000 a\n");
        assert_eq!(printed(&[["1", "initialised"]], Some(8)), "PID NAME\n  1 init\n");
    }

    #[test]
    fn a_name_cannot_forge_a_row() {
        assert_eq!(printed(&[["1", "a\n2 b\x1b[2J"]], None), "PID NAME\n  1 a\\n2 b\\x1b[2J\n");
    }
}
