//! What is sent for a dead client, on a QEMU without a machine.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::*;
use vmc_process::Address;

/// A QEMU with two sockets; one client each.
struct Qemu(Child, [String; 2]);

impl Qemu {
    fn start() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vmc-link-{}-{count}", std::process::id());
        let path = |n: u32| format!("{}/{name}-{n}.sock", std::env::temp_dir().display());
        let sockets = [path(0), path(1)];
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-M", "none", "-nodefaults", "-display", "none"]);
        for socket in &sockets {
            qemu.args(["-qmp", &format!("unix:{socket},server=on,wait=off")]);
        }
        let child = qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        if child.is_err() {
            assert!(std::env::var_os("VMC_REQUIRE_ALL").is_none(), "qemu-system-x86_64 is not here");
            eprintln!("skipped: qemu-system-x86_64 is not here");
        }
        Some(Self(child.ok()?, sockets))
    }

    fn connect(&self, which: usize) -> Connection {
        let address = Address::parse(&self.1[which]).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match Connection::open(&address, Duration::from_secs(5)) {
                Ok(mut connection) => {
                    connection.begin().unwrap();
                    return connection;
                }
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        self.1.iter().for_each(|socket| drop(std::fs::remove_file(socket)));
    }
}

#[test]
fn last_words_are_understood_wherever_the_line_before_ended() {
    let Some(qemu) = Qemu::start() else { return };
    let mut control = qemu.connect(1);
    let halves = [
        "",
        "\n",
        r#"{"execute": "query-sta"#,
        r#"{"execute": "query-status", "id": 12"#,
        r#"{"execute": "query-status", "arguments": {"a": [[["#,
        r#"{"execute": "\"#,
        r#"{"execute": "query-status", "id": 1}"#,
    ];
    for half in halves {
        let mut connection = qemu.connect(0);
        connection.execute::<_, Done>("stop", Nothing {}).unwrap();
        assert!(!control.status().unwrap().running);
        let orphan = Orphan::spawn(connection.as_fd()).unwrap();
        orphan.arm_asking(QUESTION, LAST_WORDS, ANSWER).unwrap();
        connection.send_raw(half.as_bytes());
        // As when we are killed: nobody disarms it.
        drop((orphan, connection));
        let end = Instant::now() + Duration::from_secs(10);
        while !control.status().unwrap().running {
            assert!(Instant::now() < end, "it was not resumed after {half:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_link_that_is_dropped_lets_go_what_it_held_and_nothing_else() {
    let Some(qemu) = Qemu::start() else { return };
    let mut control = qemu.connect(1);
    let mut link = Link::new(qemu.connect(0), 0, Duration::from_secs(20));
    assert_eq!(link.stop(), Ok(true));
    assert!(!control.status().unwrap().running && !link.running());
    assert_eq!(link.stop(), Ok(false));
    drop(link);
    assert!(control.status().unwrap().running);
    // Paused by somebody else, it stays so.
    control.execute::<_, Done>("stop", Nothing {}).unwrap();
    let mut link = Link::new(qemu.connect(0), 0, Duration::from_secs(20));
    assert_eq!(link.stop(), Ok(true));
    assert_eq!(link.resume(), Ok(()));
    drop(link);
    assert_eq!(control.status().unwrap().status, "paused");
}
