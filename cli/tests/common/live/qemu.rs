//! Guests of QEMU.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::talker::Talker;
use super::{ALONE, kvm};
use crate::common::{skip, top};

/// A QEMU with a guest that was saved. One at a time: they are measured too.
pub(crate) struct Qemu {
    talker: Talker,
    folder: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

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
