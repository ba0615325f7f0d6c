//! Guests that run, and servers that only pretend.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper of tests may panic, and not every test uses every helper"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Says that something is skipped; where everything has to run (`VMC_REQUIRE_ALL`) that is a failure.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("VMC_REQUIRE_ALL").is_none(), "cannot be skipped here: {why}");
    let thread = std::thread::current();
    let _ = writeln!(std::io::stderr(), "test {} skipped: {why}", thread.name().unwrap_or("?"));
}

/// The folder of a guest in `shared/` beside the repository (`VMC_SHARED` names another place).
pub(crate) fn shared_guest(name: &str) -> Option<PathBuf> {
    let top = top();
    let shared = std::env::var_os("VMC_SHARED").map_or_else(|| top.join("../shared"), PathBuf::from);
    let guest = shared.join("guests").join(name);
    if !guest.join("meta.json").exists() {
        skip(&format!("{} is not here", guest.display()));
        return None;
    }
    Some(guest)
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A folder that goes with the test. Its name is short: sockets lie in it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("vmc-qmp-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A QEMU with a socket for the backend and one for the test.
pub(crate) struct Guest {
    child: Child,
    pub(crate) scratch: Scratch,
    /// The process of QEMU itself.
    pub(crate) pid: u32,
    pub(crate) qmp: String,
    pub(crate) control: Control,
}

impl Guest {
    /// The guest of an image, where its image was taken, or running on from there.
    pub(crate) fn of_image(name: &str, running: bool) -> Option<Self> {
        let image = shared_guest(name)?;
        let scratch = Scratch::new();
        let control = scratch.text("control.sock");
        let mut command = Command::new("python3");
        command.arg(top().join("guests/run-live")).arg(scratch.path("")).arg(image).arg("--attend");
        command.args(["--qemu-arg=-qmp", &format!("--qemu-arg=unix:{control},server=on,wait=off")]);
        if running {
            command.arg("--cont");
        }
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(mut child) = spawned else {
            skip("python3 is not here");
            return None;
        };
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Ok(facts) = serde_json::from_str::<Value>(&line) else {
            skip("guests/run-live does not start a guest here");
            return None;
        };
        let pid = u32::try_from(facts["pid"].as_u64().unwrap()).unwrap();
        let control = Control::connect(&control);
        Some(Self { child, pid, qmp: scratch.text("qmp.sock"), scratch, control })
    }

    /// A QEMU as it is told, paused.
    pub(crate) fn of_words(program: &str, words: &[&str]) -> Option<Self> {
        let scratch = Scratch::new();
        let (qmp, control) = (scratch.text("qmp.sock"), scratch.text("control.sock"));
        let mut command = Command::new(program);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-S"]).args(words);
        for socket in [&qmp, &control] {
            command.args(["-qmp", &format!("unix:{socket},server=on,wait=off")]);
        }
        let Ok(child) = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        else {
            skip(&format!("{program} is not here"));
            return None;
        };
        let control = Control::connect(&control);
        Some(Self { pid: child.id(), child, qmp, scratch, control })
    }

    pub(crate) fn end(&mut self) {
        // run-live ends its guest when its stdin ends.
        if self.child.stdin.take().is_none() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.end();
    }
}

/// The test's own connection to QEMU, which shares nothing with the backend's.
pub(crate) struct Control(BufReader<UnixStream>, usize);

impl Control {
    pub(crate) fn connect(path: &str) -> Self {
        let end = Instant::now() + Duration::from_secs(20);
        let socket = loop {
            match UnixStream::connect(path) {
                Ok(socket) => break socket,
                Err(error) => assert!(Instant::now() < end, "{path}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut control = Self(BufReader::new(socket), 0);
        control.line();
        control.ask("qmp_capabilities", &json!({}));
        control
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    pub(crate) fn ask(&mut self, command: &str, arguments: &Value) -> Value {
        let line = json!({"execute": command, "arguments": arguments, "id": "test"});
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
        loop {
            let answer = self.line();
            self.1 += usize::from(answer["event"] == "STOP");
            if answer["id"] == "test" {
                assert!(answer["error"].is_null(), "{command}: {answer}");
                return answer["return"].clone();
            }
        }
    }

    /// How often the machine was stopped, as far as was listened.
    pub(crate) fn stops(&mut self) -> usize {
        self.status();
        self.1
    }

    pub(crate) fn hmp(&mut self, line: &str) -> String {
        let answer = self.ask("human-monitor-command", &json!({"command-line": line}));
        answer.as_str().unwrap().to_owned()
    }

    pub(crate) fn status(&mut self) -> String {
        self.ask("query-status", &json!({}))["status"].as_str().unwrap().to_owned()
    }

    /// Waits until the machine is in a state.
    pub(crate) fn wait_for(&mut self, status: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let found = self.status();
            if found == status {
                return;
            }
            assert!(Instant::now() < end, "{found}, not {status}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// What a server that pretends does with a connection.
pub(crate) type Script = Box<dyn FnOnce(&mut BufReader<UnixStream>) + Send>;

/// A server for one connection.
pub(crate) struct Fake {
    scratch: Scratch,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Fake {
    pub(crate) fn new(script: Script) -> Self {
        let scratch = Scratch::new();
        let listener = UnixListener::bind(scratch.path("fake.sock")).unwrap();
        let thread = std::thread::spawn(move || {
            let Ok((socket, _)) = listener.accept() else { return };
            script(&mut BufReader::new(socket));
        });
        Self { scratch, thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> String {
        self.scratch.text("fake.sock")
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Where the backend did not come there is nobody to accept.
            drop(UnixStream::connect(self.address()));
            let _ = thread.join();
        }
    }
}

pub(crate) const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 3, "minor": 2, "major": 9}, "package": ""}, "capabilities": []}}"#;

/// The machine that [`answer`] pretends to have: 64 KiB at 0, in no process.
const TREE: &str = "FlatView #0\n AS \"memory\", root: system\n Root memory region: system\n  \
    0000000000000000-000000000000ffff (prio 0, ram): ram\n";

/// A sane answer to a command line's `execute` and `arguments`.
pub(crate) fn answer(command: &Value) -> Value {
    let line = command["arguments"]["command-line"].as_str().unwrap_or_default();
    let text = |text: &str| json!({ "return": text });
    match command["execute"].as_str().unwrap() {
        "query-status" => json!({"return": {"status": "paused", "running": false}}),
        "query-cpus-fast" => json!({"return": [{"cpu-index": 0, "target": "x86_64"}]}),
        "human-monitor-command" if line.starts_with("info mtree") => text(TREE),
        "human-monitor-command" if line == "gpa2hva 0xffff" => {
            text("Host virtual address for 0xffff (ram) is 0x10fff\n")
        }
        "human-monitor-command" if line.starts_with("gpa2hva") => {
            text("Host virtual address for 0x0 (ram) is 0x1000\n")
        }
        "human-monitor-command" => text("unknown command\n"),
        _ => json!({"return": {}}),
    }
}

/// Reads commands and sends what `reply` makes of each: lines, or nothing more (`None`).
pub(crate) fn serve(socket: &mut BufReader<UnixStream>, mut reply: impl FnMut(&Value) -> Option<String>) {
    if socket.get_mut().write_all(format!("{GREETING}\r\n").as_bytes()).is_err() {
        return;
    }
    let mut line = String::new();
    while socket.read_line(&mut line).is_ok_and(|len| len > 0) {
        // A client that is dropped while it holds the guest says its last words.
        let Ok(command) = serde_json::from_str::<Value>(&line) else { return };
        line.clear();
        let Some(text) = reply(&command) else { return };
        if socket.get_mut().write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

/// An answer as a line, with the command's id.
pub(crate) fn line(command: &Value, mut answer: Value) -> String {
    answer["id"] = command["id"].clone();
    format!("{answer}\r\n")
}
