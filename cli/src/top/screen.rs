//! The terminal: another screen while the table is shown, keys without Enter, everything put back at the end.

use std::io::{self, Write};
use std::time::Instant;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, poll, read};
use crossterm::style::Print;
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};
use vmc_linux::Linux;

use super::round::Round;
use crate::record::Profile;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Quit,
    Toggle,
}

/// The terminal, until this is dropped.
#[derive(Debug)]
pub(super) struct Screen(());

impl Screen {
    pub(super) fn open() -> io::Result<Self> {
        enable_raw_mode()?;
        let screen = Self(());
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    /// The first key that asks for something, if one comes before `deadline`.
    pub(super) fn key_before(&mut self, deadline: Instant) -> io::Result<Option<Asked>> {
        while poll(deadline.saturating_duration_since(Instant::now()))? {
            let Event::Key(key) = read()? else { continue };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            // In raw mode the terminal makes no signal of it.
            let control = key.modifiers.contains(KeyModifiers::CONTROL);
            match key.code {
                KeyCode::Char('c') if control => return Ok(Some(Asked::Quit)),
                KeyCode::Char('q' | 'Q') | KeyCode::Esc => return Ok(Some(Asked::Quit)),
                KeyCode::Char('t' | 'T') => return Ok(Some(Asked::Toggle)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Shows a round, as much of it as there is room for.
    pub(super) fn show(
        &mut self,
        name: &str,
        round: &Round,
        linux: Option<&Linux<'_>>,
        profile: &Profile,
        threads: bool,
    ) -> io::Result<()> {
        let (columns, rows) = size()?;
        let mut out = io::stdout().lock();
        let lines = round.lines(name, linux, profile, threads, usize::from(rows.saturating_sub(1)));
        for (row, line) in (0u16..rows).zip(&lines) {
            let cut: String = line.chars().take(usize::from(columns)).collect();
            queue!(out, MoveTo(0, row), Print(cut), Clear(ClearType::UntilNewLine))?;
        }
        let below = u16::try_from(lines.len()).unwrap_or(rows);
        queue!(out, MoveTo(0, below), Clear(ClearType::FromCursorDown))?;
        queue!(out, MoveTo(0, rows.saturating_sub(1)), Print("q quits, t toggles threads"))?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nobody to tell of a failure.
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}
