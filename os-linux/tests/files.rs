//! Files and directories of the sample guest, against its own word and against what its programs map.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{image, number, sample, truth};
use serde_json::Value;
use vmc::view::PartKind;
use vmc::{VirtAddr, VirtualMemory};
use vmc_linux::{FileContents, Linux, LinuxError};

/// A file as `cat` would write it.
fn bytes(file: &FileContents<'_, '_>) -> Vec<u8> {
    let mut all = vec![0; file.size() as usize];
    let mut end = 0;
    for part in file.parts() {
        let part = part.unwrap();
        // Parts come one behind the other.
        assert_eq!(part.offset, end);
        end += part.len;
        assert!(matches!(part.kind, PartKind::Data | PartKind::Hole), "{part:?}");
        if part.kind == PartKind::Data {
            file.read(part.offset, &mut all[part.offset as usize..end as usize]).unwrap();
        }
    }
    assert_eq!(end, file.size());
    all
}

#[test]
fn programs_are_what_their_processes_map() {
    let (image, truth) = (image(), truth());
    let linux = Linux::open(&image, &image).unwrap();
    let init = linux.process(1).unwrap();
    let mut compared = 0;
    for process in truth["processes"].as_array().unwrap() {
        let Some(exe) = process["exe"].as_str().filter(|_| process["comm"] != "collect") else { continue };
        let file = bytes(&init.contents(exe.as_bytes()).unwrap());
        assert_eq!(file[..4], *b"\x7fELF", "{exe}");
        let memory = linux.process(number(&process["pid"]) as u32).unwrap().memory().unwrap();
        for map in process["maps"].as_array().unwrap() {
            let perms = map["perms"].as_str().unwrap();
            if map["path"] != exe || perms.contains('w') || !perms.starts_with('r') {
                continue;
            }
            let (start, offset) = (number(&map["start"]), map["offset"].as_u64().unwrap() as usize);
            let len = ((number(&map["end"]) - start) as usize).min(file.len() - offset);
            // Relocations are written and then protected: only what holds code and constants is the file's own.
            if perms.contains('x') {
                let mut mapped = vec![0; len];
                memory.read(VirtAddr::new(start), &mut mapped).unwrap();
                assert_eq!(mapped, file[offset..offset + len], "{exe} at {start:#x}");
                compared += len;
            }
        }
    }
    assert!(compared > 100_000, "only {compared} bytes");
}

#[test]
fn paths_lead_where_the_kernel_says() {
    let image = image();
    let linux = Linux::open(&image, &image).unwrap();
    let init = linux.process(1).unwrap();
    let place = |path: &str| init.contents(path.as_bytes()).map(|file| file.address());
    let deep = place("/bin/deep").unwrap();
    for path in
        ["/bin/../bin/./deep", "//bin//deep", "bin/deep", "/../bin/deep", "/tmp/../dev/pts/../../bin/deep"]
    {
        assert_eq!(place(path).unwrap(), deep, "{path}");
    }
    assert_ne!(place("/bin/sig").unwrap(), deep);
    let reason = |path: &str| match place(path) {
        Err(LinuxError::NoFile { reason, .. }) => reason,
        other => panic!("{path}: {other:?}"),
    };
    // The root is a tmpfs or ramfs: its dentries are all there are.
    assert_eq!(reason("/bin/nosuch"), "there is no such file");
    assert_eq!(reason("/bin/deep/x"), "what stands before it is not a directory");
    assert_eq!(reason("/bin/deep/"), "it is not a directory");
    assert_eq!(reason("/bin"), "it is a directory");
    assert!(reason("/dev/null").contains("device"));
    assert!(reason("/proc/nosuch").contains("the kernel makes up"));
    let why = init.descriptor_contents(0).unwrap_err().to_string();
    assert!(why.contains("/dev/console") && why.contains("device"), "{why}");
    assert_eq!(init.descriptor_contents(999).unwrap_err(), LinuxError::NoDescriptor { pid: 1, fd: 999 });
    // A kernel thread sees the same root.
    assert_eq!(linux.process(2).unwrap().contents(b"/bin/deep").unwrap().address(), deep);
}

#[test]
fn directories_hold_what_the_guest_was_given() {
    let (image, truth) = (image(), truth());
    let linux = Linux::open(&image, &image).unwrap();
    let init = linux.process(1).unwrap();
    let meta: Value = serde_json::from_slice(&std::fs::read(sample().join("meta.json")).unwrap()).unwrap();
    let given = meta["programs"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    let mut given: BTreeSet<&str> = given.collect();
    // Those that were added to the workloads.
    given.extend(["sh", "sleep"]);
    let listing = init.list(b"/bin", false).unwrap();
    assert!(listing.errors.is_empty());
    assert_eq!((listing.directories, listing.partial), (1, 0));
    let found: BTreeSet<&str> = listing.entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(found, given);
    // Inode numbers and devices of files as /proc/PID/maps has them.
    let mut told: BTreeMap<&str, u64> = BTreeMap::new();
    for process in truth["processes"].as_array().unwrap() {
        for map in process["maps"].as_array().unwrap() {
            if let Some(path) = map["path"].as_str().filter(|path| path.starts_with('/')) {
                told.insert(path, map["inode"].as_u64().unwrap());
            }
        }
    }
    assert!(told.len() > 10);
    for (path, inode) in told {
        let listing = init.list(path.as_bytes(), false).unwrap();
        let entry = &listing.entries[0];
        assert_eq!((entry.kind, entry.inode), (Some('-'), Some(inode)), "{path}");
        assert!(entry.errors.is_empty() && entry.cached_bytes.unwrap() >= entry.size.unwrap(), "{entry:?}");
    }
    // Every mount point is shown as what is mounted there.
    let deep = init.list(b"/", true).unwrap();
    assert!(deep.errors.is_empty() && deep.partial > 0 && deep.partial < deep.directories);
    let paths: BTreeMap<&str, _> = deep.entries.iter().map(|entry| (entry.path.as_str(), entry)).collect();
    assert_eq!(paths.len(), deep.entries.len());
    for mount in truth["mounts"].as_array().unwrap() {
        let target = mount[1].as_str().unwrap();
        assert!(target == "/" || paths[target].kind == Some('d'), "{target}");
    }
    assert_eq!((paths["/dev/null"].kind, paths["/dev/null"].device), (Some('c'), Some((1, 3))));
    // The default of a tmpfs.
    assert_eq!(paths["/tmp"].mode, Some(0o1777));
}
