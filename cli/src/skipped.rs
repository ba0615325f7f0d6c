//! Tests that are skipped: those of the program's parts and those of the program.

use std::io::Write;

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
