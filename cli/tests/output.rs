//! The forms of output: the same facts in each, and the sample guest's own word on them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use common::{sample, top, vmc};
use serde_json::Value;

fn truth() -> Value {
    serde_json::from_slice(&std::fs::read(top().join("guests/sample/truth.json")).unwrap()).unwrap()
}

fn json(words: &[&str]) -> Value {
    let words = [words, &["--format", "json"]].concat();
    serde_json::from_str(&vmc(&words).succeeded().stdout).unwrap()
}

/// The process of this name, by the guest's word.
fn pid(truth: &Value, name: &str) -> String {
    let found = truth["processes"].as_array().unwrap().iter().find(|process| process["comm"] == name);
    found.unwrap()["pid"].to_string()
}

#[test]
fn each_form_has_the_same_processes() {
    let rows = json(&["ps", &sample()]);
    let rows = rows.as_array().unwrap();
    let lines = vmc(&["ps", &sample(), "--format", "jsonl"]).succeeded().stdout;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows, &lines);
    let table = vmc(&["ps", &sample()]).succeeded().stdout;
    assert_eq!(table.lines().count(), rows.len() + 1);
    let csv = vmc(&["ps", &sample(), "--format", "csv"]).succeeded().stdout;
    let mut csv = csv::Reader::from_reader(csv.as_bytes());
    let pid_at = csv.headers().unwrap().iter().position(|name| name == "pid").unwrap();
    let pids: Vec<String> = csv.records().map(|record| record.unwrap()[pid_at].to_owned()).collect();
    let expected: Vec<String> = rows.iter().map(|row| row["pid"].to_string()).collect();
    assert_eq!(pids, expected);
    let tree = vmc(&["ps", &sample(), "--tree"]).succeeded().stdout;
    assert_eq!(tree.lines().count(), rows.len());
}

#[test]
fn info_is_one_object() {
    let (info, truth) = (json(&["info", &sample()]), truth());
    assert_eq!(info["schema"], 1);
    assert_eq!(info["release"], truth["uname"]["release"]);
    assert_eq!(info["hostname"], truth["uname"]["hostname"]);
    assert_eq!(info["registers"], true);
    let table = vmc(&["info", &sample()]).succeeded().stdout;
    assert_eq!(table.lines().count(), info.as_object().unwrap().len());
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
}

#[test]
fn maps_are_the_lines_of_proc_maps() {
    let truth = truth();
    let pid = pid(&truth, "deep");
    let table = vmc(&["maps", &sample(), "--pid", &pid]).succeeded().stdout;
    let maps = truth["processes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|process| process["pid"] == pid.parse::<u64>().unwrap())
        .unwrap();
    let maps = maps["maps"].as_array().unwrap();
    assert_eq!(table.lines().count(), maps.len());
    for (line, map) in table.lines().zip(maps) {
        let start = map["start"].as_str().unwrap().trim_start_matches("0x");
        assert!(
            line.starts_with(start) && line.ends_with(map["path"].as_str().unwrap_or(" ")),
            "{line}: {map}"
        );
    }
}

#[test]
fn a_stack_reads_like_one_of_gdb() {
    let pid = pid(&truth(), "deep");
    let table = vmc(&["bt", &sample(), "--pid", &pid, "--user"]).succeeded().stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with(&format!("PID {pid} TID {pid} deep (S)")), "{table}");
    assert!(lines[1].starts_with("#0   0x00007"), "{table}");
    assert!(lines.iter().any(|line| line.contains(" f40+0x") && line.ends_with("(deep)")), "{table}");
    assert!(lines.iter().any(|line| line.contains(" main+0x")), "{table}");
    let rows = json(&["bt", &sample(), "--pid", &pid, "--user"]);
    let frames = rows[0]["frames"].as_array().unwrap();
    assert_eq!(frames.len(), lines.iter().filter(|line| line.starts_with('#')).count());
    assert_eq!(
        (&rows[0]["stop"], &frames[0]["found_by"], &frames[1]["found_by"]),
        (&"end".into(), &"registers".into(), &"cfi".into())
    );
    assert_eq!(frames[1]["signal"], false);
}

#[test]
fn addresses_translate_and_read_alike() {
    let truth = truth();
    let banner = truth["symbols"]["linux_banner"].as_str().unwrap();
    let text = truth["linux_banner"].as_str().unwrap();
    let raw = vmc(&["read", &sample(), banner, &text.len().to_string(), "--raw"]).succeeded().stdout;
    assert_eq!(raw, text);
    let row = json(&["read", &sample(), banner, "5"]);
    assert_eq!((&row["address"], &row["bytes"]), (&truth_address(banner), &"4c696e7578".into()));
    let row = json(&["translate", &sample(), banner]);
    assert_eq!(
        row["entries"].as_array().unwrap()[0]["level"],
        json(&["info", &sample()])["page_table_levels"]
    );
    assert!(row["physical"].as_str().unwrap().starts_with("0x"));
    let symbol = json(&["symbols", &sample(), "linux_banner"]);
    assert_eq!(symbol[0]["address"], truth_address(banner));
    assert_eq!(json(&["symbols", &sample(), banner])[0]["name"], "linux_banner");
}

/// The address as the command line writes it: no padding.
fn truth_address(text: &str) -> Value {
    format!("0x{}", text.trim_start_matches("0x").trim_start_matches('0')).into()
}

#[test]
fn types_look_like_pahole() {
    let layout = json(&["types", &sample(), "list_head"]);
    assert_eq!(layout["size"], 16);
    assert_eq!(layout["members"][1]["name"], "prev");
    assert_eq!(
        (&layout["members"][1]["offset"], &layout["members"][1]["type"]),
        (&8.into(), &"struct list_head *".into())
    );
    assert!(vmc(&["types", &sample(), "list_head"]).succeeded().stdout.contains("struct list_head * next"));
}
