//! What else is in the sample guest, in the forms that people read and in those that programs do.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use common::{sample, vmc};
use serde_json::Value;

fn json(words: &[&str]) -> Vec<Value> {
    let words = [words, &["--format", "json"]].concat();
    serde_json::from_str(&vmc(&words).succeeded().stdout).unwrap()
}

fn table(words: &[&str]) -> Vec<String> {
    let lines: Vec<String> = vmc(words).succeeded().stdout.lines().map(str::to_owned).collect();
    assert!(lines.iter().all(|line| !line.ends_with(' ')), "{lines:?}");
    lines
}

#[test]
fn open_files_read_like_lsof() {
    let rows = json(&["lsof", &sample()]);
    let lines = table(&["lsof", &sample()]);
    assert_eq!(lines.len(), rows.len() + 1);
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:?}");
    let pipe = rows.iter().find(|row| row["path"].as_str().unwrap().starts_with("pipe:[")).unwrap();
    assert_eq!((&pipe["flags"], &pipe["offset"]), (&"00".into(), &0.into()));
    let (pid, fd) = (pipe["pid"].to_string(), format!("{}r", pipe["fd"]));
    assert!(lines.iter().any(|line| line.split_whitespace().take(2).eq([pid.as_str(), &fd])), "{lines:?}");
    let one = json(&["lsof", &sample(), "--pid", &pid]);
    assert!(one.iter().all(|row| row["pid"] == pipe["pid"]) && one.len() > 3);
    assert_eq!(vmc(&["lsof", &sample(), "--pid", "99999"]).status, 1);
}

#[test]
fn mounts_are_the_lines_of_proc_mounts() {
    let lines = table(&["mounts", &sample()]);
    assert_eq!(lines[..2], ["rootfs / rootfs rw 0 0", "proc /proc proc rw,relatime 0 0"]);
    let rows = json(&["mounts", &sample(), "--pid", "1"]);
    assert_eq!(rows.len(), lines.len());
    assert_eq!((&rows[1]["target"], &rows[1]["options"]), (&"/proc".into(), &"rw,relatime".into()));
}

#[test]
fn the_log_reads_like_dmesg() {
    let lines: Vec<String> =
        vmc(&["dmesg", &sample()]).succeeded().stdout.lines().map(str::to_owned).collect();
    assert!(lines[0].starts_with("[    0.000000] Linux version "), "{}", lines[0]);
    let rows = json(&["dmesg", &sample()]);
    assert!(rows.len() > 100 && rows.len() <= lines.len());
    assert!(rows.iter().all(|row| row["time"].is_f64() && row["level"].as_u64().unwrap() < 8));
}

#[test]
fn sockets_read_like_ss() {
    let rows = json(&["sockets", &sample()]);
    let tcp = rows.iter().find(|row| row["protocol"] == "tcp").unwrap();
    assert_eq!((&tcp["local"], &tcp["remote"]), (&"127.0.0.1:7007".into(), &"0.0.0.0:0".into()));
    assert_eq!(tcp["state"], "LISTEN");
    let owner = tcp["pids"][0].to_string();
    assert_eq!(json(&["sockets", &sample(), "--pid", &owner]).len(), 1);
    assert_eq!(json(&["sockets", &sample(), "--pid", "1"]).len(), 0);
    let lines = table(&["sockets", &sample()]);
    assert_eq!(lines.len(), rows.len() + 1);
    assert!(lines[1].starts_with("tcp ") && lines[1].ends_with(&format!(" {owner}")), "{lines:?}");
}

#[test]
fn interfaces_and_environments_are_told() {
    let rows = json(&["interfaces", &sample()]);
    assert_eq!((&rows[0]["name"], &rows[0]["up"]), (&"lo".into(), &true.into()));
    assert_eq!(rows[0]["addresses"][0], "127.0.0.1/8");
    assert_eq!(table(&["env", &sample(), "--pid", "1"])[0], "HOME=/");
    let rows = json(&["env", &sample(), "--pid", "1"]);
    assert_eq!((&rows[0]["name"], &rows[0]["value"]), (&"HOME".into(), &"/".into()));
    // A kernel thread has none, and that is said.
    let answer = vmc(&["env", &sample(), "--pid", "2"]);
    assert_eq!((answer.status, answer.stderr.lines().count()), (1, 1), "{answer:?}");
}
