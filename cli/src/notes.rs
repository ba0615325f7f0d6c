//! What goes to stderr: failures, warnings, how much could only be read in part, progress.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::IsTerminal;
#[cfg(not(test))]
use std::io::Write;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use vmc::text::printable;
use vmc::view::RowErrors;

use crate::args::Common;

/// Lines that are kept.
const MOST_HELD: usize = 100_000;

/// Says things on stderr, as far as the user wants to hear them.
#[derive(Debug)]
pub(crate) struct Notes {
    quiet: bool,
    verbose: bool,
    partial_rows: Cell<usize>,
    /// What is kept for later: whoever reads stderr may take any time, while a guest stands still.
    held: RefCell<Option<Vec<String>>>,
    /// What was wrong, as far as it was told, whether or not the user wants to hear it.
    wrong: RefCell<Wrong>,
    #[cfg(test)]
    said: RefCell<Vec<String>>,
}

/// What was wrong with an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// How many things.
    pub(crate) count: usize,
    /// All of them in one number: the same things give the same.
    digest: u64,
}

impl Notes {
    pub(crate) fn new(common: &Common) -> Self {
        Self {
            quiet: common.quiet,
            verbose: common.verbose > 0,
            partial_rows: Cell::new(0),
            held: RefCell::new(None),
            wrong: RefCell::default(),
            #[cfg(test)]
            said: RefCell::default(),
        }
    }

    fn line(&self, text: &dyn Display) {
        let text = printable(&text.to_string());
        match &mut *self.held.borrow_mut() {
            Some(lines) if lines.len() < MOST_HELD => lines.push(text),
            Some(_) => {}
            None => self.write(text),
        }
    }

    #[cfg(not(test))]
    fn write(&self, text: String) {
        // With stderr gone there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "vmc: {text}");
    }

    #[cfg(test)]
    fn write(&self, text: String) {
        self.said.borrow_mut().push(text);
    }

    /// What was said.
    #[cfg(test)]
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.borrow().clone()
    }

    /// Keeps what is said from now on, and counts anew what is wrong.
    pub(crate) fn hold(&self) {
        *self.held.borrow_mut() = Some(Vec::new());
        *self.wrong.borrow_mut() = Wrong::default();
        self.partial_rows.set(0);
    }

    /// What was kept, and how many rows could only be read in part; nothing is kept any more.
    pub(crate) fn take(&self) -> (Vec<String>, usize) {
        (self.held.borrow_mut().take().unwrap_or_default(), self.partial_rows.get())
    }

    /// Says what was kept.
    pub(crate) fn tell(&self, (lines, partial_rows): (Vec<String>, usize)) {
        self.partial_rows.set(partial_rows);
        lines.iter().for_each(|line| self.line(line));
    }

    /// What was wrong since [`hold`](Self::hold).
    pub(crate) fn wrong(&self) -> Wrong {
        self.wrong.borrow().clone()
    }

    fn is_wrong(&self, text: &str) {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let mut wrong = self.wrong.borrow_mut();
        wrong.count += 1;
        wrong.digest = wrong.digest.wrapping_add(hasher.finish());
    }

    /// The one line that a failure gets.
    pub(crate) fn failure(&self, why: &dyn Display) {
        self.line(why);
    }

    /// Something that a reader of the output should know: that it is not whole, for one.
    pub(crate) fn warning(&self, text: &dyn Display) {
        self.is_wrong(&text.to_string());
        self.say(text);
    }

    /// The same, of which there are many: only told to those who want to know more.
    pub(crate) fn quiet_warning(&self, text: &dyn Display) {
        self.is_wrong(&text.to_string());
        self.detail(text);
    }

    /// Something that a reader of the output may want to know, with which nothing is wrong.
    pub(crate) fn say(&self, text: &dyn Display) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// The same, whether or not the rest is kept: what the user has to wait for.
    pub(crate) fn at_once(&self, text: &dyn Display) {
        if !self.quiet {
            self.write(printable(&text.to_string()));
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
            self.is_wrong(message);
            self.detail(&format_args!("{which}: {message}"));
        }
    }

    /// Says how many rows could only be read in part.
    pub(crate) fn end_of_rows(&self) {
        match self.partial_rows.get() {
            0 => {}
            1 => self.say(&"1 row could be read only in part (-v says what is missing)"),
            rows => {
                self.say(&format_args!("{rows} rows could be read only in part (-v says what is missing)"))
            }
        }
    }

    /// A progress bar where stderr is a terminal.
    pub(crate) fn progress(&self, what: &'static str) -> ProgressBar {
        if self.held.borrow().is_some() { ProgressBar::hidden() } else { self.long_progress(what) }
    }

    /// The same for what takes long, whether or not a guest stands still meanwhile.
    pub(crate) fn long_progress(&self, what: &'static str) -> ProgressBar {
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
