//! A stub that others wrote (the `gdbstub` crate) and that has no way to say whose addresses it reads, through the tool.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests may panic")]

mod common;
#[path = "../../backends/gdb/tests/common/sample.rs"]
mod sample;
#[path = "../../backends/gdb/tests/common/server.rs"]
mod server;

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use common::vmc;
use server::{Left, on_tcp, on_unix};
use vmc_dump::{Image, OpenOptions};

/// A folder for a socket, whose name has to be short.
fn folder() -> PathBuf {
    let path = std::env::temp_dir().join(format!("vmc-cli-stub-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// The one client of a socket in a folder of its own, which is then gone.
fn accept_one(listener: &UnixListener, path: &Path) -> UnixStream {
    let (socket, _) = listener.accept().unwrap();
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    socket
}

fn machine() -> server::Machine<Image> {
    let mut options = OpenOptions { cache_dir: Some(common::scratch()), ..OpenOptions::default() };
    sample::machine(Image::open_with(common::sample(), &mut options).unwrap(), false)
}

#[test]
fn a_stub_of_physical_addresses_is_taken_by_the_users_word() {
    for words in [&["registers", "TARGET"], &["ps", "TARGET"]] {
        let (address, left) = on_tcp(machine());
        let of = |target: &str, more: &[&str]| {
            let words = words.iter().map(|word| if *word == "TARGET" { target } else { word });
            vmc(&words.chain(more.iter().copied()).collect::<Vec<_>>()).succeeded()
        };
        let live = of(&format!("gdb:{address}"), &["--physical-stub"]);
        assert_eq!(live.stdout, of(&common::sample(), &[]).stdout, "{words:?}");
        assert!(live.stderr.contains("it is let go in the end"), "{live:?}");
        // It was let run before the answer was printed, and hears no more than that we are gone.
        assert!(matches!(left.recv().unwrap(), Left::Otherwise(why) if why.contains("end of file")));
    }
}

#[test]
fn without_that_word_one_line_says_what_to_do() {
    let (address, _left) = on_unix(machine());
    let answer = vmc(&["ps", &format!("gdb:{address}")]);
    assert_eq!((answer.status, answer.stdout.as_str()), (1, ""), "{answer:?}");
    assert_eq!(answer.stderr.lines().count(), 1, "{answer:?}");
    assert!(answer.stderr.contains("--physical-stub"), "{answer:?}");
}
