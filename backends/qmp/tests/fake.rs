//! Servers that are no QEMU, or one that means harm or has ended: each gives one clear line, in time.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs,
    reason = "tests may panic and tell figures"
)]

mod common;

use std::io::{BufRead, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use common::{Fake, GREETING, Scratch, Script, answer, line, serve};
use serde_json::{Value, json};
use vmc::{LiveError, LiveGuest, PhysAddr, PhysError, PhysMemory, VcpuError, Vcpus};
use vmc_qmp::{ConnectOptions, Qmp};

const TIMEOUT: Duration = Duration::from_millis(300);

fn connect(address: &str) -> Result<Qmp, vmc_qmp::ConnectError> {
    let started = Instant::now();
    let result =
        Qmp::connect(address, &ConnectOptions { timeout: TIMEOUT, stop_timeout: TIMEOUT, process: true });
    assert!(started.elapsed() < Duration::from_secs(10), "it took {:?}", started.elapsed());
    result
}

/// What is said of a server that does this; it has to be one line.
fn error_of(script: Script) -> String {
    let fake = Fake::new(script);
    let error = connect(&fake.address()).map(drop).unwrap_err().to_string();
    assert!(!error.contains(['\n', '\x1b']) && error.len() < 500, "{error}");
    error
}

/// A server that answers sanely but to one command (or monitor's line), to which it sends this.
fn but(what: &'static str, text: impl Fn(&Value) -> String + Send + 'static) -> Script {
    Box::new(move |socket| {
        serve(socket, |command| {
            let (name, hmp) = (&command["execute"], &command["arguments"]["command-line"]);
            let meant = name == what || hmp.as_str().is_some_and(|line| line.starts_with(what));
            Some(if meant { text(command) } else { line(command, answer(command)) })
        });
    })
}

/// A server whose machine is in this state.
fn in_state(status: &'static str) -> Script {
    but("query-status", move |command| {
        line(command, json!({"return": {"status": status, "running": status == "running"}}))
    })
}

#[test]
fn a_sane_server_is_attached_to() {
    let fake = Fake::new(but("nothing", |_| String::new()));
    let guest = connect(&fake.address()).unwrap();
    assert_eq!((guest.count(), guest.total(), guest.running()), (1, 0x1_0000, false));
    let facts = guest.facts();
    assert_eq!((facts.vmm.as_deref(), facts.ram_bytes), (Some("QEMU 9.2.3"), 0x1_0000));
    // The listener is this very process, which has nothing at the address that was told.
    assert_eq!(facts.memory, "dump-guest-memory and xp");
    assert!(facts.warnings.iter().any(|warning| warning.contains("no process of this host has it")));
    let failed = guest.registers(0).unwrap_err();
    assert!(matches!(failed, VcpuError::Failed { .. }), "{failed}");
    assert!(guest.facts().warnings.iter().any(|warning| warning.contains("unknown command")));
    let addr = PhysAddr::new(0x1000);
    assert!(matches!(guest.read(addr, &mut [0; 8]), Err(PhysError::Failed { .. })));
    let addr = PhysAddr::new(0xfffc);
    assert_eq!(guest.read(addr, &mut [0; 8]), Err(PhysError::NoMemory { addr, len: 8 }));
}

#[test]
fn what_is_not_there_is_named() {
    let scratch = Scratch::new();
    let error = connect(&scratch.text("none.sock")).unwrap_err().to_string();
    assert!(error.contains("none.sock") && error.contains("No such file"), "{error}");
    let error = connect(&format!("/{}", "x".repeat(200))).unwrap_err().to_string();
    assert!(error.contains("too long"), "{error}");
    // A port that was given back: nobody listens on it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = connect(&port.to_string()).unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");
    for wrong in ["", "qmp.sock", ":1", "host:", "host:0", "host:65536", "::1:5", "[::1]", "[]:1", "[::1:5"] {
        let error = connect(wrong).unwrap_err().to_string();
        assert!(error.contains(&format!("{wrong:?} is no address")), "{error}");
    }
}

#[test]
fn silent_sockets_are_not_waited_for() {
    let error = error_of(Box::new(|socket| {
        let _ = socket.get_mut().read(&mut [0; 1]);
    }));
    assert!(error.contains("no greeting came within 300 ms") && error.contains("another one"), "{error}");
    // Nobody accepts, and the queue is full.
    let scratch = Scratch::new();
    let listener = UnixListener::bind(scratch.path("full.sock")).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let waiting = UnixStream::connect(scratch.path("full.sock")).unwrap();
    let error = connect(&scratch.text("full.sock")).unwrap_err().to_string();
    assert!(error.contains("no greeting came within 300 ms"), "{error}");
    drop((waiting, listener));
}

#[test]
fn what_speaks_no_qmp_is_told_apart() {
    for (text, expected) in [
        ("SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0"),
        ("", "closed the connection"),
        ("{\"QMP\": {\"version\"", "closed the connection"),
        ("{\"QMP\": 1}\n", "does not speak QMP"),
        ("[]\n", "does not speak QMP"),
        ("\x1b[2J\u{202e}{}\n", "does not speak QMP"),
        ("\n", "does not speak QMP"),
    ] {
        let error = error_of(Box::new(move |socket| {
            let _ = socket.get_mut().write_all(text.as_bytes());
        }));
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    let deep = format!("{}{}\n", "[".repeat(1 << 20), "]".repeat(1 << 20));
    let error = error_of(Box::new(move |socket| {
        let _ = socket.get_mut().write_all(deep.as_bytes());
    }));
    assert!(error.contains("does not speak QMP"), "{error}");
}

#[test]
fn lines_and_answers_without_end_are_given_up() {
    let endless = |text: &'static [u8]| -> Script {
        Box::new(move |socket| while socket.get_mut().write_all(text).is_ok() {})
    };
    let error = error_of(endless(&[b'x'; 1 << 16]));
    assert!(error.contains("a line without end") || error.contains("no greeting came"), "{error}");
    // Events for ever, where an answer was to come.
    let error = error_of(Box::new(|socket| {
        let _ = socket.get_mut().write_all(format!("{GREETING}\n").as_bytes());
        while socket.get_mut().write_all(b"{\"event\": \"STOP\", \"data\": {}}\n").is_ok() {}
    }));
    assert!(error.contains("no answer from QEMU"), "{error}");
    // The answers to everything else.
    let error = error_of(but("query-status", |_| "{\"return\": {}, \"id\": 77}\n".repeat(1000)));
    assert!(error.contains("no answer from QEMU"), "{error}");
}

#[test]
fn answers_that_all_come_late_end_in_time() {
    // Each in time, and thousands of them.
    let error = error_of(Box::new(|socket| {
        serve(socket, |command| {
            std::thread::sleep(Duration::from_millis(200));
            let ram = |page: u64| {
                format!(
                    "  {:016x}-{:016x} (prio 0, ram): ram @{:016x} KVM\n",
                    page << 13,
                    (page << 13) + 0xfff,
                    page << 12
                )
            };
            let tree = format!(
                "FlatView #0\n AS \"memory\", root: system\n Root memory region: system\n{}\n",
                (0..200).map(ram).collect::<String>()
            );
            let mtree = command["arguments"]["command-line"]
                .as_str()
                .is_some_and(|line| line.starts_with("info mtree"));
            Some(line(command, if mtree { json!({"return": tree}) } else { answer(command) }))
        });
    }));
    assert!(error.contains("no answer"), "{error}");
}

#[test]
fn answers_of_another_shape_are_named() {
    let deep = |command: &Value| {
        let nested = format!("{}{}", "[".repeat(1 << 19), "]".repeat(1 << 19));
        format!("{{\"return\": {nested}, \"id\": {}}}\n", command["id"])
    };
    for (what, script) in [
        ("query-status", but("query-status", |_| "garbage\n".into())),
        ("query-status", but("query-status", |_| "{}\n".into())),
        ("query-status", but("query-status", deep)),
        ("query-status", but("query-status", |command| line(command, json!({"return": "running"})))),
        ("query-cpus-fast", but("query-cpus-fast", |command| line(command, json!({"return": {}})))),
        ("info mtree -f", but("info mtree", |command| line(command, json!({"return": "nonsense"})))),
        ("gpa2hva", but("gpa2hva", |command| line(command, json!({"return": "(nil)"})))),
    ] {
        let error = error_of(script);
        assert!(error.contains(what) && error.contains("not understood"), "{error}");
    }
    let error = error_of(but("info mtree", |command| line(command, json!({"return": 5}))));
    assert!(error.contains("layout") && error.contains("info mtree"), "{error}");
}

#[test]
fn machines_that_cannot_be_looked_at_are_told_apart() {
    let missing =
        json!({"error": {"class": "CommandNotFound", "desc": "The command query-status has not been found"}});
    let error = error_of(but("query-status", move |command| line(command, missing.clone())));
    assert!(error.contains("has no machine"), "{error}");
    let error = error_of(in_state("inmigrate"));
    assert!(error.contains("on its way here") && error.contains("try again"), "{error}");
    let of = json!({"return": [{"target": "x86_64"}, {"target": "s390x"}]});
    let error = error_of(but("query-cpus-fast", move |command| line(command, of.clone())));
    assert!(error.contains("s390x"), "{error}");
}

#[test]
fn machines_that_stand_still_say_why() {
    for (status, expected) in [
        ("internal-error", Some("could not go on emulating")),
        ("postmigrate", Some("moved to another host")),
        ("guest-panicked", Some("panicked")),
        ("a-new-state", Some("does not run")),
        ("paused", None),
    ] {
        let fake = Fake::new(in_state(status));
        let guest = connect(&fake.address()).unwrap();
        let warnings = guest.facts().warnings;
        let found = warnings.iter().find(|warning| warning.contains("the machine is in state"));
        assert_eq!(found.is_some(), expected.is_some(), "{warnings:?}");
        assert!(expected.is_none_or(|text| found.unwrap().contains(text)), "{warnings:?}");
        // Nothing is sent that would change what happens to it: the script's answer to `stop` would be sane.
        assert_eq!(guest.stop(), Ok(()));
        assert_eq!(guest.status().unwrap(), status);
    }
}

#[test]
fn a_refused_stop_is_passed_on_and_nothing_is_held() {
    let fake = Fake::new(Box::new(|socket| {
        let mut resumed = 0;
        serve(socket, |command| match command["execute"].as_str().unwrap() {
            "query-status" => Some(line(command, json!({"return": {"status": "running", "running": true}}))),
            "stop" => Some(line(command, json!({"error": {"class": "GenericError", "desc": "not now"}}))),
            "cont" => {
                resumed += 1;
                assert_eq!(resumed, 0, "what was not stopped is resumed");
                None
            }
            _ => Some(line(command, answer(command))),
        });
    }));
    let guest = connect(&fake.address()).unwrap();
    assert_eq!(guest.stop(), Err(LiveError::Stop { reason: "QEMU refuses `stop`: not now".into() }));
    assert!(guest.running());
    assert_eq!(guest.resume(), Ok(()));
}

#[test]
fn a_machine_that_ends_under_us_is_gone() {
    for after in ["stop", "cont", "info registers"] {
        let fake = Fake::new(Box::new(move |socket| {
            let mut status = "running";
            serve(socket, |command| match command["execute"].as_str().unwrap() {
                name if name == after => None,
                "query-status" => {
                    Some(line(command, json!({"return": {"status": status, "running": status == "running"}})))
                }
                "stop" => {
                    status = "paused";
                    Some(line(command, answer(command)))
                }
                "human-monitor-command"
                    if command["arguments"]["command-line"].as_str().unwrap().starts_with(after) =>
                {
                    None
                }
                _ => Some(line(command, answer(command))),
            });
        }));
        let guest = connect(&fake.address()).unwrap();
        let stopped = guest.stop();
        let read = guest.registers(0);
        let resumed = guest.resume();
        let gone = |result: &Result<(), LiveError>| matches!(result, Err(LiveError::Gone { .. }));
        assert_eq!(gone(&stopped), after == "stop", "{after}: {stopped:?}");
        assert!(read.is_err());
        assert_eq!(gone(&resumed), after != "stop", "{after}: {resumed:?}");
        assert!(!guest.running());
    }
}

#[test]
fn events_and_late_answers_are_passed_over() {
    let fake = Fake::new(Box::new(|socket| {
        serve(socket, |command| {
            let event = "{\"event\": \"RTC_CHANGE\", \"data\": {\"offset\": 1}, \"timestamp\": {}}\r\n";
            let late = "{\"return\": {\"status\": \"wrong\", \"running\": true}, \"id\": 0}\r\n";
            Some(format!("{event}{late}{event}{}", line(command, answer(command))))
        });
    }));
    let guest = connect(&fake.address()).unwrap();
    assert_eq!(guest.status().unwrap(), "paused");
}

#[test]
fn a_client_that_drops_a_guest_it_holds_says_go_on() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let fake = Fake::new(Box::new(move |socket| {
        let mut running = true;
        serve(socket, |command| {
            let name = command["execute"].as_str().unwrap().to_owned();
            sender.send(name.clone()).unwrap();
            running = (running || name == "cont") && name != "stop";
            let status =
                json!({"return": {"status": if running { "running" } else { "paused" }, "running": running}});
            Some(line(command, if name == "query-status" { status } else { answer(command) }))
        });
        // Whoever comes after that would be the process that was armed.
        let mut rest = String::new();
        let _ = socket.read_line(&mut rest);
        assert_eq!(rest, "");
    }));
    let guest = connect(&fake.address()).unwrap();
    guest.stop().unwrap();
    drop(guest);
    drop(fake);
    let said: Vec<String> = receiver.iter().collect();
    assert_eq!(said.iter().filter(|name| *name == "stop").count(), 1);
    assert_eq!(said.last().map(String::as_str), Some("cont"));
}

#[test]
fn a_stop_that_comes_too_late_is_taken_back() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let fake = Fake::new(Box::new(move |socket| {
        let mut running = true;
        serve(socket, |command| {
            let name = command["execute"].as_str().unwrap().to_owned();
            sender.send(name.clone()).unwrap();
            running = (running || name == "cont") && name != "stop";
            match name.as_str() {
                // As while QEMU waits for a disk: the answer is there later, with all that were asked after it.
                "stop" => Some(String::new()),
                "query-status" => {
                    let status = if running { "running" } else { "paused" };
                    Some(line(command, json!({"return": {"status": status, "running": running}})))
                }
                _ => Some(line(command, answer(command))),
            }
        });
    }));
    let guest = connect(&fake.address()).unwrap();
    let late = guest.stop().unwrap_err();
    assert!(matches!(late, LiveError::Silent { milliseconds: 300, .. }), "{late}");
    assert!(guest.running());
    guest.resume().unwrap();
    drop(guest);
    drop(fake);
    let said: Vec<String> = receiver.iter().collect();
    let stop = said.iter().position(|name| name == "stop").unwrap();
    assert_eq!(said.get(stop + 1..stop + 3).unwrap(), ["query-status", "cont"]);
}

#[test]
fn a_machine_that_moved_while_it_was_held_is_not_set_running() {
    let fake = Fake::new(Box::new(|socket| {
        let mut status = "running";
        serve(socket, |command| match command["execute"].as_str().unwrap() {
            "query-status" => {
                Some(line(command, json!({"return": {"status": status, "running": status == "running"}})))
            }
            name => {
                assert_ne!(name, "cont", "the guest would have two owners");
                if name == "stop" {
                    status = "postmigrate";
                }
                Some(line(command, answer(command)))
            }
        });
    }));
    let guest = connect(&fake.address()).unwrap();
    guest.stop().unwrap();
    let error = guest.resume().unwrap_err().to_string();
    assert!(error.contains("postmigrate"), "{error}");
    assert_eq!(guest.resume(), Ok(()));
}
