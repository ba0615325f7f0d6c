//! What else runs in the sample guest, against its own word.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use std::collections::BTreeMap;

use common::{image, number, truth};
use serde_json::Value;
use vmc_linux::Linux;

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
