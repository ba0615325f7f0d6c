//! Credentials and usage of the sample guest's processes, against its own word.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use common::{image, number, truth};
use vmc_linux::Linux;

#[test]
fn credentials_are_those_of_proc_status() {
    let (image, truth) = (image(), truth());
    let linux = Linux::open(&image, &image).unwrap();
    let mut compared = 0;
    for process in truth["processes"].as_array().unwrap() {
        let row = linux.process(number(&process["pid"]) as u32).unwrap().process_details();
        assert!(row.errors.is_empty(), "{:?}", row.errors);
        let own = row.credentials.unwrap();
        let ids = |name: &str| -> Vec<u64> {
            process[name].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
        };
        let mine = |ids: [u32; 4]| ids.map(u64::from).to_vec();
        assert_eq!(mine([own.uid, own.euid, own.suid, own.fsuid]), ids("uid"));
        assert_eq!(mine([own.gid, own.egid, own.sgid, own.fsgid]), ids("gid"));
        assert_eq!(format!("{:016x}", own.effective), process["cap_eff"]);
        assert_eq!(row.seccomp.unwrap().to_string(), process["seccomp"]);
        let groups: Vec<String> = own.groups.iter().map(u32::to_string).collect();
        assert_eq!(groups.join(" "), process["groups"].as_str().unwrap().trim());
        compared += 1;
    }
    assert!(compared > 50);
}

#[test]
fn usage_is_that_of_proc_stat() {
    let (image, truth) = (image(), truth());
    let linux = Linux::open(&image, &image).unwrap();
    for process in truth["processes"].as_array().unwrap() {
        let task = linux.process(number(&process["pid"]) as u32).unwrap();
        let row = task.process_details();
        let numbers: Vec<u64> = row.numbers.iter().map(|number| u64::from(*number)).collect();
        assert_eq!(serde_json::json!(numbers), process["nspid"]);
        assert_eq!(u64::from(row.group.unwrap()), process["pgrp"]);
        assert_eq!(u64::from(row.session.unwrap()), process["session"]);
        assert_eq!(row.oom_score_adj.unwrap().to_string(), process["oom_score_adj"]);
        let leader = &process["threads"][0];
        assert_eq!(i64::from(row.nice.unwrap()), leader["nice"].as_i64().unwrap());
        assert_eq!(i64::from(row.priority.unwrap()), leader["prio"].as_i64().unwrap());
        if process["comm"] == "collect" || process["kernel_thread"] == true {
            continue;
        }
        assert_eq!(row.mapped_bytes.unwrap(), process["vsize"].as_u64().unwrap(), "{}", process["comm"]);
        assert_eq!(row.swapped_bytes, Some(0));
        // The leader's part is at most the whole; ticks are hundredths of a second.
        let mine = (row.user_time.unwrap() + row.system_time.unwrap()) / 10_000_000 + 1;
        let told = leader["utime"].as_u64().unwrap() + leader["stime"].as_u64().unwrap();
        assert!(mine >= told, "{}: {mine} of {told}", process["comm"]);
    }
}

#[test]
fn the_sample_has_no_containers() {
    let (image, truth) = (image(), truth());
    let own = &truth["processes"][0]["ns"]["pid"];
    assert!(truth["processes"].as_array().unwrap().iter().all(|process| &process["ns"]["pid"] == own));
    let linux = Linux::open(&image, &image).unwrap();
    let (rows, errors) = linux.containers().unwrap();
    assert!(rows.is_empty() && errors.is_empty());
    assert_eq!(linux.tainted().unwrap(), (0, String::new()));
}
