//! `cat`, `ls`, `containers` and the details of `ps` on the sample guest, as a user sees them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use std::process::Command;

use common::{sample, scratch, vmc};
use serde_json::Value;

fn json(words: &[&str]) -> Vec<Value> {
    let words = [words, &["--format", "json"]].concat();
    serde_json::from_str(&vmc(&words).succeeded().stdout).unwrap()
}

/// The bytes that a command writes.
fn bytes(words: &[&str]) -> (i32, Vec<u8>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmc"));
    let output = command.args(words).arg("--cache-dir").arg(scratch()).output().unwrap();
    (output.status.code().unwrap(), output.stdout, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_file_comes_out_whole_and_raw() {
    let (status, file, stderr) = bytes(&["cat", &sample(), "/bin/deep"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let row = &json(&["ls", &sample(), "/bin/deep"])[0];
    assert_eq!(file.len() as u64, row["size"].as_u64().unwrap());
    assert_eq!(file[..4], *b"\x7fELF");
    // The format of rows does not matter to bytes.
    assert_eq!(bytes(&["cat", &sample(), "bin/deep", "--pid", "1", "--format", "json"]).1, file);
}

#[test]
fn what_has_no_contents_gets_one_line() {
    for (path, word) in [
        ("/nosuch", "no such file"),
        ("/bin", "is a directory"),
        ("/dev/null", "device"),
        ("/proc/nosuch", "makes up"),
    ] {
        let (status, stdout, stderr) = bytes(&["cat", &sample(), path]);
        assert_eq!((status, stdout.len(), stderr.lines().count()), (1, 0, 1), "{path}: {stderr}");
        assert!(stderr.contains(word), "{path}: {stderr}");
    }
    assert_eq!(bytes(&["cat", &sample(), "--pid", "1", "--fd", "77"]).0, 1);
    // No file, two files, a descriptor of nobody.
    for words in [&["cat"][..], &["cat", "/x", "--pid", "1", "--fd", "1"], &["cat", "--fd", "1"]] {
        let sample = sample();
        let words = [&words[..1], &[sample.as_str()], &words[1..]].concat();
        assert_eq!(bytes(&words).0, 2, "{words:?}");
    }
}

#[test]
fn directories_read_like_ls() {
    let answer = vmc(&["ls", &sample(), "/bin"]).succeeded();
    assert_eq!(answer.stderr, "");
    let lines: Vec<&str> = answer.stdout.lines().collect();
    assert!(lines[0].starts_with("MODE") && lines[1].starts_with("-rwxr-xr-x   0   0 "), "{lines:?}");
    let rows = json(&["ls", &sample(), "/bin"]);
    assert_eq!(lines.len(), rows.len() + 1);
    assert!(rows.iter().all(|row| row["mode"] == "0755" && row["type"] == "-" && row["uid"] == 0));
    assert!(rows.iter().all(|row| row["mtime"] == "2023-11-14T22:13:20.000000000Z"), "{:?}", rows[0]);
    // What may be incomplete is said to be.
    let answer = vmc(&["ls", &sample(), "-R", "/"]).succeeded();
    assert!(answer.stderr.lines().count() == 1 && answer.stderr.contains("there may be more"), "{answer:?}");
    assert!(answer.stdout.lines().any(|line| line.ends_with(" bin/deep")));
}

#[test]
fn one_process_is_told_in_full() {
    let all = json(&["ps", &sample()]);
    let init = &all[0];
    assert_eq!((&init["euid"], &init["seccomp"], &init["nice"]), (&0.into(), &0.into(), &0.into()));
    assert_eq!(init["cap_effective"], "000001ffffffffff");
    assert!(init["capabilities"].as_array().unwrap().contains(&"sys_admin".into()));
    assert_eq!(json(&["ps", &sample(), "--pid", "1"]), std::slice::from_ref(init));
    let lines = vmc(&["ps", &sample(), "--pid", "1"]).succeeded().stdout;
    assert!(lines.starts_with("pid:") && lines.contains("\ncap_bounding:    000001ffffffffff\n"), "{lines}");
    let long = vmc(&["ps", &sample(), "--long"]).succeeded().stdout;
    assert!(long.lines().count() == all.len() + 1 && long.contains("VSIZE"), "{long}");
    let csv = vmc(&["ps", &sample(), "--format", "csv"]).succeeded().stdout;
    assert!(csv.starts_with("pid,ppid,name,") && csv.lines().next().unwrap().ends_with(",errors"));
    assert_eq!(json(&["containers", &sample()]).len(), 0);
}
