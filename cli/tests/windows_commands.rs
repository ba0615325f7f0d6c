//! Every command on a Windows guest: rows, or one line that says what is not read and what to ask instead.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests may panic")]

mod common;
#[path = "common/windows.rs"]
mod windows;

use std::collections::BTreeSet;

use common::{scratch, vmc};
use windows::{Planted, ask, planted, refused, text};

/// What a command comes to.
enum Comes {
    /// Exit status 0, something on stdout, nothing on stderr but what is missing of rows.
    Rows,
    /// The same, with a line that has this word.
    Said(&'static str),
    /// Exit status 1 and one line that has these words.
    Refused(&'static [&'static str]),
}
use Comes::{Refused, Rows, Said};

const LINUX_ALONE: &[&str] = &["it is a Windows guest", "of those are not read", "know Windows"];
const RUNNING_ALONE: &[&str] = &["needs a guest that runs", "bt shows the stacks in an image"];

/// What stands behind the target begins with the second word.
const ALL: &[(&[&str], Comes)] = &[
    (&["info"], Rows),
    (&["registers"], Refused(&["holds no registers"])),
    (&["ps"], Rows),
    (&["ps", "--tree"], Rows),
    (&["ps", "--all-ways"], Rows),
    (&["ps", "--pid", "4"], Rows),
    (&["ps", "--long"], Said("--long is of no use for a Windows guest")),
    (&["threads"], Rows),
    (&["maps", "--pid", "4"], Rows),
    (&["modules"], Rows),
    (&["modules", "--all-ways"], Refused(&["--all-ways", "it is a Windows guest", "those on the list"])),
    (&["bt"], Rows),
    (&["bt", "--lines"], Said("--lines is of no use for a Windows guest")),
    (&["bt", "--scan"], Said("--scan is of no use for a Windows guest")),
    (&["lsof"], Rows),
    (&["sockets"], Refused(&["it is a Windows guest", "sockets", "lsof"])),
    (&["sockets", "--pid", "4"], Refused(&["it is a Windows guest", "sockets", "lsof"])),
    (&["containers"], Refused(LINUX_ALONE)),
    (&["interfaces"], Refused(LINUX_ALONE)),
    (&["env", "--pid", "4"], Refused(LINUX_ALONE)),
    (&["cat", "/etc/passwd"], Refused(&["it is a Windows guest", "files", "lsof and maps"])),
    (&["cat", "--pid", "4", "--fd", "3"], Refused(&["it is a Windows guest", "files", "lsof and maps"])),
    (&["ls", "/"], Refused(&["it is a Windows guest", "files", "lsof and maps"])),
    (&["mounts"], Refused(LINUX_ALONE)),
    (&["mounts", "--pid", "4"], Refused(LINUX_ALONE)),
    (&["dmesg"], Refused(LINUX_ALONE)),
    (&["symbols", "NtCreateFile"], Rows),
    (&["types", "_EPROCESS"], Rows),
    (&["translate", "0xfffff78000000000"], Rows),
    (&["read", "0xfffff78000000000", "16"], Rows),
    (&["read", "0x1000", "16", "--physical"], Rows),
    (&["search", "kernel32"], Said("no virtual addresses")),
    (&["search", "kernel32", "--pid", "4"], Refused(&["it is a Windows guest", "--pid"])),
    // Where it is written stands in its own test.
    (&["dump", "/"], Refused(&["/: "])),
    (&["record"], Refused(RUNNING_ALONE)),
    (&["top"], Refused(RUNNING_ALONE)),
];

#[test]
fn each_command_answers_or_says_in_one_line_what_to_ask_instead() {
    let Some(guest) = planted("19041-plain") else { return };
    for (words, comes) in ALL {
        let answer = ask(&guest, words);
        // That rows are told in part is no matter here.
        let said = answer.stderr.lines().filter(|line| !line.contains("could be read only in part"));
        let said: Vec<&str> = said.collect();
        match comes {
            Refused(parts) => refused(&answer, parts),
            Rows => assert!(said.is_empty(), "{words:?}: {answer:?}"),
            Said(part) => assert!(said.len() == 1 && answer.stderr.contains(part), "{words:?}: {answer:?}"),
        }
        if !matches!(comes, Refused(_)) {
            assert!(answer.status == 0 && !answer.stdout.is_empty(), "{words:?}: {answer:?}");
        }
    }
}

#[test]
fn no_command_is_left_out() {
    let help = vmc(&["--help"]).succeeded().stdout;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let there: BTreeSet<&str> = commands
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    let tried: BTreeSet<&str> = ALL.iter().filter_map(|(words, _)| words.first().copied()).collect();
    assert_eq!(there, tried);
}

#[test]
fn a_saved_guest_says_what_its_image_says() {
    let Some(guest) = planted("19041-plain") else { return };
    let path = scratch().join(format!("windows-saved-image-{}.elf", std::process::id()));
    let saved = Planted { path: text(&path), truth: guest.truth.clone(), symbols: guest.symbols.clone() };
    // The image has no registers: what architecture it is of, and its release, are the kernel's word.
    let told = ask(&guest, &["dump", &saved.path, "--format", "json"]).succeeded().stdout;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let build = guest.truth.pointer("/kernel/build").unwrap().to_string();
    assert_eq!(told.get("arch").unwrap(), "x86_64");
    assert!(told.get("release").unwrap().as_str().unwrap().contains(&build), "{told}");
    for words in [["ps"], ["threads"], ["modules"], ["lsof"]] {
        let of = |guest| ask(guest, &words).succeeded().stdout;
        assert_eq!(of(&saved), of(&guest), "{words:?}");
    }
    std::fs::remove_file(path).unwrap();
}
