//! Runs the tool as a user would.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a helper of tests may panic, and not every test uses every helper"
)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// Says that a test is skipped and why; where everything has to run (`VMC_REQUIRE_ALL`, set by `.ci/run`) that is a failure.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("VMC_REQUIRE_ALL").is_none(), "cannot be skipped here: {why}");
    skip_for_good(why);
}

/// Says that a test is skipped and why: nothing that could be installed would change it.
pub(crate) fn skip_for_good(why: &str) {
    // Past the runner's capture, which shows nothing of a test that passes.
    let thread = std::thread::current();
    let _ = writeln!(std::io::stderr(), "test {} skipped: {why}", thread.name().unwrap_or("?"));
}
