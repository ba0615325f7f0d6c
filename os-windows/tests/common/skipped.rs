//! Tests that are skipped.

use std::io::Write;

/// Says that a test is skipped and why; where everything has to run (`VMC_REQUIRE_ALL`, set by `.ci/run`) that is a failure.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("VMC_REQUIRE_ALL").is_none(), "cannot be skipped here: {why}");
    // Past the runner's capture, which shows nothing of a test that passes.
    let thread = std::thread::current();
    let _ = writeln!(std::io::stderr(), "test {} skipped: {why}", thread.name().unwrap_or("?"));
}
