//! Live guests for tests: `barekvm` processes, and QEMUs that `guests/run-live` brings up. Each ends with its value.
#![allow(dead_code, reason = "not every test uses every helper")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Answer, sample, scratch, skip, top, vmc};

/// A program that talks in lines of JSON on its stdout and ends when its stdin does.
struct Talker {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    facts: Value,
}

impl Talker {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut this = Self { child, stdin, stdout, facts: Value::Null };
        this.facts = this.line();
        this
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "it ended: {:?}", self.child.wait());
        serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line}"))
    }

    fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let begin = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if begin.elapsed() > Duration::from_secs(20) {
                self.child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Can this machine's KVM be used? Says what is missing where it cannot.
fn kvm() -> bool {
    let opened = std::fs::File::options().read(true).write(true).open("/dev/kvm");
    if let Err(why) = &opened {
        skip(&format!("/dev/kvm cannot be opened: {why}"));
    }
    opened.is_ok()
}

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

/// The sample's core, unpacked once.
pub(crate) fn sample_core() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| unpack(Path::new(&sample()), "sample")).clone()
}

/// A core, unpacked into a file of this test program's own.
pub(crate) fn unpack(packed: &Path, name: &str) -> PathBuf {
    let path = scratch().join(format!("{name}-{}.elf", std::process::id()));
    let packed = BufReader::new(std::fs::File::open(packed).unwrap());
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(packed).unwrap();
    std::io::copy(&mut decoder, &mut std::fs::File::create(&path).unwrap()).unwrap();
    path
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

/// The folder of a guest whose state was saved.
pub(crate) fn saved() -> Option<PathBuf> {
    let shared =
        std::env::var_os("VMC_SHARED").map_or_else(|| top().parent().unwrap().join("shared"), PathBuf::from);
    let folder = shared.join("guests/x86_64-6.1-pti");
    if folder.join("state.mig.zst").exists() {
        return Some(folder);
    }
    skip(&format!("the guest x86_64-6.1-pti with its state.mig.zst is not in {}", shared.display()));
    None
}

/// A QEMU with a guest that was saved. One at a time: they are measured too.
pub(crate) struct Qemu {
    talker: Talker,
    folder: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Qemu {
    /// The guest of the image in `folder`, brought up with more words of `run-live`.
    pub(crate) fn start(image: &Path, words: &[&str]) -> Option<Self> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        for program in ["qemu-system-x86_64", "python3", "zstd"] {
            if let Err(why) = Command::new(program).arg("--version").output() {
                skip(&format!("{program} is not there: {why}"));
                return None;
            }
        }
        if words.contains(&"--kvm") && !kvm() {
            return None;
        }
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // Paths of sockets are short.
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("vmc-{}-{number}", std::process::id()));
        let mut command = Command::new("python3");
        command.arg(top().join("guests/run-live")).arg(&folder).arg(image).arg("--attend").args(words);
        Some(Self { talker: Talker::start(&mut command), folder, _alone: alone })
    }

    pub(crate) fn pid(&self) -> u64 {
        self.talker.facts["pid"].as_u64().unwrap()
    }

    /// `kvm:PID`.
    pub(crate) fn kvm(&self) -> String {
        format!("kvm:{}", self.pid())
    }

    /// `qmp:PATH`.
    pub(crate) fn qmp(&self) -> String {
        format!("qmp:{}", self.folder.join("qmp.sock").display())
    }

    /// `gdb:PATH`.
    pub(crate) fn gdb(&self) -> String {
        format!("gdb:{}", self.folder.join("gdb.sock").display())
    }

    /// A command of QEMU's own protocol, over a connection of its own.
    pub(crate) fn execute(&self, command: &str, arguments: &Value) -> Value {
        let socket = UnixStream::connect(self.folder.join("qmp.sock")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
        let mut ask = |command: &str, arguments: &Value| {
            let mut message = json!({ "execute": command });
            if !arguments.is_null() {
                message["arguments"] = arguments.clone();
            }
            writeln!(&socket, "{message}").unwrap();
            loop {
                let answer: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
                assert!(answer.get("error").is_none(), "{command}: {answer}");
                if let Some(told) = answer.get("return") {
                    return told.clone();
                }
            }
        };
        ask("qmp_capabilities", &Value::Null);
        ask(command, arguments)
    }

    /// `running`, `paused` ..
    pub(crate) fn status(&self) -> String {
        self.execute("query-status", &Value::Null)["status"].as_str().unwrap().to_owned()
    }

    /// It runs, or does so soon.
    pub(crate) fn becomes_running(&self) {
        let begin = Instant::now();
        while self.status() != "running" {
            assert!(begin.elapsed() < Duration::from_secs(5), "the guest is {}", self.status());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// An ELF core of the guest as it is, made by QEMU.
    pub(crate) fn core(&self) -> PathBuf {
        let path = self.folder.join("now.elf");
        let _ = std::fs::remove_file(&path);
        let protocol = format!("file:{}", path.display());
        self.execute("dump-guest-memory", &json!({ "paging": false, "protocol": protocol }));
        path
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        drop(self.talker.stdin.take());
        let _ = self.talker.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What can be seen of a process from outside, and may not change by being looked at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    descriptors: Vec<String>,
    threads: Vec<String>,
    traced: Vec<String>,
    signals: Vec<String>,
}

impl Seen {
    /// What it looks like when nothing is being done to it; connections that were closed here are closed there by then.
    pub(crate) fn of(pid: u64) -> Self {
        std::thread::sleep(Duration::from_millis(300));
        Self::now(pid)
    }

    fn now(pid: u64) -> Self {
        let list = |what: &str| {
            let entries = std::fs::read_dir(format!("/proc/{pid}/{what}")).unwrap();
            let mut names: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let threads = list("task");
        let status = |wanted: &[&str]| {
            let of_thread = |tid: &String| {
                let text = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).unwrap();
                let lines = text.lines().filter(|line| wanted.iter().any(|word| line.starts_with(word)));
                format!("{tid} {}", lines.collect::<Vec<_>>().join(" "))
            };
            threads.iter().map(of_thread).collect()
        };
        // By what they are of: QEMU makes those of its devices anew when a guest is stopped and goes on.
        let mut descriptors: Vec<String> = list("fd")
            .iter()
            .filter_map(|fd| std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok())
            .map(|link| link.to_string_lossy().split(":[").next().unwrap_or_default().to_owned())
            .collect();
        descriptors.sort();
        Self {
            descriptors,
            traced: status(&["TracerPid"]),
            signals: status(&["SigBlk", "SigIgn", "SigCgt", "Seccomp:"]),
            threads,
        }
    }

    /// Waits until the process looks like this again; panics where it does not.
    pub(crate) fn again(&self, pid: u64) {
        let begin = Instant::now();
        loop {
            let now = Self::now(pid);
            if now == *self {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(5), "left behind: {now:?}\nbefore: {self:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

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
    for (live, image) in live.iter().zip(image) {
        let told: Vec<_> = image.as_object().unwrap().iter().filter(|(_, value)| value.is_string()).collect();
        assert!(told.len() > 20, "{image}");
        for (name, value) in told {
            assert_eq!(&live[name], value, "{name} by {target}");
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

/// `check-cli` on a live target.
pub(crate) fn check(target: &str, truth: &Path, checks: &[&str]) {
    let mut command = Command::new("python3");
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
