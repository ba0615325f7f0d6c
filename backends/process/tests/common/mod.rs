//! Processes to look into: the bare KVM program of the repository, and QEMU.
#![allow(dead_code, reason = "each test uses a part")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

/// Says that a test is skipped and why; where everything has to run (`VMC_REQUIRE_ALL`, set by `.ci/run`) that is a failure.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("VMC_REQUIRE_ALL").is_none(), "cannot be skipped here: {why}");
    // Past the runner's capture, which shows nothing of a test that passes.
    let thread = std::thread::current();
    let _ = writeln!(std::io::stderr(), "test {} skipped: {why}", thread.name().unwrap_or("?"));
}

/// A child that ends with the test, and what it says.
pub(crate) struct Running {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(command: &mut Command) -> std::io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Ok(Self { child, stdin, stdout })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line, as JSON; null at the end.
    fn json(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or(Value::Null)
    }

    /// Ends it and waits for that.
    pub(crate) fn end(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The bare KVM program, compiled once, with what it says of itself; none where it cannot be.
pub(crate) fn barekvm(arguments: &[&str]) -> Option<(Running, Value)> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/kvm/barekvm.c");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("barekvm-{}", std::process::id()));
        let gcc = Command::new("gcc").args(["-O2", "-pthread", "-o"]).arg(&program).arg(source).status();
        match gcc {
            Ok(status) if status.success() => Ok(program),
            other => Err(format!("gcc does not compile barekvm.c: {other:?}")),
        }
    });
    let program = match program {
        Ok(program) => program,
        Err(why) => return gone(why),
    };
    if let Err(why) = std::fs::File::options().read(true).write(true).open("/dev/kvm") {
        return gone(&format!("/dev/kvm cannot be opened: {why}"));
    }
    let mut running = Running::start(Command::new(program).args(arguments).arg("--control")).unwrap();
    let about = running.json();
    if about.is_null() { gone("this KVM does not run barekvm") } else { Some((running, about)) }
}

/// A QEMU that never runs its guest, and talks QMP; none where there is no such program.
pub(crate) fn qemu(program: &str, arguments: &str) -> Option<Running> {
    let fixed = ["-nodefaults", "-display", "none", "-S", "-qmp", "stdio"];
    let mut command = Command::new(program);
    match Running::start(command.args(fixed).args(arguments.split_whitespace())) {
        Ok(mut running) => {
            assert!(!running.json()["QMP"].is_null(), "{arguments}: no greeting");
            running.ask(&json!({"execute": "qmp_capabilities"}));
            Some(running)
        }
        Err(why) => gone(&format!("{program}: {why}")),
    }
}

fn gone<T>(why: &str) -> Option<T> {
    skip(why);
    None
}

impl Running {
    fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.stdin, "{question}").unwrap();
        loop {
            let answer = self.json();
            assert!(!answer.is_null(), "the connection is closed");
            if answer.get("event").is_none() {
                return answer["return"].clone();
            }
        }
    }

    /// What QEMU's human monitor says to a line.
    pub(crate) fn hmp(&mut self, line: &str) -> String {
        let question = json!({"execute": "human-monitor-command", "arguments": {"command-line": line}});
        self.ask(&question).as_str().unwrap().to_owned()
    }

    /// Where QEMU has a byte of the guest's memory.
    pub(crate) fn gpa2hva(&mut self, guest: u64) -> u64 {
        let said = self.hmp(&format!("gpa2hva {guest:#x}"));
        let host = said.trim().rsplit_once("is 0x").unwrap_or_else(|| panic!("{guest:#x}: {said}")).1;
        u64::from_str_radix(host, 16).unwrap()
    }

    /// The ranges of the blocks `names` in the guest's memory, those that touch as one, from `info mtree -f`.
    pub(crate) fn ranges(&mut self, names: &[&str]) -> Vec<(u64, u64)> {
        let text = self.hmp("info mtree -f");
        let memory = text.split("FlatView").find(|view| view.contains("AS \"memory\"")).unwrap();
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for line in memory.lines() {
            let Some((range, rest)) = line.trim().split_once(' ') else { continue };
            let Some((start, last)) = range.split_once('-') else { continue };
            let name = rest.split_once("): ").map_or("", |(_, name)| name);
            let number = |text| u64::from_str_radix(text, 16).ok();
            let (Some(start), Some(last)) = (number(start), number(last)) else { continue };
            if !names.contains(&name.split(' ').next().unwrap()) {
                continue;
            }
            match ranges.last_mut().filter(|range| range.1 == start) {
                Some(range) => range.1 = last + 1,
                None => ranges.push((start, last + 1)),
            }
        }
        ranges
    }
}
