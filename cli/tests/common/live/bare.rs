//! Guests of `barekvm`.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{MutexGuard, OnceLock, PoisonError};

use serde_json::Value;

use super::talker::Talker;
use super::{ALONE, kvm};
use crate::common::{scratch, skip, top};

/// `barekvm`, compiled once; none where it cannot be used here.
fn barekvm() -> Option<PathBuf> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if !kvm() {
        return None;
    }
    let made = MADE.get_or_init(|| {
        // Each test program has one of its own: two may be compiled at the same time.
        let path = scratch().join(format!("barekvm-{}", std::process::id()));
        let source = top().join("guests/kvm/barekvm.c");
        let mut gcc = Command::new("gcc");
        gcc.args(["-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"]).arg(&path).arg(source);
        match gcc.status() {
            Ok(status) if status.success() => Ok(path),
            Ok(status) => panic!("gcc: {status}"),
            Err(why) => Err(format!("gcc, which compiles barekvm, is not there: {why}")),
        }
    });
    made.as_ref().map_err(|why| skip(why)).ok().cloned()
}

/// A `barekvm` process. One at a time, but for [`Bare::another`]: their vCPUs take whole processors.
pub(crate) struct Bare(Talker, Option<MutexGuard<'static, ()>>);

impl Bare {
    /// `barekvm WORDS`, obeying us.
    pub(crate) fn start(words: &[&str]) -> Option<Self> {
        let program = barekvm()?;
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Self(Talker::start(Command::new(program).args(words).arg("--control")), Some(alone)))
    }

    /// One more, as long as this one is there.
    pub(crate) fn another(&self, words: &[&str]) -> Option<Self> {
        Some(Self(Talker::start(Command::new(barekvm()?).args(words).arg("--control")), None))
    }

    pub(crate) fn pid(&self) -> u64 {
        self.0.facts["pid"].as_u64().unwrap()
    }

    /// `kvm:PID`.
    pub(crate) fn target(&self) -> String {
        format!("kvm:{}", self.pid())
    }

    /// What it said of itself when it started.
    pub(crate) fn facts(&self) -> &Value {
        &self.0.facts
    }

    /// What it answers to a line.
    pub(crate) fn ask(&mut self, line: &str) -> Value {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
        self.0.line()
    }

    /// Each vCPU's counter.
    pub(crate) fn counters(&mut self) -> Vec<u64> {
        let told = self.ask("counters");
        told["vcpus"].as_array().unwrap().iter().map(|vcpu| vcpu["counter"].as_u64().unwrap()).collect()
    }

    pub(crate) fn ended(&mut self) -> bool {
        self.0.ended()
    }
}
