//! The process that speaks for a dead one, on sockets whose other end is read here.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use super::*;

/// Where a test's helper connects to.
const HELPER: &str = "VMC_TEST_ORPHAN_SOCKET";

/// Our end and the process' end.
fn pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (ours, theirs)
}

/// The processes that are ours, by what the kernel says of this thread's process.
fn children() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of =
        |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
    tasks.map(|task| of(task.unwrap()).split_whitespace().count()).sum()
}

#[test]
fn an_armed_one_speaks_and_a_disarmed_one_does_not() {
    let (mut ours, theirs) = pair();
    let orphan = Orphan::spawn(theirs.as_fd()).unwrap();
    orphan.arm(b"wrong\n", b"").unwrap();
    orphan.disarm().unwrap();
    drop(orphan);
    let orphan = Orphan::spawn(theirs.as_fd()).unwrap();
    orphan.arm(b"first\n", b"").unwrap();
    orphan.arm(b"run\n", b"done").unwrap();
    drop((orphan, theirs));
    let mut word = [0; 4];
    ours.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"run\n");
    // It stays until the answer has come, also when it comes in pieces, and then its end of the socket is closed.
    let long = [b'x'; 5000];
    for part in [&long[..], b"d", b"on", b"e"] {
        ours.write_all(part).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(ours.read(&mut word).unwrap(), 0);
}

#[test]
fn one_that_asks_first_keeps_to_the_answer() {
    let question = Question { bytes: b"how?\n", mark: b"mine", needs: b"paused" };
    let long = [b'x'; 5000].map(char::from).iter().collect::<String>();
    for (answer, said) in [
        ("other paused\nmine paused\n".to_owned(), "run\n"),
        (format!("{long}\npaused, mine\n"), "run\n"),
        ("paused\nmine moved\nmine paused\n".to_owned(), ""),
        (format!("paused{long}mine\n"), ""),
    ] {
        let (mut ours, theirs) = pair();
        let orphan = Orphan::spawn(theirs.as_fd()).unwrap();
        orphan.arm_asking(question, b"run\n", b"").unwrap();
        drop((orphan, theirs));
        let mut word = [0; 5];
        ours.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"how?\n");
        ours.write_all(answer.as_bytes()).unwrap();
        let mut rest = String::new();
        // A process that ends with something unread resets the connection.
        let _ = ours.read_to_string(&mut rest);
        assert_eq!(rest, said, "{}", answer.len());
    }
}

#[test]
fn nothing_is_left_of_those_that_were_not_needed() {
    let (mut ours, theirs) = pair();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    // Other tests of this process have theirs; a leak would be a hundred.
    let (children_before, descriptors_before) = (children(), descriptors());
    for _ in 0..100 {
        let orphan = Orphan::spawn(theirs.as_fd()).unwrap();
        orphan.arm(b"run\n", b"").unwrap();
        orphan.disarm().unwrap();
    }
    assert!(children() < children_before + 50 && descriptors() < descriptors_before + 50);
    drop(theirs);
    assert_eq!(ours.read(&mut [0; 4]).unwrap(), 0, "somebody spoke, or holds the socket");
}

#[test]
fn orders_have_a_bound() {
    let (_ours, theirs) = pair();
    let orphan = Orphan::spawn(theirs.as_fd()).unwrap();
    assert!(orphan.arm(&[b'x'; MAX_ORDER], b"").is_err());
    assert!(orphan.arm(b"x", &[b'x'; 256]).is_err());
    orphan.arm(&[b'x'; MAX_ORDER - 4], b"").unwrap();
    orphan.disarm().unwrap();
}

/// Not a test of its own: what the next one starts, to be killed.
#[test]
fn helper() {
    let Some(path) = std::env::var_os(HELPER) else { return };
    let mut socket = UnixStream::connect(path).unwrap();
    let orphan = Orphan::spawn(socket.as_fd()).unwrap();
    orphan.arm(b" resumed", b"").unwrap();
    socket.write_all(b"stopped").unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_process_is_spoken_for() {
    let path = std::env::temp_dir().join(format!("vmc-orphan-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let mut helper = Command::new(std::env::current_exe().unwrap());
    helper.args(["--exact", "orphan::tests::helper"]).env(HELPER, &path);
    let mut helper = helper.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    std::fs::remove_file(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut word = [0; 7];
    socket.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"stopped");
    helper.kill().unwrap();
    helper.wait().unwrap();
    let mut rest = String::new();
    socket.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, " resumed");
}
