//! What goes to stderr: failures, warnings, how much could only be read in part, progress.

use std::cell::Cell;
use std::fmt::Display;
use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use vmc::text::printable;
use vmc::view::RowErrors;

use crate::args::Common;

/// Says things on stderr, as far as the user wants to hear them.
#[derive(Debug)]
pub(crate) struct Notes {
    quiet: bool,
    verbose: bool,
    partial_rows: Cell<usize>,
}

impl Notes {
    pub(crate) fn new(common: &Common) -> Self {
        Self { quiet: common.quiet, verbose: common.verbose > 0, partial_rows: Cell::new(0) }
    }

    fn line(&self, text: &dyn Display) {
        // With stderr gone there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "vmc: {}", printable(&text.to_string()));
    }

    /// The one line that a failure gets.
    pub(crate) fn failure(&self, why: &dyn Display) {
        self.line(why);
    }

    /// Something that a reader of the output should know.
    pub(crate) fn warning(&self, text: &dyn Display) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// Something for those who want to know more.
    pub(crate) fn detail(&self, text: &dyn Display) {
        if self.verbose {
            self.line(text);
        }
    }

    /// Counts a row of which parts are missing; tells which with `-v`.
    pub(crate) fn row(&self, which: &dyn Display, errors: &RowErrors) {
        if errors.is_empty() {
            return;
        }
        self.partial_rows.set(self.partial_rows.get() + 1);
        for message in &errors.messages {
            self.detail(&format_args!("{which}: {message}"));
        }
    }

    /// Says how many rows could only be read in part.
    pub(crate) fn end_of_rows(&self) {
        match self.partial_rows.get() {
            0 => {}
            1 => self.warning(&"1 row could be read only in part (-v says what is missing)"),
            rows => self
                .warning(&format_args!("{rows} rows could be read only in part (-v says what is missing)")),
        }
    }

    /// A progress bar where stderr is a terminal.
    pub(crate) fn progress(&self, what: &'static str) -> ProgressBar {
        if self.quiet || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent:>3} %") {
            bar.set_style(style);
        }
        bar.set_message(what);
        bar
    }
}
