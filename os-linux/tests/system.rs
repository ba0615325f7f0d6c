//! What else runs in the sample guest, against its own word.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use std::collections::BTreeMap;

use common::{image, number, truth};
use serde_json::Value;
use vmc_linux::{Linux, LinuxError};

/// The guest's word on its processes, without the collector: that one ran on while it told.
fn told(truth: &Value) -> Vec<&Value> {
    let all = truth["processes"].as_array().unwrap().iter();
    all.filter(|process| process["comm"] != "collect").collect()
}

#[test]
fn open_files_are_those_of_proc_fd() {
    let (image, truth) = (image(), truth());
    let linux = Linux::open(&image, &image).unwrap();
    let mut compared = 0;
    for process in told(&truth) {
        let task = linux.process(number(&process["pid"]) as u32).unwrap();
        let (rows, ended) = task.open_files().unwrap();
        assert_eq!(ended, None);
        let rows: BTreeMap<String, _> = rows.map(|row| (row.fd.to_string(), row)).collect();
        let files = process["fds"].as_object().unwrap();
        assert_eq!(rows.keys().collect::<Vec<_>>(), files.keys().collect::<Vec<_>>(), "{}", process["comm"]);
        for (fd, file) in files {
            let row = &rows[fd];
            assert!(row.errors.is_empty(), "{row:?}");
            assert_eq!(row.path.as_deref(), file["path"].as_str(), "{row:?}");
            assert_eq!(row.offset.unwrap(), file["pos"].as_i64().unwrap(), "{row:?}");
            assert_eq!(format!("0{:o}", row.flags.unwrap()), file["flags"], "{row:?}");
            compared += 1;
        }
    }
    assert!(compared > 20, "only {compared} files");
}

#[test]
fn mounts_are_those_of_proc_mounts() {
    let (image, truth) = (image(), truth());
    let linux = Linux::open(&image, &image).unwrap();
    let (rows, ended) = linux.process(1).unwrap().mounts().unwrap();
    assert_eq!(ended, None);
    let rows: Vec<_> = rows.collect();
    let told = truth["mounts"].as_array().unwrap();
    assert_eq!(rows.len(), told.len());
    for (row, mount) in rows.iter().zip(told) {
        let words: Vec<&str> = mount.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        assert!(row.errors.is_empty(), "{row:?}");
        let facts = [&row.source, &row.target, &row.fstype].map(|fact| fact.as_deref().unwrap());
        assert_eq!(facts, words[..3]);
        // What only the file system knows follows.
        let options = row.options.as_deref().unwrap();
        assert!(words[3] == options || words[3].starts_with(&format!("{options},")), "{options}: {words:?}");
    }
}

#[test]
fn a_kernel_thread_has_mounts_and_a_zombie_has_none() {
    let (image, truth) = (image(), truth());
    let linux = Linux::open(&image, &image).unwrap();
    let (rows, _) = linux.process(2).unwrap().mounts().unwrap();
    assert_eq!(rows.count(), truth["mounts"].as_array().unwrap().len());
    for process in told(&truth).into_iter().filter(|process| process["state"] == "Z") {
        let task = linux.process(number(&process["pid"]) as u32).unwrap();
        assert!(matches!(task.mounts().map(|_| ()), Err(LinuxError::Gone { what: "mounts", .. })));
    }
}

#[test]
fn the_log_is_that_of_dmesg() {
    let (image, truth) = (image(), truth());
    let linux = Linux::open(&image, &image).unwrap();
    let records: Vec<_> = linux.log().unwrap().collect();
    assert!(records.iter().all(|record| record.errors.is_empty()));
    // The clock that stamps them is changed early in the boot: times need not ascend.
    assert!(records.is_sorted_by_key(|record| record.sequence));
    assert!(records[0].message.as_deref().unwrap().starts_with("Linux version "));
    let lines: Vec<String> = records
        .iter()
        .map(|record| {
            let (seconds, micros) = (record.time / 1_000_000_000, record.time / 1000 % 1_000_000);
            let message = record.message.as_deref().unwrap();
            format!("<{}>[{seconds:5}.{micros:06}] {message}", record.level)
        })
        .collect();
    let told = truth["dmesg_tail"].as_array().unwrap();
    for line in told.iter().map(|line| line.as_str().unwrap()).filter(|line| !line.is_empty()) {
        assert!(lines.iter().any(|mine| mine == line), "{line}");
    }
}

#[test]
fn sockets_are_those_of_proc_net() {
    let (image, truth) = (image(), truth());
    let linux = Linux::open(&image, &image).unwrap();
    let (rows, errors) = linux.sockets().unwrap();
    assert!(errors.is_empty(), "{errors:?}");
    let told = truth["net"]["tcp"].as_array().unwrap();
    assert_eq!(rows.iter().filter(|row| row.protocol == "tcp").count(), told.len());
    let namespace = |process: &Value| process["ns"]["net"].as_str().unwrap().to_owned();
    for socket in told {
        let inode = number(&socket["inode"]);
        let row = rows.iter().find(|row| row.inode == Some(inode)).unwrap();
        assert!(row.errors.is_empty(), "{row:?}");
        assert_eq!(
            (row.local.as_deref(), row.remote.as_deref()),
            (socket["local"].as_str(), socket["remote"].as_str())
        );
        assert_eq!((row.state, number(&socket["state"])), (Some("LISTEN"), 10));
        // Its owners are those who have its file open.
        let file = format!("socket:[{inode}]");
        let owners = truth["processes"].as_array().unwrap().iter().filter(|process| {
            process["fds"].as_object().is_some_and(|files| files.values().any(|open| open["path"] == *file))
        });
        let owners: Vec<&Value> = owners.collect();
        assert_eq!(row.pids, owners.iter().map(|process| number(&process["pid"]) as u32).collect::<Vec<_>>());
        assert_eq!(format!("net:[{}]", row.netns.unwrap()), namespace(owners[0]));
    }
}

#[test]
fn environments_are_those_of_proc_environ() {
    let (image, truth) = (image(), truth());
    let linux = Linux::open(&image, &image).unwrap();
    let mut compared = 0;
    for process in told(&truth).into_iter().filter(|process| process["environ"].is_array()) {
        let Ok(memory) = linux.process(number(&process["pid"]) as u32).unwrap().memory() else { continue };
        let words: Vec<String> = memory
            .environment()
            .unwrap()
            .into_iter()
            .map(|(name, value)| value.map_or(name.clone(), |value| format!("{name}={value}")))
            .collect();
        let told: Vec<&str> =
            process["environ"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        assert_eq!(words, told, "{}", process["comm"]);
        compared += words.len();
    }
    assert!(compared > 10, "only {compared} variables");
}

#[test]
fn interfaces_are_those_of_proc_net_dev() {
    let (image, truth) = (image(), truth());
    let linux = Linux::open(&image, &image).unwrap();
    let (rows, errors) = linux.interfaces().unwrap();
    assert!(errors.is_empty(), "{errors:?}");
    let first = rows[0].netns;
    let lines = truth["netdev"].as_str().unwrap().lines().filter_map(|line| line.split_once(':'));
    let told: Vec<&str> = lines.map(|(name, _)| name.trim()).collect();
    let mine: Vec<&str> = rows.iter().filter(|row| row.netns == first).map(|row| row.name.as_str()).collect();
    assert_eq!(mine, told);
    assert_eq!(rows[0].addresses[0], "127.0.0.1/8");
}
