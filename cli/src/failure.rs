//! What ends a command: one line on stderr, exit status 1.

use vmc_dump::OpenError;
use vmc_linux::LinuxError;

/// Why a command could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The target could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The guest could not be understood, or what was asked for is not in it.
    #[error("{target}: {source}")]
    Guest {
        /// The target as it was given.
        target: String,
        /// Why.
        source: LinuxError,
    },
    /// Something else that one line tells.
    #[error("{0}")]
    Said(String),
    /// Our output could not be written.
    #[error("the output could not be written: {0}")]
    Output(#[from] std::io::Error),
}

impl Failure {
    /// The same failure, with what is wrong with the target in the same line: it may well be the cause.
    pub(crate) fn with(self, warnings: &[String]) -> Self {
        match self {
            Self::Output(_) => self,
            other if warnings.is_empty() => other,
            other => Self::Said(format!("{other}; {}", warnings.join("; "))),
        }
    }
}

impl From<csv::Error> for Failure {
    fn from(why: csv::Error) -> Self {
        Self::Output(why.into())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(why: serde_json::Error) -> Self {
        Self::Output(why.into())
    }
}
