//! Runs the tool as a user would.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a helper of tests may panic, and not every test uses every helper"
)]

#[path = "../../src/skipped.rs"]
mod skipped;

use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use skipped::{skip, skip_for_good};

/// What the tool answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    /// The answer, which has to be of a success.
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.status, 0, "{self:?}");
        self
    }
}

/// A folder for what tests write.
pub(crate) fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// The top of the repository.
pub(crate) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The sample guest's image.
pub(crate) fn sample() -> String {
    top().join("guests/sample/mem.elf.zst").to_str().unwrap().to_owned()
}

/// `vmc WORDS`, with a cache of the tests' own.
pub(crate) fn vmc(words: &[&str]) -> Answer {
    vmc_with_cache(words, &scratch())
}

/// `vmc WORDS`, with the cache in `dir`.
pub(crate) fn vmc_with_cache(words: &[&str], dir: &Path) -> Answer {
    let output =
        Command::new(env!("CARGO_BIN_EXE_vmc")).args(words).arg("--cache-dir").arg(dir).output().unwrap();
    Answer {
        status: output.status.code().unwrap_or_else(|| panic!("ended by a signal: {output:?}")),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
