//! `search` on the sample guest: the guest's own word on where things lie, and grep's on how often they are there.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::process::Command;

use common::{sample, scratch, skip, top, vmc};
use serde_json::Value;

fn truth() -> Value {
    serde_json::from_slice(&fs::read(top().join("guests/sample/truth.json")).unwrap()).unwrap()
}

fn json(words: &[&str]) -> Vec<Value> {
    let words = [words, &["--format", "json"]].concat();
    serde_json::from_str(&vmc(&words).succeeded().stdout).unwrap()
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

/// The process of this name, by the guest's word.
fn process<'t>(truth: &'t Value, name: &str) -> &'t Value {
    truth["processes"].as_array().unwrap().iter().find(|process| process["comm"] == name).unwrap()
}

#[test]
fn the_kernels_banner_is_where_its_symbol_is() {
    let truth = truth();
    let banner = truth["linux_banner"].as_str().unwrap().trim_end();
    let rows = json(&["search", &sample(), banner]);
    let at = &truth["symbols"]["linux_banner"];
    let row = rows.iter().find(|row| number(&row["virtual"]) == number(at)).unwrap();
    assert_eq!((&row["kernel_virtual"], &row["pid"]), (&row["virtual"], &Value::Null));
    let translated =
        vmc(&["translate", &sample(), at.as_str().unwrap(), "--format", "json"]).succeeded().stdout;
    let translated: Value = serde_json::from_str(&translated).unwrap();
    assert_eq!(row["physical"], translated["physical"]);
    let table = vmc(&["search", &sample(), banner]).succeeded().stdout;
    assert!(table.lines().next().unwrap().ends_with("VIRTUAL PID NAME MATCH"), "{table}");
    assert!(table.lines().any(|line| line.contains(" [k] ") && line.contains("Linux version")), "{table}");
}

#[test]
fn a_process_words_are_on_its_stack_and_in_its_pages() {
    let truth = truth();
    let deep = process(&truth, "deep");
    let pid = deep["pid"].to_string();
    let word = deep["cmdline"][0].as_str().unwrap();
    let stack = deep["maps"].as_array().unwrap().iter().find(|map| map["path"] == "[stack]").unwrap();
    let on_stack = |row: &&Value| {
        let at = number(&row["virtual"]);
        (number(&stack["start"])..number(&stack["end"])).contains(&at)
    };
    let own = json(&["search", &sample(), word, "--pid", &pid, "--context", "8"]);
    let row = own.iter().find(on_stack).unwrap();
    assert_eq!((&row["match"], &row["name"]), (&word.into(), &"deep".into()));
    assert!(row["context"].as_str().unwrap().contains(&format!("\\x00{word}\\x00")), "{row}");
    assert!(own.is_sorted_by_key(|row| number(&row["virtual"])));
    let at = row["virtual"].as_str().unwrap();
    let translated = vmc(&["translate", &sample(), "--pid", &pid, at, "--format", "json"]).succeeded().stdout;
    let translated: Value = serde_json::from_str(&translated).unwrap();
    assert_eq!(translated["physical"], row["physical"]);
    // All memory has the same match, and knows whose it is; a library's page has several owners.
    let all = json(&["search", &sample(), word]);
    let same = |other: &Value| ["physical", "virtual", "pid"].iter().all(|field| other[field] == row[field]);
    assert!(all.iter().any(same));
    let banner = json(&["search", &sample(), "GNU C Library"]);
    let owners: BTreeSet<u64> = banner.iter().filter_map(|row| row["pid"].as_u64()).collect();
    let with_libc = truth["processes"].as_array().unwrap().iter().filter(|process| {
        process["maps"].as_array().unwrap().iter().any(|map| {
            map["path"].as_str().is_some_and(|path| path.contains("libc.so.6"))
                && process["comm"] != "collect"
        })
    });
    let with_libc: BTreeSet<u64> = with_libc.map(|process| process["pid"].as_u64().unwrap()).collect();
    assert!(owners.is_subset(
        &truth["processes"].as_array().unwrap().iter().map(|p| p["pid"].as_u64().unwrap()).collect()
    ));
    assert!(owners.len() >= 2 && owners.intersection(&with_libc).count() >= 2, "{owners:?} {with_libc:?}");
}

#[test]
fn grep_finds_as_many_at_the_same_places() {
    // The sample's core, unpacked: the memory as a file.
    let mut core = Vec::new();
    let packed = std::io::BufReader::new(fs::File::open(sample()).unwrap());
    ruzstd::decoding::StreamingDecoder::new(packed).unwrap().read_to_end(&mut core).unwrap();
    let word = |at: usize| u64::from_le_bytes(core[at..at + 8].try_into().unwrap());
    let headers = (0..usize::from(core[56])).map(|index| word(32) as usize + index * 56);
    let segments: Vec<(u64, u64, u64)> = headers
        .filter(|at| core[*at..at + 4] == 1u32.to_le_bytes())
        .map(|at| (word(at + 8), word(at + 24), word(at + 32)))
        .collect();
    let path = scratch().join(format!("search-{}.core", std::process::id()));
    fs::write(&path, &core).unwrap();
    // Nothing that can overlap itself: grep does not tell such matches.
    for (ours, theirs) in [
        (&["ld-linux"][..], &["-F", "ld-linux"][..]),
        (&["LD-linux", "-i"], &["-Fi", "ld-linux"]),
        (&["7f 45 4c 46 02 01 01 ??", "--hex"], &["-P", "\\x7fELF\\x02\\x01\\x01(?s:.)"]),
        (&["ttyS[0-9]", "--regex"], &["-P", "ttyS[0-9]"]),
    ] {
        let grep = Command::new("grep").env("LC_ALL", "C").arg("-obUa").args(theirs).arg(&path).output();
        let Ok(grep) = grep else {
            fs::remove_file(&path).unwrap();
            return skip("there is no grep");
        };
        let offsets = grep.stdout.split(|byte| *byte == b'\n').filter_map(|line| {
            let digits = line.split(|byte| *byte == b':').next()?;
            std::str::from_utf8(digits).ok()?.parse::<u64>().ok()
        });
        let places = offsets.filter_map(|offset| {
            let inside = |segment: &&(u64, u64, u64)| (segment.0..segment.0 + segment.2).contains(&offset);
            segments.iter().find(inside).map(|segment| offset - segment.0 + segment.1)
        });
        let expected: BTreeSet<u64> = places.collect();
        let words = [&["search", path.to_str().unwrap()], ours].concat();
        let found: BTreeSet<u64> = json(&words).iter().map(|row| number(&row["physical"])).collect();
        assert!(expected.len() > 5, "{theirs:?}: {} matches", expected.len());
        assert_eq!(found, expected, "{ours:?}");
    }
    fs::remove_file(&path).unwrap();
}

#[test]
fn what_is_not_there_is_told_and_bounds_are_kept() {
    let answer = vmc(&["search", &sample(), "no such text in this guest, surely"]);
    assert_eq!(
        (answer.status, answer.stdout.as_str(), answer.stderr.lines().count()),
        (1, "", 1),
        "{answer:?}"
    );
    assert!(answer.stderr.contains("is not in 96 MiB of memory"), "{answer:?}");
    let answer = vmc(&["search", &sample(), "ELF", "--max", "3", "--format", "jsonl"]).succeeded();
    let physical: BTreeSet<String> = answer
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["physical"].to_string())
        .collect();
    assert_eq!(physical.len(), 3);
    assert!(answer.stderr.contains("more than 3 matches"), "{answer:?}");
    for words in [
        &["", ""][..],
        &["4", "--hex"],
        &["a(", "--regex"],
        &["x", "--context", "9999"],
        &["x", "--hex", "--utf16"],
    ] {
        let answer = vmc(&[&["search", &sample()], words].concat());
        assert_eq!(answer.status, 2, "{words:?}: {answer:?}");
    }
    assert_eq!(vmc(&["search", &sample(), "x", "--pid", "99999"]).status, 1);
    assert_eq!(vmc(&["search", &sample(), "x", "--pid", "2"]).status, 1);
}

#[test]
fn memory_without_a_kernel_is_searched_all_the_same() {
    let mut ram = vec![0u8; 4 << 20];
    ram[0x12_3ffe..0x12_4003].copy_from_slice(b"magic");
    let path = scratch().join(format!("search-{}.raw", std::process::id()));
    fs::write(&path, &ram).unwrap();
    let answer = vmc(&["search", path.to_str().unwrap(), "magic", "--ram-base", "0x1000", "--format", "csv"])
        .succeeded();
    let lines: Vec<&str> = answer.stdout.lines().collect();
    assert_eq!(lines, ["physical,virtual,pid,name,kernel_virtual,match,context", "0x124ffe,,,,,magic,"]);
    assert!(answer.stderr.contains("no virtual addresses: no Linux kernel found"), "{answer:?}");
    fs::remove_file(path).unwrap();
}
