//! Bad targets and bad questions: one clear line on stderr, the right exit status, nothing invented on stdout.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use common::{Answer, sample, scratch, skip, top, vmc};

/// Exit status 1, one line on stderr that has all of `words`, nothing on stdout.
fn refused(answer: &Answer, words: &[&str]) {
    assert_eq!(answer.status, 1, "{answer:?}");
    assert_eq!(answer.stdout, "", "{answer:?}");
    assert_eq!(answer.stderr.lines().count(), 1, "{answer:?}");
    for word in words {
        assert!(answer.stderr.contains(word), "{word:?} is not in {answer:?}");
    }
}

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch().join(format!("{}-{name}", std::process::id()));
    fs::write(&path, bytes).unwrap();
    path
}

/// The sample's memory, unpacked.
fn unpacked() -> Vec<u8> {
    let packed = fs::File::open(sample()).unwrap();
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(std::io::BufReader::new(packed)).unwrap();
    let mut bytes = Vec::new();
    decoder.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn what_is_no_image_is_named() {
    let cases: [(&str, Vec<u8>, &[&str]); 8] = [
        ("empty", vec![], &["is empty, not a memory image"]),
        ("text", b"root:x:0:0::/root:/bin/sh\n".repeat(100_000), &["is a text file, not a memory image"]),
        ("small", vec![0; 4096], &["4096 bytes", "too few for a memory image"]),
        ("zeros", vec![0; 4 << 20], &["no Linux kernel found", "no VMCOREINFO in 4 MiB"]),
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0".to_vec(), &["cannot be unpacked after 0 bytes"]),
        (
            "kdump",
            b"KDUMP   \x06\0\0\0".to_vec(),
            &["is a kdump-compressed dump", "dump-guest-memory without -z"],
        ),
        ("zstd", b"\x28\xb5\x2f\xfd\x24\x05garbage".to_vec(), &["cannot be unpacked after 0 bytes"]),
        ("program", fs::read(env!("CARGO_BIN_EXE_vmc")).unwrap(), &["is an ELF program, library or object"]),
    ];
    for (name, bytes, words) in cases {
        let path = file(name, &bytes);
        refused(&vmc(&["ps", path.to_str().unwrap()]), words);
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn what_cannot_be_opened_is_named() {
    refused(&vmc(&["ps", "/nonexistent/image"]), &["/nonexistent/image: cannot be opened", "No such file"]);
    refused(&vmc(&["ps", "/"]), &["/: is a directory, not a memory image"]);
    refused(&vmc(&["ps", "/dev/null"]), &["is no regular file"]);
    refused(&vmc(&["ps", "gdb:/nonexistent/socket"]), &["gdb:/nonexistent/socket: ", "No such file"]);
    refused(&vmc(&["ps", "qmp:/nonexistent/socket"]), &["qmp:/nonexistent/socket: ", "No such file"]);
    let locked = file("locked", &[0; 4096]);
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&locked).is_ok() {
        common::skip_for_good("unreadable files can be read here (the tests run as root)");
    } else {
        refused(&vmc(&["ps", locked.to_str().unwrap()]), &["Permission denied"]);
    }
    fs::remove_file(locked).unwrap();
}

#[test]
fn an_unreadable_file_is_named_even_as_root() {
    // A path below a file, and a loop of links: no user can open these.
    let plain = file("plain", b"x");
    refused(&vmc(&["ps", plain.join("below").to_str().unwrap()]), &["cannot be opened", "Not a directory"]);
    let link = scratch().join(format!("{}-loop", std::process::id()));
    std::os::unix::fs::symlink(&link, &link).unwrap();
    refused(&vmc(&["ps", link.to_str().unwrap()]), &["cannot be opened", "symbolic links"]);
    fs::remove_file(link).unwrap();
    fs::remove_file(plain).unwrap();
}

#[test]
fn a_core_for_another_machine_is_named() {
    let mut core = unpacked()[..8192].to_vec();
    core[18..20].copy_from_slice(&8u16.to_le_bytes());
    let path = file("mips", &core);
    refused(&vmc(&["ps", path.to_str().unwrap()]), &["ELF core of machine type 8", "x86_64 (62)"]);
    // The same core as one of a process: more than one segment at address 0.
    fs::remove_file(path).unwrap();
}

#[test]
fn a_cut_image_is_said_to_be_cut_and_nothing_is_invented() {
    let whole = unpacked();
    let told = vmc(&["ps", &sample(), "--format", "jsonl"]).succeeded();
    let told: Vec<&str> = told.stdout.lines().collect();
    for eighths in 1..8 {
        let path = file(&format!("cut-{eighths}"), &whole[..whole.len() / 8 * eighths]);
        let answer = vmc(&["ps", path.to_str().unwrap(), "--format", "jsonl"]);
        assert!(answer.stderr.contains("the image is cut short"), "{answer:?}");
        match answer.status {
            1 => assert_eq!(answer.stdout, "", "{answer:?}"),
            0 => {
                // What is shown is what the whole image shows, or has less in it and says so.
                for row in answer.stdout.lines().filter(|row| !row.contains("\"errors\"")) {
                    assert!(told.contains(&row), "{row} is not in the whole image");
                }
                let partial =
                    answer.stdout.lines().count() < told.len() || answer.stdout.contains("\"errors\"");
                assert!(!partial || answer.stderr.lines().count() >= 2, "{answer:?}");
            }
            status => panic!("exit status {status}: {answer:?}"),
        }
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn an_image_that_shrinks_while_it_is_read_is_said_to() {
    let path = file("shrinks", b"");
    let image = fs::File::options().write(true).open(&path).unwrap();
    // A hole that takes long to go through.
    image.set_len(64 << 30).unwrap();
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_vmc"))
        .args(["search", path.to_str().unwrap(), "what is not there"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    image.set_len(0).unwrap();
    let output = child.wait_with_output().unwrap();
    fs::remove_file(path).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("cut short while it was read"), "{stderr}");
}

#[test]
fn what_is_not_in_the_guest_is_named() {
    let sample = sample();
    refused(&vmc(&["maps", &sample, "--pid", "99999"]), &["no process 99999 among the"]);
    refused(
        &vmc(&["maps", &sample, "--pid", "2"]),
        &["process 2 has no user address space: it is a kernel thread"],
    );
    refused(&vmc(&["bt", &sample, "--tid", "99999"]), &["no thread 99999"]);
    refused(&vmc(&["symbols", &sample, "no_such_symbol"]), &["no symbol no_such_symbol among the kernel's"]);
    refused(&vmc(&["types", &sample, "no_such_type"]), &["have no no_such_type"]);
    refused(&vmc(&["read", &sample, "0x10", "8"]), &["0x10: page table level"]);
    refused(&vmc(&["read", &sample, "0xffffffff81000000", "0xffffffffffff"]), &["more than the limit"]);
    let answer = vmc(&["translate", &sample, "0x8000000000000000"]);
    assert_eq!(answer.status, 1, "{answer:?}");
    assert!(answer.stdout.contains("reason") && answer.stderr.contains("not canonical"), "{answer:?}");
}

#[test]
fn wrong_usage_is_told_apart() {
    for words in [
        &["ps"][..],
        &["fly", "x"],
        &["maps", "x"],
        &["read", "x", "12", "4"],
        &["ps", "x", "--format", "xml"],
        &["ps", "kvm:x"],
        &["ps", "gdb:1234"],
        &["ps", "qmp::1234"],
        &["ps", "kvm:1", "--monitor", "here"],
        &["ps", "kvm:1", "--timeout", "0"],
        &["read", "x", "--physical", "--pid", "1", "0x0", "4"],
    ] {
        assert_eq!(vmc(words).status, 2, "{words:?}");
    }
    vmc(&["--help"]).succeeded();
    assert!(vmc(&["--version"]).succeeded().stdout.contains("JSON schema 1"));
}

#[test]
fn an_address_that_no_symbol_reaches_has_none() {
    for address in ["0x7fffffffffff", "0xffffffffffffffff", "0x100001"] {
        let answer = vmc(&["symbols", &sample(), address]);
        assert_eq!((answer.status, answer.stdout.as_str()), (1, ""), "{address}: {answer:?}");
    }
    assert_eq!(vmc(&["symbols", &sample(), "0xZZ"]).status, 2);
    assert_eq!(vmc(&["search", &sample(), "x", "--max", "0"]).status, 2);
    let plain = vmc(&["types", &sample(), "list_head"]).succeeded().stdout;
    assert_eq!(vmc(&["types", &sample(), "struct list_head"]).succeeded().stdout, plain);
}

/// A module's symbol at the base that the guest gives for it, and none behind all of them.
#[test]
fn an_address_in_a_module_is_of_the_module() {
    let shared =
        std::env::var_os("VMC_SHARED").map_or_else(|| top().parent().unwrap().join("shared"), PathBuf::from);
    let folder = shared.join("guests/x86_64-6.1");
    let image = folder.join("mem.elf.zst");
    if !image.exists() {
        return skip("the guest x86_64-6.1 is not there");
    }
    let truth: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("truth.json")).unwrap()).unwrap();
    let modules = truth["modules"].as_array().unwrap();
    assert!(!modules.is_empty());
    for module in modules {
        let base = module["base"].as_str().unwrap();
        let rows = vmc(&["symbols", image.to_str().unwrap(), base, "--format", "json"]).succeeded().stdout;
        let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
        assert_eq!(rows[0]["module"], module["name"], "{base}: {rows}");
    }
}

#[test]
fn a_directory_of_symbols_that_is_not_there_is_named() {
    let answer = vmc(&["info", &sample(), "--symbols", "no/such/directory"]).succeeded();
    assert!(answer.stderr.contains("--symbols no/such/directory: it cannot be read"), "{answer:?}");
}
