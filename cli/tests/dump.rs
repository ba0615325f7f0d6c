//! `dump`: what it saves is the same guest, for this tool and for others.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{sample, scratch, skip, vmc};
use serde_json::Value;
use vmc::{PhysMemory, Vcpus};
use vmc_dump::{CoreWriter, Image, NewFile};

/// A file's name that no other test has.
fn place(name: &str) -> PathBuf {
    let path = scratch().join(format!("{}-{name}", std::process::id()));
    let _ = fs::remove_file(&path);
    path
}

/// The sample, saved.
fn saved(name: &str) -> PathBuf {
    let path = place(name);
    vmc(&["dump", &sample(), path.to_str().unwrap()]).succeeded();
    path
}

#[test]
fn a_saved_guest_answers_as_the_first_one() {
    let path = saved("answers");
    let core = path.to_str().unwrap();
    for words in [
        &["ps", "--all-ways"][..],
        &["threads"],
        &["modules"],
        &["bt"],
        &["lsof"],
        &["sockets"],
        &["mounts"],
        &["dmesg"],
        &["interfaces"],
        &["containers"],
        &["maps", "--pid", "1"],
        &["registers"],
        &["info"],
    ] {
        let ask = |target: &str| {
            let answer = vmc(&[&[words[0], target], &words[1..], &["--format", "json"]].concat()).succeeded();
            serde_json::from_str::<Value>(&answer.stdout).unwrap()
        };
        assert!(ask(core) == ask(&sample()), "{words:?} differ");
    }
    let (one, two) = (Image::open(&path).unwrap(), Image::open(sample()).unwrap());
    assert_eq!(one.regions(), two.regions());
    for region in one.regions() {
        let len = usize::try_from(region.len).unwrap();
        assert!(one.slice(region.start, len).unwrap() == two.slice(region.start, len).unwrap());
    }
    // QEMU's notes are there as they were, and the kernel's own word behind them.
    let (saved, first) = (one.notes(), two.notes());
    assert_eq!(saved[..first.len()], first[..]);
    let [(name, 0, text)] = saved[first.len()..] else { panic!("{} notes", saved.len()) };
    assert!(name == b"VMCOREINFO" && text.starts_with(b"OSRELEASE=6."));
    assert_eq!(one.warnings(), two.warnings());
    // Memory holds secrets, and zeros take no room.
    let meta = fs::metadata(&path).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    assert!(meta.blocks() * 512 < one.total() * 3 / 4 && meta.len() < one.total() + (1 << 20));
    fs::remove_file(path).unwrap();
}

/// Notes out of registers, held against those that QEMU wrote of the same vCPUs.
#[test]
fn notes_out_of_registers_are_qemus_where_those_are_known() {
    let image = Image::open(sample()).unwrap();
    let path = place("registers");
    let new = NewFile::create(&path, false).unwrap();
    let mut core = CoreWriter::new(&image, vmc::Architecture::X86_64);
    for index in 0..image.count() {
        assert!(core.vcpu(index, &image.registers(index).unwrap()));
    }
    core.write(new.file(), &mut |_| ()).unwrap();
    new.keep().unwrap();
    let made = Image::open(&path).unwrap();
    let (made, qemus) = (made.notes(), image.notes());
    assert_eq!(made.len(), qemus.len());
    for (made, qemus) in made.iter().zip(&qemus) {
        assert_eq!((made.0, made.1, made.2.len()), (qemus.0, qemus.1, qemus.2.len()));
        // Selectors of data segments in the one; in the other what segments have but selector and base of cs fs gs ss.
        let unknown = |at: usize| match made.0 {
            b"CORE" => (112 + 23 * 8..112 + 27 * 8).contains(&at),
            _ => (152..392).contains(&at),
        };
        for (at, (made, qemus)) in made.2.iter().zip(qemus.2).enumerate() {
            assert!(made == qemus || (unknown(at) && *made == 0), "{at}: {made:#x}, {qemus:#x}");
        }
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn a_file_that_is_there_is_replaced_only_on_demand() {
    let path = place("there");
    fs::write(&path, b"mine").unwrap();
    let words = ["dump", &sample(), path.to_str().unwrap()];
    let answer = vmc(&words);
    assert_eq!((answer.status, answer.stdout.as_str()), (1, ""), "{answer:?}");
    assert!(answer.stderr.contains("it is there already; --force"), "{answer:?}");
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    vmc(&[&words[..], &["--force"]].concat()).succeeded();
    assert_eq!(Image::open(&path).unwrap().count(), 2);
    fs::remove_file(&path).unwrap();
    for (to, said) in [("/dev/null", "no regular file"), ("/nonexistent/core", "No such file")] {
        let answer = vmc(&["dump", &sample(), to, "--force"]);
        assert_eq!((answer.status, answer.stdout.as_str()), (1, ""), "{answer:?}");
        assert!(answer.stderr.contains(said), "{answer:?}");
    }
}

/// gdb knows nothing of machines: it reads registers by threads, and the kernel's memory by its virtual addresses.
#[test]
fn gdb_reads_the_kernel() {
    let path = saved("gdb");
    let truth = fs::read(common::top().join("guests/sample/truth.json")).unwrap();
    let truth: Value = serde_json::from_slice(&truth).unwrap();
    let banner = truth["symbols"]["linux_banner"].as_str().unwrap();
    let Some(told) =
        gdb(&path, &["info threads", "info registers rip", "x/4i $pc", &format!("x/s {banner}")])
    else {
        return skip("there is no gdb");
    };
    let text = truth["linux_banner"].as_str().unwrap();
    assert!(told.contains(text.get(..100).unwrap()), "{told}");
    assert!(told.contains("LWP 1") && told.contains("LWP 2"), "{told}");
    let image = Image::open(&path).unwrap();
    let Ok(vmc::Registers::X86_64(registers)) = image.registers(0) else { panic!("no registers") };
    assert!(told.contains(&format!("{:#x}", registers.rip)), "{told}");
    assert!(told.contains(&format!("=> {:#x}:", registers.rip)), "{told}");
    fs::remove_file(path).unwrap();
}

fn gdb(core: &Path, commands: &[&str]) -> Option<String> {
    let mut gdb = Command::new("gdb");
    gdb.args(["-batch", "-nx", "-c"]).arg(core);
    commands.iter().for_each(|command| _ = gdb.args(["-ex", command]));
    let output = gdb.output().ok()?;
    Some(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}
