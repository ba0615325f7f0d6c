//! A way to the human monitor, and why it did not help.

use vmc::LiveError;

/// A way to QEMU's human monitor.
pub trait Monitor {
    /// What the monitor answers to one command line. What it says of an error comes as its answer too: the monitor does not tell
    /// them apart.
    ///
    /// # Errors
    /// [`MonitorError`] where no answer came.
    fn hmp(&mut self, line: &str) -> Result<String, MonitorError>;

    /// What it answers to each of some lines. Worth its own way where answers need not be waited for one by one.
    ///
    /// # Errors
    /// [`MonitorError`] where not all answers came.
    fn hmp_all(&mut self, lines: &[String]) -> Result<Vec<String>, MonitorError> {
        lines.iter().map(|line| self.hmp(line)).collect()
    }
}

/// Why the human monitor did not say what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MonitorError {
    /// The way to it is gone, or silent.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The peer has no human monitor, or does not let us to it.
    #[error("the monitor does not take `{command}`: {answer}")]
    Refused {
        /// The command.
        command: String,
        /// What came instead.
        answer: String,
    },
    /// The answer is not what QEMU writes.
    #[error("the monitor's answer to `{command}` is not understood: {what}")]
    Answer {
        /// The command.
        command: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// There is more of something than any machine has.
    #[error("the monitor's answer to `{command}` has more than {most} {things}")]
    TooMany {
        /// The command.
        command: &'static str,
        /// Of what.
        things: &'static str,
        /// How many are taken.
        most: usize,
    },
}

impl MonitorError {
    /// The answer to `command` is not understood.
    pub(crate) fn answer(command: &'static str, what: impl Into<String>) -> Self {
        Self::Answer { command, what: what.into() }
    }
}

/// The start of a text that somebody else wrote, for an error's line.
pub(crate) fn excerpt(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("nothing");
    let mut short: String = line.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect();
    if line.chars().nth(80).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn excerpts_are_one_short_line_without_controls() {
        assert_eq!(excerpt("\r\n  first \r\nsecond"), "first");
        assert_eq!(excerpt("\x1b[31mred"), "?[31mred");
        assert_eq!(excerpt(&"x".repeat(100)).chars().count(), 81);
        assert_eq!(excerpt(" \n"), "nothing");
    }
}
