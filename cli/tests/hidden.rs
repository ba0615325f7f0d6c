//! `ps --all-ways` and `modules --all-ways` on guests as they were, and on copies in which `guests/edit-image` hid a process and
//! a module.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{sample, scratch, skip, top, vmc};
use serde_json::Value;

fn rows(command: &[&str], image: &str) -> Vec<Value> {
    let words = [command, &[image, "--format", "json"]].concat();
    let answer = vmc(&words).succeeded();
    // A way that could not be walked would be told there.
    assert_eq!(answer.stderr, "", "{words:?}");
    serde_json::from_str(&answer.stdout).unwrap()
}

/// The names of what is marked, with the ways that it is hidden from.
fn marked(rows: &[Value]) -> Vec<(&str, Vec<&str>)> {
    let hidden = rows.iter().filter(|row| row["hidden_from"] != Value::Array(Vec::new()));
    let ways = |row: &Value| -> Vec<String> {
        row["hidden_from"].as_array().unwrap().iter().map(|way| way.as_str().unwrap().to_owned()).collect()
    };
    let found = hidden.map(|row| {
        let missing = ways(row);
        let each = row["ways"].as_object().unwrap();
        assert!(missing.iter().all(|way| each[way] == false), "{row}");
        let names = each.keys().map(String::as_str).filter(|way| missing.iter().any(|m| m == way)).collect();
        (row["name"].as_str().unwrap(), names)
    });
    found.collect()
}

/// The guest of this name in `shared/`, unpacked for one test.
fn unpacked(name: &str, test: &str) -> Option<PathBuf> {
    let shared =
        std::env::var_os("VMC_SHARED").map_or_else(|| top().parent().unwrap().join("shared"), PathBuf::from);
    let packed = shared.join("guests").join(name).join("mem.elf.zst");
    let Ok(packed) = std::fs::File::open(packed) else {
        skip(&format!("the guest {name} is not in {}", shared.display()));
        return None;
    };
    let image = scratch().join(format!("{test}-{name}.elf"));
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(std::io::BufReader::new(packed)).unwrap();
    std::io::copy(&mut decoder, &mut std::fs::File::create(&image).unwrap()).unwrap();
    Some(image)
}

/// Runs `guests/edit-image`; `false` where there is no python3.
fn edited(image: &Path, out: &Path, words: &[&str]) -> bool {
    if Command::new("python3").arg("--version").output().is_err() {
        skip("python3, which runs guests/edit-image, is not there");
        return false;
    }
    let program = format!("{} --cache-dir {}", env!("CARGO_BIN_EXE_vmc"), scratch().display());
    let mut edit = Command::new("python3");
    edit.arg(top().join("guests/edit-image")).arg(program).arg(image).arg(out).args(words);
    let output = edit.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    true
}

#[test]
fn a_process_taken_off_the_task_list_is_named() {
    let image = scratch().join("hidden-sample.elf");
    let packed = std::fs::File::open(sample()).unwrap();
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(std::io::BufReader::new(packed)).unwrap();
    std::io::copy(&mut decoder, &mut std::fs::File::create(&image).unwrap()).unwrap();
    let name = image.to_str().unwrap();
    let before = rows(&["ps"], name);
    let all = rows(&["ps", "--all-ways"], name);
    assert_eq!((all.len(), marked(&all)), (before.len(), vec![]));
    let pid = before.iter().find(|row| row["name"] == "deep").unwrap()["pid"].to_string();
    let copy = scratch().join("hidden-sample-edited.elf");
    if edited(&image, &copy, &["--task", &pid]) {
        let name = copy.to_str().unwrap();
        let after = rows(&["ps"], name);
        assert_eq!(after.len(), before.len() - 1);
        assert!(after.iter().all(|row| row["name"] != "deep"));
        let all = rows(&["ps", "--all-ways"], name);
        assert_eq!(marked(&all), [("deep", vec!["task_list"])]);
        assert_eq!(all.len(), before.len());
        let table = vmc(&["ps", "--all-ways", name]).succeeded().stdout;
        let lines: Vec<&str> = table.lines().filter(|line| line.contains(" task_list ")).collect();
        assert!(lines.len() == 1 && lines[0].contains(&format!(" {pid} ")), "{table}");
        std::fs::remove_file(copy).unwrap();
    }
    std::fs::remove_file(image).unwrap();
}

#[test]
fn exactly_the_process_and_the_module_that_were_hidden_are_named() {
    for guest in ["x86_64-6.1", "x86_64-6.1-pti"] {
        let Some(image) = unpacked(guest, "hidden") else { return };
        let name = image.to_str().unwrap();
        let (processes, modules) = (rows(&["ps"], name), rows(&["modules"], name));
        for (command, plain) in [("ps", &processes), ("modules", &modules)] {
            let all = rows(&[command, "--all-ways"], name);
            assert_eq!((marked(&all), all.len()), (vec![], plain.len()), "{guest}: {command}");
        }
        let pid = processes.iter().find(|row| row["name"] == "sig").unwrap()["pid"].to_string();
        let module = modules[modules.len() / 2]["name"].as_str().unwrap();
        let copy = image.with_extension("edited");
        let lists: [(&[&str], &[&str], &[&str]); 2] = [
            (&[], &["task_list"], &["module_list"]),
            (
                &[
                    "--task-from",
                    "task_list,thread_lists,pid_idr,children",
                    "--module-from",
                    "module_list,kobjects,bug_list",
                ],
                &["task_list", "thread_lists", "pid_idr", "children"],
                &["module_list", "kobjects", "bug_list"],
            ),
        ];
        for (words, task_ways, module_ways) in lists {
            let words = [&["--task", &pid, "--module", module], words].concat();
            if !edited(&image, &copy, &words) {
                return;
            }
            let name = copy.to_str().unwrap();
            assert!(rows(&["ps"], name).iter().all(|row| row["pid"] != pid.parse::<u64>().unwrap()));
            let all = rows(&["ps", "--all-ways"], name);
            assert_eq!(marked(&all), [("sig", task_ways.to_vec())], "{guest}");
            assert_eq!(all.len(), processes.len());
            assert!(rows(&["modules"], name).iter().all(|row| row["name"] != module));
            let all = rows(&["modules", "--all-ways"], name);
            assert_eq!(marked(&all), [(module, module_ways.to_vec())], "{guest}");
            assert_eq!(all.len(), modules.len());
            std::fs::remove_file(&copy).unwrap();
        }
        std::fs::remove_file(image).unwrap();
    }
}
