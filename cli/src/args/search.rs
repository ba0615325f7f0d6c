//! What `search` looks for.

use clap::Args as ClapArgs;

use super::values::{context, most};

/// What is searched for, and where.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct SearchFor {
    /// Text, as it stands; one that begins with - goes behind --
    pub(crate) pattern: String,
    /// PATTERN is bytes: pairs of hexadecimal digits, ? for any digit
    #[arg(long, conflicts_with_all = ["utf16", "regex", "ignore_case"])]
    pub(crate) hex: bool,
    /// The text is UTF-16, as Windows and Java have it
    #[arg(long, conflicts_with = "regex")]
    pub(crate) utf16: bool,
    /// PATTERN is a regular expression of bytes
    #[arg(long)]
    pub(crate) regex: bool,
    /// Letters of both cases
    #[arg(short, long)]
    pub(crate) ignore_case: bool,
    /// Only what this process maps, in the order of its own addresses
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Option<u32>,
    /// No more matches than this
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = most)]
    pub(crate) max: usize,
    /// Show this many bytes before and behind each match
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = context)]
    pub(crate) context: usize,
}
