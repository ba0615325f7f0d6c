//! Guests under QEMU for these tests, and their machine protocol, by which somebody else's word on their state is had.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a helper of tests may panic, and not every test uses every helper"
)]

pub(crate) mod sample;
pub(crate) mod server;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vmc_dump::{Image, OpenOptions};

/// Says that something is skipped; where everything has to run (`VMC_REQUIRE_ALL`) that is a failure.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("VMC_REQUIRE_ALL").is_none(), "cannot be skipped here: {why}");
    let thread = std::thread::current();
    let _ = writeln!(std::io::stderr(), "test {} skipped: {why}", thread.name().unwrap_or("?"));
}

pub(crate) fn shared() -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::var_os("VMC_SHARED").map_or_else(|| top.join("../shared"), PathBuf::from)
}

/// The image of a guest, unpacked once.
pub(crate) fn image(path: &Path) -> Image {
    let cache_dir = Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    Image::open_with(path, &mut OpenOptions { cache_dir, ..OpenOptions::default() }).unwrap()
}

/// A folder for sockets, whose names have to be short.
pub(crate) fn folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("vmc-gdb-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// The one client of a socket in a folder of its own, which is then gone.
pub(crate) fn accept_one(listener: &UnixListener, path: &Path) -> UnixStream {
    let (socket, _) = listener.accept().unwrap();
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    socket
}

/// A guest under QEMU, ended with the test.
pub(crate) struct Guest {
    pid: i32,
    folder: PathBuf,
    qmp: UnixStream,
    /// The guest's folder in `shared`, if it comes from there.
    pub(crate) source: PathBuf,
}

impl Guest {
    /// Brings a guest of `shared` back, running or paused.
    pub(crate) fn incoming(name: &str, running: bool) -> Option<Self> {
        let source = shared().join("guests").join(name);
        let script = shared().join("lab/run-incoming");
        if !source.join("state.mig.zst").exists() || !script.exists() {
            skip(&format!("the state of the guest {name} is not in {}", shared().display()));
            return None;
        }
        if Command::new("qemu-system-x86_64").arg("--version").output().is_err() {
            skip("qemu-system-x86_64 is not there");
            return None;
        }
        let folder = folder();
        let mut command = Command::new(script);
        command.arg(&source).arg(&folder);
        if running {
            command.arg("--cont");
        }
        let status = command.stdout(std::process::Stdio::null()).status().unwrap();
        assert!(status.success(), "the guest {name} was not brought back");
        Some(Self::at(folder, source))
    }

    /// A guest whose sockets and number are in a folder.
    pub(crate) fn at(folder: PathBuf, source: PathBuf) -> Self {
        let pid = std::fs::read_to_string(folder.join("qemu.pid")).unwrap().trim().parse().unwrap();
        let qmp = UnixStream::connect(folder.join("qmp.sock")).unwrap();
        qmp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut guest = Self { pid, folder, qmp, source };
        guest.answer();
        guest.qmp("qmp_capabilities", json!({}));
        guest
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn stub(&self) -> String {
        self.folder.join("gdb.sock").display().to_string()
    }

    pub(crate) fn truth(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.source.join("truth.json")).unwrap()).unwrap()
    }

    pub(crate) fn image(&self) -> Image {
        image(&self.source.join("mem.elf.zst"))
    }

    pub(crate) fn qmp(&mut self, command: &str, arguments: Value) -> Value {
        let mut line = json!({"execute": command, "arguments": arguments}).to_string();
        line.push('\n');
        self.qmp.write_all(line.as_bytes()).unwrap();
        self.answer()
    }

    fn answer(&mut self) -> Value {
        let mut lines = BufReader::with_capacity(1, &self.qmp);
        loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the machine protocol ended");
            let value: Value = serde_json::from_str(&line).unwrap();
            if value.get("QMP").is_some() {
                return value;
            }
            assert!(value.get("error").is_none(), "{value}");
            if let Some(answer) = value.get("return") {
                return answer.clone();
            }
        }
    }

    /// `running`, `paused`, …
    pub(crate) fn status(&mut self) -> String {
        self.qmp("query-status", json!({}))["status"].as_str().unwrap().to_owned()
    }

    /// Waits until the guest is in that state.
    pub(crate) fn wait_for(&mut self, status: &str, most: Duration) -> Result<(), String> {
        let end = Instant::now() + most;
        loop {
            let now = self.status();
            if now == status {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("it is {now}, not {status}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// An aarch64 machine that runs a few instructions, which put known values into its registers and then stay where they are.
    pub(crate) fn bare_aarch64() -> Option<Self> {
        if Command::new("qemu-system-aarch64").arg("--version").output().is_err() {
            skip("qemu-system-aarch64 is not there");
            return None;
        }
        // movz x0, #low; movk x0, #high, lsl 16
        let load = |value: u32| [0xd280_0000 | (value & 0xffff) << 5, 0xf2a0_0000 | (value >> 16) << 5];
        let into =
            |value: u32, register: u32| [load(value).as_slice(), &[0xd518_0000 | register << 5]].concat();
        // Op0, Op1, CRn, CRm, Op2 as MSR has them, without Op0's high bit.
        let system = |op1: u32, crn: u32, crm: u32, op2: u32| 1 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2;
        let mut code: Vec<u32> = [
            into(0x4100_0000, system(0, 2, 0, 0)),
            into(0x4200_0000, system(0, 2, 0, 1)),
            into(0x3510, system(0, 2, 0, 2)),
            into(0x5000, system(0, 4, 1, 0)),
            into(0x6000, system(0, 13, 0, 4)),
            into(0x7000, system(3, 13, 0, 2)),
            into(0x4000_8000, system(0, 12, 0, 0)),
            into(0x44ff, system(0, 10, 2, 0)),
            load(0x4000_9000).to_vec(),
        ]
        .concat();
        // mov sp, x0; movz x1, #0x1111; movz x29, #0x2929; b .
        code.extend([0x9100_001f, 0xd280_0001 | 0x1111 << 5, 0xd280_001d | 0x2929 << 5, 0x1400_0000]);
        let folder = folder();
        let program = folder.join("program");
        std::fs::write(&program, code.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>())
            .unwrap();
        let socket = |name: &str| format!("unix:{},server=on,wait=off", folder.join(name).display());
        let mut command = Command::new("qemu-system-aarch64");
        command.args([
            "-accel",
            "tcg",
            "-M",
            "virt",
            "-cpu",
            "cortex-a57",
            "-smp",
            "2",
            "-m",
            "64",
            "-nodefaults",
        ]);
        command.args(["-no-user-config", "-display", "none", "-daemonize", "-device"]);
        command.arg(format!("loader,file={},addr=0x40200000,cpu-num=0,force-raw=on", program.display()));
        command.args(["-qmp", &socket("qmp.sock"), "-gdb", &socket("gdb.sock")]);
        command.arg("-pidfile").arg(folder.join("qemu.pid"));
        assert!(command.status().unwrap().success(), "QEMU did not start");
        std::thread::sleep(Duration::from_millis(300));
        Some(Self::at(folder, PathBuf::new()))
    }

    /// Says one thing to the stub as another client would, and leaves: the guest is let run.
    pub(crate) fn say_to_stub(&self, question: &str) {
        let mut stub = UnixStream::connect(self.stub()).unwrap();
        stub.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let packet = |data: &str| {
            let sum = data.bytes().fold(0u8, |sum, byte| sum.wrapping_add(byte));
            format!("${data}#{sum:02x}")
        };
        let mut buf = [0; 4096];
        for data in [question, "D;1"] {
            stub.write_all(packet(data).as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(200));
            let _ = std::io::Read::read(&mut stub, &mut buf).unwrap();
        }
    }

    /// What QEMU's stub says of its mode for physical addresses to a client that asks nothing else; the guest is then as before.
    pub(crate) fn mode(&self) -> String {
        let mut stub = UnixStream::connect(self.stub()).unwrap();
        stub.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stub.write_all(b"$qqemu.PhyMemMode#2c").unwrap();
        let (mut all, mut buf) = (Vec::new(), [0; 256]);
        // A guest that ran says first that it was stopped.
        let packets = |all: &[u8]| -> Vec<String> {
            let text = String::from_utf8_lossy(all).into_owned();
            let parts = text
                .split('$')
                .skip(1)
                .filter_map(|part| part.split_once('#').map(|(data, _)| data.to_owned()));
            parts.collect()
        };
        loop {
            let got = std::io::Read::read(&mut stub, &mut buf).unwrap();
            assert!(got > 0, "the stub closed the connection");
            all.extend_from_slice(&buf[..got]);
            let packets = packets(&all);
            if let Some(answer) = packets.iter().find(|packet| !packet.starts_with('T')) {
                if packets.iter().any(|packet| packet.starts_with('T')) {
                    stub.write_all(b"$D#44").unwrap();
                    let _ = std::io::Read::read(&mut stub, &mut buf).unwrap();
                }
                break answer.clone();
            }
        }
    }

    pub(crate) fn monitor(&mut self, line: &str) -> String {
        let answer = self.qmp("human-monitor-command", json!({"command-line": line}));
        answer.as_str().unwrap().to_owned()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qmp.write_all(b"{\"execute\": \"quit\"}\n");
        let end = Instant::now() + Duration::from_secs(5);
        while Path::new(&format!("/proc/{}", self.pid)).exists() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
