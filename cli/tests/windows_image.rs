//! A complete real Windows image, which the project does not have: processes against what volatility3 says of the same image.
//!
//! `WINDOWS_IMAGE` is the image, `WINDOWS_PSLIST` what `vol -r json -f IMAGE windows.pslist` printed, `WINDOWS_SYMBOLS` a directory for
//! `--symbols` (without it, only the tests' own cache is looked into). An image that was taken while the guest ran may be torn: the two
//! may then differ without either being wrong.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests may panic"
)]

mod common;

use std::collections::BTreeSet;
use std::env::var;

use common::{skip_for_good, vmc};
use serde_json::Value;

/// Process id, parent's id, name.
type Process = (u64, Option<u64>, String);

/// As much of `ImageFileName` as every Windows keeps, without what the two show in different ways.
fn short(name: &str) -> String {
    name.chars().filter(char::is_ascii_graphic).take(14).collect()
}

fn processes(rows: &Value, [pid, ppid, name]: [&str; 3]) -> BTreeSet<Process> {
    let rows = rows.as_array().unwrap_or_else(|| panic!("no list of processes: {rows}")).iter();
    let rows =
        rows.map(|row| (row[pid].as_u64().unwrap(), row[ppid].as_u64(), short(row[name].as_str().unwrap())));
    // The idle process is on no list.
    rows.filter(|(pid, ..)| *pid != 0).collect()
}

#[test]
#[ignore = "needs a real image: WINDOWS_IMAGE, WINDOWS_PSLIST, perhaps WINDOWS_SYMBOLS"]
fn processes_of_a_real_image_are_those_of_volatility3() {
    let (Ok(image), Ok(pslist)) = (var("WINDOWS_IMAGE"), var("WINDOWS_PSLIST")) else {
        return skip_for_good("WINDOWS_IMAGE and WINDOWS_PSLIST name no image with its list of processes");
    };
    let symbols = var("WINDOWS_SYMBOLS");
    let mut words = vec!["ps", &image, "--format", "json", "--os", "windows"];
    if let Ok(symbols) = &symbols {
        words.extend(["--symbols", symbols]);
    }
    let mut ours: Value = serde_json::from_str(&vmc(&words).succeeded().stdout).unwrap();
    // pslist goes by the list alone.
    ours.as_array_mut().unwrap().retain(|row| row["on_list"] == true);
    let theirs: Value = serde_json::from_str(&std::fs::read_to_string(&pslist).unwrap()).unwrap();
    let ours = processes(&ours, ["pid", "ppid", "name"]);
    let theirs = processes(&theirs, ["PID", "PPID", "ImageFileName"]);
    assert!(!theirs.is_empty(), "{pslist} has no process");
    let only_ours: Vec<&Process> = ours.difference(&theirs).collect();
    let only_theirs: Vec<&Process> = theirs.difference(&ours).collect();
    assert!(
        only_ours.is_empty() && only_theirs.is_empty(),
        "only here: {only_ours:?}; only there: {only_theirs:?}"
    );
}
