//! Stubs that mean harm, or are none: each ends in one line, soon, and with little memory.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

mod common;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use vmc::{LiveGuest, PhysAddr, PhysError, PhysMemory, Region, VcpuError, Vcpus};
use vmc_gdb::{ConnectError, ConnectOptions, Gdb, LinkError};

/// A stub that answers by a function of the question; its socket's path.
fn stub(mut answer: impl FnMut(&str, &mut UnixStream) -> Option<Vec<u8>> + Send + 'static) -> String {
    let path = common::folder().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let at = path.clone();
    std::thread::spawn(move || {
        let mut socket = common::accept_one(&listener, &at);
        let (mut buf, mut all) = ([0; 4096], Vec::new());
        while let Ok(got @ 1..) = socket.read(&mut buf) {
            all.extend_from_slice(&buf[..got]);
            while let Some(start) = all.iter().position(|byte| *byte == b'$') {
                let Some(end) = all[start..].iter().position(|byte| *byte == b'#').map(|at| start + at)
                else {
                    break;
                };
                if all.len() < end + 3 {
                    break;
                }
                let question = String::from_utf8_lossy(&all[start + 1..end]).into_owned();
                all.drain(..end + 3);
                if let Some(data) = answer(&question, &mut socket) {
                    let sum = data.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
                    let packet = [b"+$".as_slice(), &data, format!("#{sum:02x}").as_bytes()].concat();
                    if socket.write_all(&packet).is_err() {
                        return;
                    }
                }
            }
        }
    });
    path.display().to_string()
}

fn impatient() -> ConnectOptions {
    let region = Region { start: PhysAddr::new(0), len: 1 << 30 };
    ConnectOptions {
        patience: Duration::from_millis(300),
        physical: true,
        regions: Some(vec![region]),
        ..ConnectOptions::default()
    }
}

const XML: &str = "<target><architecture>i386:x86-64</architecture></target>";

/// A stub of the kind that has little: no vCPUs but one, no monitor, registers that are all alike.
fn usual(question: &str) -> Vec<u8> {
    match question {
        "g" => b"01".repeat(8 * 17 + 4 * 7),
        "D" | "vCont;c" => b"OK".to_vec(),
        _ if question.starts_with("qSupported") => b"PacketSize=400;qXfer:features:read+".to_vec(),
        _ if question.starts_with("qXfer:features:read:target.xml:0,") => format!("l{XML}").into(),
        _ if question.starts_with('m') => b"00".repeat(length(question)),
        _ => Vec::new(),
    }
}

fn length(question: &str) -> usize {
    usize::from_str_radix(question.rsplit(',').next().unwrap(), 16).unwrap()
}

/// The error of an attachment to a stub, which has to come soon.
fn fails(answer: impl FnMut(&str, &mut UnixStream) -> Option<Vec<u8>> + Send + 'static) -> String {
    let start = Instant::now();
    let error = Gdb::connect(&stub(answer), &impatient()).unwrap_err().to_string();
    assert!(start.elapsed() < Duration::from_secs(5), "{error} came after {:?}", start.elapsed());
    assert!(!error.contains('\n') && error.len() < 400, "{error}");
    error
}

#[test]
fn a_stub_that_has_little_is_enough() {
    let gdb = Gdb::connect(&stub(|question, _| Some(usual(question))), &impatient()).unwrap();
    let vmc::Registers::X86_64(registers) = gdb.registers(0).unwrap() else { panic!("not x86_64") };
    assert_eq!((registers.rip, registers.cs, registers.cr3), (0x0101_0101_0101_0101, 0x101, 0));
    let mut bytes = [1; 9000];
    gdb.read(PhysAddr::new(0xfff), &mut bytes).unwrap();
    assert_eq!(bytes, [0; 9000]);
    assert!(matches!(gdb.read(PhysAddr::new(1 << 30), &mut bytes), Err(PhysError::NoMemory { .. })));
    assert!(matches!(gdb.registers(1), Err(VcpuError::NoSuchVcpu { index: 1, count: 1 })));
    gdb.detach().unwrap();
}

#[test]
fn what_speaks_something_else_is_told_by_name() {
    let error = fails(|_, socket| {
        let _ = socket.write_all(b"{\"QMP\": {\"version\": 1}}\r\n");
        None
    });
    assert!(error.contains("no GDB remote protocol") && error.contains("QMP"), "{error}");
    assert!(fails(|_, socket| socket.write_all(b"HTTP/1.1 400 Bad\r\n").ok().and(None)).contains("HTTP"));
}

#[test]
fn silence_ends_in_time() {
    assert!(fails(|_, _| None).contains("said nothing for 300 ms"));
    // It answers the first question, and no other.
    let error = fails(|question, _| question.starts_with("qSupported").then(|| usual(question)));
    assert!(error.contains("qqemu.PhyMemMode") && error.contains("300 ms"), "{error}");
    // A stop, and then nothing.
    fails(|_, socket| socket.write_all(b"$T05#b9").ok().and(None));
    // The other end goes.
    let error = fails(|_, socket| socket.shutdown(std::net::Shutdown::Both).ok().and(None));
    assert!(error.contains("closed"), "{error}");
}

#[test]
fn answers_that_come_by_the_byte_end_in_time() {
    let error = fails(|question, _| {
        std::thread::sleep(Duration::from_millis(200));
        match question {
            _ if question.starts_with("qXfer") => Some(b"m<".to_vec()),
            _ => Some(usual(question)),
        }
    });
    assert!(error.contains("300 ms"), "{error}");
}

#[test]
fn floods_end_in_time() {
    let flood = |what: &'static [u8]| {
        move |_: &str, socket: &mut UnixStream| {
            let end = Instant::now() + Duration::from_secs(4);
            let many = what.repeat(1000);
            while Instant::now() < end && socket.write_all(&many).is_ok() {}
            None
        }
    };
    fails(flood(b"+"));
    fails(flood(b"-"));
    fails(flood(b"$T05#b9"));
    fails(flood(b"%Stop:T05#8d"));
    fails(flood(b"$OK#00"));
    fails(flood(b"$O30#df"));
    assert!(fails(flood(b"$aaaaaaaaaaaaaaaaaa")).contains("without end"));
}

#[test]
fn wrong_checksums_are_asked_for_again_but_not_for_ever() {
    let mut times = 0;
    let once = move |question: &str, socket: &mut UnixStream| {
        if question == "g" && times == 0 {
            times += 1;
            let right = usual("g");
            let sum = right.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
            let frame = |sum: u8| [b"+$".as_slice(), &usual("g"), format!("#{sum:02x}").as_bytes()].concat();
            socket.write_all(&frame(sum.wrapping_add(1))).unwrap();
            // What comes next has to be a request for it again.
            let mut byte = [0];
            while byte != *b"-" {
                socket.read_exact(&mut byte).unwrap();
            }
            socket.write_all(&frame(sum)).unwrap();
            return None;
        }
        Some(usual(question))
    };
    let gdb = Gdb::connect(&stub(once), &impatient()).unwrap();
    gdb.registers(0).unwrap();
    drop(gdb);
    let always = |question: &str, socket: &mut UnixStream| {
        if question.starts_with("qSupported") {
            for _ in 0..100 {
                let _ = socket.write_all(b"$OK#00");
            }
            return None;
        }
        Some(usual(question))
    };
    assert!(fails(always).contains("checksums"));
}

#[test]
fn answers_that_are_too_large_are_refused() {
    // A description that never ends.
    let endless = |question: &str, _: &mut UnixStream| {
        let answer = question.starts_with("qXfer").then(|| [b"m".as_slice(), &[b' '; 900]].concat());
        Some(answer.unwrap_or_else(|| usual(question)))
    };
    assert!(fails(endless).contains("more than 1 MiB"));
    // vCPUs that never end.
    let vcpus = |question: &str, _: &mut UnixStream| {
        let many = question.ends_with("ThreadInfo").then(|| format!("m{}", vec!["1"; 100].join(",")).into());
        Some(many.unwrap_or_else(|| usual(question)))
    };
    assert!(fails(vcpus).contains("ThreadInfo"));
    let vcpus = |question: &str, _: &mut UnixStream| {
        let bad = question.ends_with("ThreadInfo").then(|| b"m1;D".to_vec());
        Some(bad.unwrap_or_else(|| usual(question)))
    };
    assert!(fails(vcpus).contains("ThreadInfo"));
}

#[test]
fn memory_that_is_answered_wrongly_is_not_taken() {
    for (wrong, whole) in [
        (|_: usize| b"E14".to_vec(), false),
        (|_| Vec::new(), false),
        (|len| b"00".repeat(len + 1), false),
        (|len| b"0g".repeat(len), false),
        // Half of it each time is slow, but right.
        (|len: usize| b"07".repeat(len.div_ceil(2)), true),
    ] as [(fn(usize) -> Vec<u8>, bool); 5]
    {
        let answer = move |question: &str, _: &mut UnixStream| {
            Some(if question.starts_with('m') { wrong(length(question)) } else { usual(question) })
        };
        let gdb = Gdb::connect(&stub(answer), &impatient()).unwrap();
        let mut page = [0; 4096];
        let read = gdb.read(PhysAddr::new(0x1000), &mut page);
        if whole {
            read.unwrap();
            assert_eq!(page, [7; 4096]);
        } else {
            assert!(matches!(read, Err(PhysError::Failed { .. })), "{read:?}");
        }
    }
}

#[test]
fn memory_as_bytes_is_read_where_it_is_offered() {
    let pattern = |at: usize| (at * 7 + at / 256) as u8;
    let answer = move |question: &str, _: &mut UnixStream| {
        let Some(range) = question.strip_prefix('x') else {
            let more = if question.starts_with("qSupported") { b";binary-upload+".as_slice() } else { b"" };
            return Some([usual(question).as_slice(), more].concat());
        };
        let (at, len) = range.split_once(',').unwrap();
        let (at, len) = (usize::from_str_radix(at, 16).unwrap(), usize::from_str_radix(len, 16).unwrap());
        let mut bytes = b"b".to_vec();
        for byte in (at..at + len).map(pattern) {
            if b"#$}*".contains(&byte) { bytes.extend([b'}', byte ^ 0x20]) } else { bytes.push(byte) }
        }
        Some(bytes)
    };
    let gdb = Gdb::connect(&stub(answer), &impatient()).unwrap();
    for len in [10, 5000, 200_000] {
        let mut bytes = vec![0; len];
        gdb.read(PhysAddr::new(0x12ab), &mut bytes).unwrap();
        assert!(bytes.iter().enumerate().all(|(index, byte)| *byte == pattern(0x12ab + index)), "{len}");
    }
}

#[test]
fn registers_that_are_none_are_an_error_and_the_guest_is_let_go() {
    let (told, hears) = std::sync::mpsc::channel();
    let answer = move |question: &str, _: &mut UnixStream| {
        let _ = told.send(question.to_owned());
        Some(if question == "g" { b"0102".to_vec() } else { usual(question) })
    };
    let gdb = Gdb::connect(&stub(answer), &impatient()).unwrap();
    assert!(matches!(gdb.registers(0), Err(VcpuError::Failed { index: 0, .. })));
    drop(gdb);
    assert!(hears.iter().any(|question| question == "D"));
}

#[test]
fn while_the_guest_runs_nothing_is_asked() {
    let (told, hears) = std::sync::mpsc::channel();
    let answer = move |question: &str, _: &mut UnixStream| {
        let _ = told.send(question.to_owned());
        (!matches!(question, "c" | "vCont;c")).then(|| usual(question))
    };
    let gdb = Gdb::connect(&stub(answer), &impatient()).unwrap();
    let mut kept = [0; 16];
    gdb.read(PhysAddr::new(0x5000), &mut kept).unwrap();
    gdb.registers(0).unwrap();
    assert!(!gdb.running());
    gdb.resume().unwrap();
    assert!(gdb.running());
    // What was read stays; other memory is not to be had.
    gdb.read(PhysAddr::new(0x5008), &mut kept[..8]).unwrap();
    gdb.registers(0).unwrap();
    let refused = gdb.read(PhysAddr::new(0x9000), &mut kept).unwrap_err().to_string();
    assert!(refused.contains("only while it is stopped"), "{refused}");
    // No stop reply comes to the wish to stop.
    assert!(gdb.stop().unwrap_err().to_string().contains("300 ms"));
    drop(gdb);
    let questions: Vec<String> = hears.iter().collect();
    let resumed = questions.iter().position(|question| question == "c").unwrap();
    assert!(questions[resumed + 1..].iter().all(|question| !question.starts_with('m')), "{questions:?}");
}

#[test]
fn a_stop_that_is_answered_with_garbage_is_taken_back_in_the_end() {
    let (told, hears) = std::sync::mpsc::channel();
    let answer = move |question: &str, socket: &mut UnixStream| {
        let _ = told.send(question.to_owned());
        if matches!(question, "c" | "vCont;c") {
            // It is there when the wish to stop comes.
            socket.write_all(b"$0102#00").unwrap();
            return None;
        }
        Some(usual(question))
    };
    let gdb = Gdb::connect(&stub(answer), &impatient()).unwrap();
    gdb.resume().unwrap();
    let error = gdb.stop().unwrap_err().to_string();
    assert!(error.contains("checksums"), "{error}");
    drop(gdb);
    assert_eq!(hears.iter().last().as_deref(), Some("D"));
}

#[test]
fn stubs_of_virtual_addresses_or_without_a_layout_say_so() {
    let connect = |options: &ConnectOptions| {
        Gdb::connect(&stub(|question, _| Some(usual(question))), options).unwrap_err()
    };
    let bare = ConnectOptions { physical: false, ..impatient() };
    assert!(matches!(connect(&bare), ConnectError::VirtualOnly { .. }));
    let bare = ConnectOptions { regions: None, ..impatient() };
    assert!(matches!(connect(&bare), ConnectError::NoLayout { .. }));
    let other = |question: &str, _: &mut UnixStream| {
        let xml = question
            .starts_with("qXfer")
            .then(|| b"l<target><architecture>mips</architecture></target>".to_vec());
        Some(xml.unwrap_or_else(|| usual(question)))
    };
    assert!(fails(other).contains("mips"));
}

#[test]
fn where_nothing_listens_one_line_says_so() {
    let path = common::folder().join("none");
    let error = Gdb::connect(&path.display().to_string(), &impatient()).unwrap_err();
    assert!(matches!(error, ConnectError::Connect { .. }), "{error}");
    std::fs::remove_dir(path.parent().unwrap()).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = Gdb::connect(&format!("127.0.0.1:{port}"), &impatient()).unwrap_err();
    assert!(matches!(error, ConnectError::Connect { .. }), "{error}");
    let closed = LinkError::Closed { peer: "x".into() };
    assert_eq!(closed.to_string(), "the stub at x has closed the connection");
    for wrong in ["", "host", "host:", ":1234", "host:0", "host:65536", "::1:1234", "[::1]", "[::1:5", "[]:5"]
    {
        assert!(
            matches!(Gdb::connect(wrong, &impatient()), Err(ConnectError::Address { text }) if text == wrong),
            "{wrong}"
        );
    }
}

#[test]
fn a_second_client_is_turned_away_at_once() {
    let address = stub(|question, _| Some(usual(question)));
    let first = Gdb::connect(&address, &impatient()).unwrap();
    let start = Instant::now();
    let error = Gdb::connect(&address, &impatient()).unwrap_err();
    assert!(matches!(error, ConnectError::Busy { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(1));
    first.detach().unwrap();
}
