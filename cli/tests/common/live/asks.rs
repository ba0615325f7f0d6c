//! What the tool says of live guests, compared; and the tool broken off.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Answer, scratch, skip, top, vmc};

/// What `vmc WORDS --format json` says.
pub(crate) fn json(words: &[&str]) -> Value {
    let answer = vmc(&[words, &["--format", "json"]].concat()).succeeded();
    serde_json::from_str(&answer.stdout).unwrap_or_else(|why| panic!("{why}: {answer:?}"))
}

/// All registers that QEMU's core tells are those that `target` tells.
pub(crate) fn registers_hold(target: &str, core: &str) {
    let (live, image) = (json(&["registers", target]), json(&["registers", core]));
    let (live, image) = (live.as_array().unwrap(), image.as_array().unwrap());
    assert_eq!(live.len(), image.len());
    let in_kernel = live.iter().all(|row| row["gs_base"].as_str().is_some_and(|gs| gs.starts_with("0xffff")));
    for (live, image) in live.iter().zip(image) {
        let told: Vec<_> = image.as_object().unwrap().iter().filter(|(_, value)| value.is_string()).collect();
        assert!(told.len() > 20, "{image}");
        for (name, value) in told {
            // QEMU's monitor does not tell what a program's GS base is while the kernel's is in its place, and where it is so
            // of all vCPUs nothing else is asked.
            if name == "kernel_gs_base" && target.starts_with("qmp:") && in_kernel {
                continue;
            }
            assert_eq!(&live[name], value, "{name} by {target}: {live}\n{image}");
        }
    }
}

/// The same question of two targets, with the same answer.
pub(crate) fn alike(question: &[&str], live: &str, image: &str) {
    let words = |target| [&question[..1], &[target], &question[1..]].concat();
    let (live_says, image_says) = (json(&words(live)), json(&words(image)));
    assert!(live_says != json!([]), "{question:?} of {live} is empty");
    if live_says == image_says {
        return;
    }
    let rows = |value: &Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    let (mine, theirs) = (rows(&live_says), rows(&image_says));
    let first = mine.iter().zip(&theirs).find(|(mine, theirs)| mine != theirs);
    panic!(
        "{question:?}: {live} has {} rows, {image} {}; first other one: {first:#?}",
        mine.len(),
        theirs.len()
    );
}

/// `check-cli` on a live target that stands where the truth was taken.
pub(crate) fn check(target: &str, truth: &Path, checks: &[&str]) {
    check_by(Command::new("python3"), target, truth, checks);
}

/// The same of one that ran on since.
pub(crate) fn check_ran_on(target: &str, truth: &Path, checks: &[&str]) {
    let mut command = Command::new("python3");
    command.env("CHECK_RAN_ON", "1");
    check_by(command, target, truth, checks);
}

fn check_by(mut command: Command, target: &str, truth: &Path, checks: &[&str]) {
    command
        .arg(top().join("guests/check-cli"))
        .arg(env!("CARGO_BIN_EXE_vmc"))
        .arg(target)
        .arg(truth)
        .args(checks);
    command.env("CHECK_ARGS", format!("--cache-dir {}", scratch().display()));
    let output = match command.output() {
        Ok(output) => output,
        Err(why) => return skip(&format!("python3, which runs guests/check-cli, is not there: {why}")),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.ends_with("all hold\n"), "{target}:\n{text}\n{wrong}");
}

/// Numbers that differ from run to run; the first is told, so that a failure can be understood.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = now.as_nanos() as u64 | 1;
        println!("seed {seed}");
        Self(seed)
    }

    /// Up to `below`, exclusive. (xorshift, Marsaglia 2003)
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Starts `vmc WORDS` and kills it after some microseconds. Says whether it was still there.
pub(crate) fn killed_after(words: &[&str], microseconds: u64) -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmc"));
    command.args(words).arg("--cache-dir").arg(scratch()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    std::thread::sleep(Duration::from_micros(microseconds));
    let there = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    there
}

/// How long `vmc WORDS` takes, in microseconds; it has to succeed.
pub(crate) fn duration(words: &[&str]) -> (u64, Answer) {
    let begin = Instant::now();
    let answer = vmc(words).succeeded();
    (begin.elapsed().as_micros() as u64, answer)
}
