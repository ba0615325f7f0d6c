//! The words of `dump`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

/// Where a guest is saved to.
#[derive(Debug, ClapArgs)]
pub(crate) struct SaveTo {
    /// The file
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,
    /// Replace OUT if there is one
    #[arg(long)]
    pub(crate) force: bool,
}
