//! Real guests outside the repository against their own word, by `guests/check-cli`.
//!
//! They lie in `shared/` beside the repository (`VMC_SHARED` names another place). Where they are missing, these tests say
//! that they were skipped, or fail where everything has to run.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "tests may panic and tell what they saw"
)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{scratch, skip, top, vmc};

fn shared() -> PathBuf {
    std::env::var_os("VMC_SHARED").map_or_else(|| top().parent().unwrap().join("shared"), PathBuf::from)
}

/// `check-cli` on `image`: its output has to end with `all hold`.
fn check(image: &Path, truth: &Path, checks: &[&str]) {
    check_with(image, truth, checks, "");
}

/// The same, with more words for each call.
fn check_with(image: &Path, truth: &Path, checks: &[&str], words: &str) {
    let script = top().join("guests/check-cli");
    let mut command = Command::new("python3");
    command.arg(script).arg(env!("CARGO_BIN_EXE_vmc")).arg(image).arg(truth).args(checks);
    command.env("CHECK_ARGS", format!("--cache-dir {} {words}", scratch().display()));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success() && text.ends_with("all hold\n"), "{image:?}:\n{text}");
}

/// The folder of a guest, if it is there.
fn guest(name: &str) -> Option<PathBuf> {
    let folder = shared().join("guests").join(name);
    if !folder.join("mem.elf.zst").exists() {
        skip(&format!("the guest {name} is not in {}", shared().display()));
        return None;
    }
    if Command::new("python3").arg("--version").output().is_err() {
        skip("python3, which runs guests/check-cli, is not there");
        return None;
    }
    Some(folder)
}

/// The raw image made of a guest's core; it is of the guest's RAM alone and has no registers.
fn raw(folder: &Path, name: &str) -> PathBuf {
    let core = scratch().join(format!("{name}.elf"));
    let raw = scratch().join(format!("{name}.raw"));
    let mut unpacked = std::fs::File::create(&core).unwrap();
    let packed = std::fs::File::open(folder.join("mem.elf.zst")).unwrap();
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(std::io::BufReader::new(packed)).unwrap();
    std::io::copy(&mut decoder, &mut unpacked).unwrap();
    let script = top().join("guests/core2raw");
    let made = Command::new("python3")
        .arg(script)
        .arg(&core)
        .arg(folder.join("meta.json"))
        .arg(&raw)
        .status()
        .unwrap();
    assert!(made.success());
    std::fs::remove_file(core).unwrap();
    raw
}

const ALL: &[&str] = &["info", "ps", "threads", "maps", "modules", "bt", "kstack"];
const WITHOUT_STACKS: &[&str] = &["info", "ps", "threads", "maps", "modules"];

/// What else is in a guest.
const SYSTEM: &[&str] = &["lsof", "sockets", "mounts", "dmesg", "creds", "usage", "sections", "containers"];

#[test]
fn what_else_is_in_guests() {
    for name in ["x86_64-6.1", "x86_64-6.1-pti"] {
        let Some(folder) = guest(name) else { return };
        check(&folder.join("mem.elf.zst"), &folder.join("truth.json"), SYSTEM);
    }
}

#[test]
fn arm64_6_1_core() {
    let Some(folder) = guest("arm64-6.1") else { return };
    let (image, truth) = (folder.join("mem.elf.zst"), folder.join("truth.json"));
    check(&image, &truth, ALL);
    check(&image, &truth, SYSTEM);
}

#[test]
fn the_sample() {
    if Command::new("python3").arg("--version").output().is_err() {
        return skip("python3, which runs guests/check-cli, is not there");
    }
    let folder = top().join("guests/sample");
    check(&folder.join("mem.elf.zst"), &folder.join("truth.json"), ALL);
}

#[test]
fn x86_64_6_1_core() {
    let Some(folder) = guest("x86_64-6.1") else { return };
    check(&folder.join("mem.elf.zst"), &folder.join("truth.json"), ALL);
}

#[test]
fn x86_64_6_1_raw() {
    let Some(folder) = guest("x86_64-6.1") else { return };
    let image = raw(&folder, "x86_64-6.1");
    check(&image, &folder.join("truth.json"), WITHOUT_STACKS);
    std::fs::remove_file(image).unwrap();
}

#[test]
fn x86_64_6_1_pti_core() {
    let Some(folder) = guest("x86_64-6.1-pti") else { return };
    check(&folder.join("mem.elf.zst"), &folder.join("truth.json"), ALL);
}

#[test]
fn x86_64_6_1_pti_raw() {
    let Some(folder) = guest("x86_64-6.1-pti") else { return };
    let image = raw(&folder, "x86_64-6.1-pti");
    check(&image, &folder.join("truth.json"), WITHOUT_STACKS);
    std::fs::remove_file(image).unwrap();
}

/// Its memory begins at 0x40000000, which nobody tells.
#[test]
fn arm64_6_1_raw() {
    let Some(folder) = guest("arm64-6.1") else { return };
    let image = raw(&folder, "arm64-6.1");
    check(&image, &folder.join("truth.json"), WITHOUT_STACKS);
    std::fs::remove_file(image).unwrap();
}

/// A module of that kernel, made by pahole and gcc out of the vmlinux' types: not linked, its debug sections packed, nothing in
/// it but types and what kernel it is for.
#[test]
fn x86_64_tiny_with_a_modules_types() {
    let Some(folder) = guest("x86_64-tiny") else { return };
    let made = scratch().join("tiny-module");
    let symbols = made.join("symbols");
    std::fs::create_dir_all(&symbols).unwrap();
    let truth: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("truth.json")).unwrap()).unwrap();
    let release = truth["uname"]["release"].as_str().unwrap();
    let source = format!(
        "#include \"types.h\"\nstatic const char info[] __attribute__((section(\".modinfo\"), used)) =\n\
         \"license=GPL\\0vermagic={release} SMP mod_unload \";\n"
    );
    std::fs::write(made.join("module.c"), source).unwrap();
    let script = format!(
        "set -e; xz -dc {} > vmlinux; pahole -J vmlinux; pahole -F btf --compile vmlinux > types.h; \
         gcc -c -w -g -gz -fno-eliminate-unused-debug-types module.c -o symbols/module.ko",
        folder.join("vmlinux.xz").display()
    );
    let output = Command::new("sh").arg("-c").arg(script).current_dir(&made).output().unwrap();
    if !output.status.success() {
        return skip(&format!("pahole and gcc make no module: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let words = format!("--symbols {}", symbols.display());
    check_with(&folder.join("mem.elf.zst"), &folder.join("truth.json"), ALL, &words);
    std::fs::remove_dir_all(made).unwrap();
}

/// Only the threads that were on a CPU may lack their stacks in a raw image.
#[test]
fn raw_images_lack_only_the_stacks_of_threads_on_a_cpu() {
    let Some(folder) = guest("x86_64-6.1-pti") else { return };
    let image = raw(&folder, "x86_64-6.1-pti-stacks");
    let bt = |image: &Path| -> Vec<serde_json::Value> {
        let rows = vmc(&["bt", image.to_str().unwrap(), "--user", "--format", "json"]).succeeded().stdout;
        serde_json::from_str(&rows).unwrap()
    };
    let (with, without) = (bt(&folder.join("mem.elf.zst")), bt(&image));
    assert_eq!(with.len(), without.len());
    let mut missing = 0;
    for (core, raw) in with.iter().zip(&without) {
        assert_eq!(core["tid"], raw["tid"]);
        if core["on_cpu"] == true && core["frames"] != raw["frames"] {
            missing += 1;
        } else {
            assert_eq!(core["frames"], raw["frames"]);
        }
    }
    assert!((1..=2).contains(&missing), "{missing} threads lack their stacks");
    std::fs::remove_file(image).unwrap();
}

/// A kernel with neither VMCOREINFO nor BTF: its image is found by page tables, kallsyms in it by its content, and types come
/// out of the DWARF that the user gives.
#[test]
fn x86_64_tiny_with_its_vmlinux() {
    let Some(folder) = guest("x86_64-tiny") else { return };
    let symbols = scratch().join("tiny-symbols");
    std::fs::create_dir_all(&symbols).unwrap();
    let unpacked = std::fs::File::create(symbols.join("vmlinux")).unwrap();
    let packed = folder.join("vmlinux.xz");
    if !Command::new("xz").arg("-dc").arg(&packed).stdout(unpacked).status().is_ok_and(|s| s.success()) {
        return skip("xz does not unpack the guest's vmlinux");
    }
    let (image, truth) = (folder.join("mem.elf.zst"), folder.join("truth.json"));
    let words = format!("--symbols {}", symbols.display());
    check_with(&image, &truth, ALL, &words);
    // It has no modules, and so no sections of them.
    let system: Vec<&str> = SYSTEM.iter().copied().filter(|check| *check != "sections").collect();
    check_with(&image, &truth, &system, &words);
    let raw = raw(&folder, "x86_64-tiny");
    check_with(&raw, &truth, WITHOUT_STACKS, &words);
    std::fs::remove_file(raw).unwrap();
    // Packed as it lies there; `info` says where its words are from.
    let info =
        vmc(&["info", image.to_str().unwrap(), "--format", "json", "--symbols", folder.to_str().unwrap()]);
    let info: serde_json::Value = serde_json::from_str(&info.succeeded().stdout).unwrap();
    assert_eq!((info["types"].as_str(), info["symbols"].as_str()), (Some("dwarf"), Some("kallsyms")));
}

/// Without files, and with files of other kernels: one line that says what is missing.
#[test]
fn a_kernel_without_types_gets_one_line() {
    let Some(folder) = guest("x86_64-tiny") else { return };
    let image = folder.join("mem.elf.zst");
    let wrong = scratch().join("wrong-symbols");
    std::fs::create_dir_all(&wrong).unwrap();
    // Another kernel's ISF, BTF that is none, and an ELF file that is no kernel.
    let isf = r#"{"base_types": {}, "user_types": {"task_struct": {"kind": "struct", "size": 8, "fields": {}}}, "enums": {},
        "symbols": {"linux_banner": {"address": 0, "constant_data": "TGludXggdmVyc2lvbiA2LjEuMTkyIChhYkBjKQoA"}}}"#;
    std::fs::write(wrong.join("a.json"), isf).unwrap();
    std::fs::write(wrong.join("b.btf"), b"\x9f\xeb\x01\0").unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_vmc"), wrong.join("vmlinux-6.1.192")).unwrap();
    for (words, said) in [
        (vec![], &["--symbols DIR"][..]),
        (
            vec!["--symbols", wrong.to_str().unwrap()],
            &[
                "a.json: it is of another kernel: its banner is \"Linux version 6.1.192 (ab@c)\"",
                "b.btf: its BTF",
                "vmlinux-6.1.192: it",
            ],
        ),
    ] {
        let answer = vmc(&[&["ps", image.to_str().unwrap()], &*words].concat());
        let lines = answer.stderr.lines().count();
        assert_eq!((answer.status, answer.stdout.as_str(), lines), (1, "", 1), "{answer:?}");
        for part in
            ["Linux 6.1.192 has no type information", "Linux version 6.1.192 (lab@lab)"].iter().chain(said)
        {
            assert!(answer.stderr.contains(part), "{part}: {answer:?}");
        }
    }
}

#[test]
fn memory_stays_small() {
    let Some(folder) = guest("x86_64-6.1") else { return };
    let image = folder.join("mem.elf.zst");
    vmc(&["info", image.to_str().unwrap()]).succeeded();
    for command in ["ps", "bt"] {
        let peak = peak_of_anonymous_memory(command, &image);
        println!("{command}: {} MiB of anonymous memory at the most", peak >> 20);
        assert!(peak <= 64 << 20, "{command}: {peak} bytes");
    }
}

/// The bound is on what the process itself allocates, so the address space is limited to that beyond what is mapped: the
/// tool has to run within `RLIMIT_DATA` of 64 MiB (private writable memory: heap, stacks of workers).
fn peak_of_anonymous_memory(command: &str, image: &Path) -> u64 {
    let limits = [16u64, 32, 64, 128, 256];
    let fits = |mib: &&u64| {
        let shell = format!("ulimit -d {}; exec \"$@\"", **mib << 10);
        let mut run = Command::new("sh");
        run.args(["-c", &shell, "sh", env!("CARGO_BIN_EXE_vmc"), command])
            .arg(image)
            .arg("--cache-dir")
            .arg(scratch());
        // glibc's arenas and rayon's stacks reserve address space that is never touched: one worker, one arena.
        run.env("RAYON_NUM_THREADS", "1").env("MALLOC_ARENA_MAX", "1");
        run.output().unwrap().status.success()
    };
    limits.iter().find(fits).map_or(u64::MAX, |mib| mib << 20)
}
