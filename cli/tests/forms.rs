//! Every command in every form: JSON and JSON lines say the same, CSV is flat, and the common options do what they say.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use common::{sample, vmc};
use serde_json::Value;

/// A question to each command, with its words behind the target.
const QUESTIONS: &[(&str, &[&str])] = &[
    ("info", &[]),
    ("ps", &[]),
    ("ps", &["--tree"]),
    ("ps", &["--long"]),
    ("threads", &[]),
    ("maps", &["--pid", "1"]),
    ("modules", &[]),
    ("modules", &["--pid", "1"]),
    ("bt", &["--tid", "1"]),
    ("containers", &[]),
    ("ls", &["/"]),
    ("lsof", &["--pid", "1"]),
    ("sockets", &[]),
    ("interfaces", &[]),
    ("env", &["--pid", "1"]),
    ("mounts", &[]),
    ("dmesg", &[]),
    ("symbols", &["init_task"]),
    ("types", &["list_head"]),
    ("search", &["GNU C Library"]),
];

fn asked(command: &str, words: &[&str], more: &[&str]) -> String {
    let sample = sample();
    vmc(&[&[command, sample.as_str()], words, more].concat()).succeeded().stdout
}

#[test]
fn every_command_answers_in_every_form() {
    let banner = vmc(&["symbols", &sample(), "linux_banner", "--format", "json"]).succeeded().stdout;
    let banner: Value = serde_json::from_str(&banner).unwrap();
    let at = banner[0]["address"].as_str().unwrap();
    let placed: [(&str, &[&str]); 2] = [("translate", &[at]), ("read", &[at, "16"])];
    for (command, words) in QUESTIONS.iter().copied().chain(placed) {
        let what = format!("{command} {words:?}");
        let json: Value = serde_json::from_str(&asked(command, words, &["--format", "json"])).unwrap();
        let rows = json.as_array().cloned().unwrap_or_else(|| vec![json.clone()]);
        let lines = asked(command, words, &["--format", "jsonl"]);
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, rows, "{what}");
        let csv = asked(command, words, &["--format", "csv"]);
        let mut csv = csv::Reader::from_reader(csv.as_bytes());
        let header = csv.headers().unwrap().clone();
        // A record of another length than the header's is an error of the reader's.
        let records: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
        let is_json = |cell: &str| {
            serde_json::from_str::<Value>(cell).is_ok_and(|value| value.is_object() || value.is_array())
        };
        assert!(!records.iter().flatten().any(is_json), "{what}: {records:?}");
        for row in &rows {
            for (name, value) in row.as_object().unwrap() {
                let nested = value.as_array().is_some_and(|parts| parts.iter().any(Value::is_object));
                let of_bt = command == "bt" && !["pid", "tid", "name"].contains(&name.as_str());
                assert!(nested || of_bt || header.iter().any(|title| title == name), "{what}: no {name}");
            }
        }
        let parts = |row: &Value| {
            let lists = row.as_object().unwrap().values().filter_map(Value::as_array);
            lists.filter(|parts| parts.iter().any(Value::is_object)).map(Vec::len).next().unwrap_or(1)
        };
        assert_eq!(records.len(), rows.iter().map(parts).sum::<usize>(), "{what}");
        let table = asked(command, words, &[]);
        assert!(!table.contains('\u{1b}') && (rows.is_empty() || table.lines().count() > 0), "{what}");
    }
}

#[test]
fn common_options_do_what_they_say() {
    let bold = asked("ps", &[], &["--color", "always"]);
    assert!(
        bold.starts_with("\u{1b}[1m")
            && bold.replace("\u{1b}[1m", "").replace("\u{1b}[0m", "") == asked("ps", &[], &[])
    );
    assert_eq!(asked("ps", &[], &["--os", "linux", "--color", "never"]), asked("ps", &[], &[]));
    let answer = vmc(&["ps", &sample(), "--os", "windows"]);
    assert_eq!((answer.status, answer.stderr.lines().count()), (1, 1), "{answer:?}");
    // A warning is not heard with -q; a failure is.
    let many = ["search", &sample(), "ELF", "--max", "1"];
    assert_eq!(vmc(&many).succeeded().stderr.lines().count(), 1);
    assert_eq!(vmc(&[&many[..], &["-q"]].concat()).succeeded().stderr, "");
    assert_eq!(vmc(&["maps", &sample(), "--pid", "99999", "-q"]).stderr.lines().count(), 1);
    assert_eq!(vmc(&["ps", &sample(), "-q", "-v"]).status, 2);
}
