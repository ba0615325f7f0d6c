//! The Windows images of the shared data, and a symbol server on this machine.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper of tests may panic, and not every test uses every helper"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::common::{Answer, skip, top, vmc};

/// The shared data about Windows; nothing, and why is said, where it is not there.
pub(crate) fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("VMC_SHARED").map_or_else(|| top().join("../shared"), PathBuf::from);
    let folder = folder.join("windows");
    if folder.join("images").is_dir() {
        return Some(folder);
    }
    skip("the shared data's windows/images is not there");
    None
}

/// An image with what was planted in it.
pub(crate) struct Planted {
    pub(crate) path: String,
    pub(crate) truth: Value,
    pub(crate) symbols: String,
}

pub(crate) fn planted(name: &str) -> Option<Planted> {
    let shared = shared()?;
    let folder = shared.join("images").join(name);
    let truth = std::fs::read_to_string(folder.join("truth.json")).unwrap();
    Some(Planted {
        path: text(&folder.join("mem.raw.xz")),
        truth: serde_json::from_str(&truth).unwrap(),
        symbols: text(&shared.join("symbols")),
    })
}

/// Asks about it, with its symbols: the command, and what stands behind the target.
pub(crate) fn ask(guest: &Planted, words: &[&str]) -> Answer {
    let (command, more) = words.split_first().unwrap();
    vmc(&[&[*command, &guest.path], more, &["--symbols", &guest.symbols]].concat())
}

/// Exit status 1, nothing on stdout, one line on stderr that has all of `words`.
pub(crate) fn refused(answer: &Answer, words: &[&str]) {
    assert_eq!((answer.status, answer.stdout.as_str()), (1, ""), "{answer:?}");
    assert_eq!(answer.stderr.lines().count(), 1, "{answer:?}");
    for word in words {
        assert!(answer.stderr.contains(word), "{word:?} is not in {answer:?}");
    }
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// The numbers of the ledger are texts.
pub(crate) fn number(value: &Value) -> u64 {
    match value {
        Value::String(text) => u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap(),
        other => other.as_u64().unwrap(),
    }
}

/// Serves the files below a folder by their names, each folder of a store leading to the same; ends with the process. Its address,
/// and what it was asked for.
pub(crate) fn symbol_server(folder: PathBuf) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/symbols", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let Some(Ok(first)) = lines.next() else { continue };
            lines.map_while(Result::ok).find(String::is_empty);
            let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
            let name = path.rsplit('/').next().unwrap_or_default().to_owned();
            seen.lock().unwrap().push(path);
            let answer = match std::fs::read(folder.join(name)) {
                Ok(bytes) => [b"HTTP/1.0 200 OK\r\n\r\n".as_slice(), &bytes].concat(),
                Err(_) => b"HTTP/1.0 404 Not Found\r\n\r\n".to_vec(),
            };
            let _ = stream.write_all(&answer);
        }
    });
    (url, asked)
}
