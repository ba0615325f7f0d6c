//! What is written, read back: by `go tool pprof` where there is one, by the rules of `stackcollapse-perf`, by an XML reader's.

use std::collections::BTreeMap;
use std::process::Command;

use regex::Regex;
use vmc::VirtAddr;
use vmc::view::{FoundBy, Frame, FrameModule, FrameSymbol, Space};
use vmc_unwind::CodeAddress;

use super::pprof::Times;
use super::*;
use crate::record::Per;
use crate::record::profile::{Key, Profile, Thread};

/// A guest's name that tries to break out of whatever it is put into.
const EVIL: &str = "a;b\n<x>&\"\u{1b}[2J";

fn frame(space: Space, ip: u64, name: Option<&str>, module: &str) -> (CodeAddress, Frame) {
    let start = VirtAddr::new(ip & !0xfff);
    let frame = Frame {
        ip: VirtAddr::new(ip),
        sp: VirtAddr::new(0),
        cfa: None,
        space,
        symbol: name.map(|name| FrameSymbol { name: name.into(), offset: ip & 0xfff, start }),
        function_start: Some(start),
        module: Some(std::sync::Arc::new(FrameModule {
            path: module.into(),
            base: VirtAddr::new(ip & !0xff_ffff),
            build_id: Some(vmc::view::BuildId(vec![0xab; 20].into())),
            debug_link: None,
        })),
        found_by: FoundBy::Cfi,
        signal: false,
    };
    (CodeAddress::InstructionPointer(VirtAddr::new(ip)), frame)
}

/// Two threads: one in the kernel for 7 samples, one in its program for 3.
fn profile() -> Profile {
    let mut profile = Profile { timed: Some(Vec::new()), ..Profile::default() };
    let mut place = |(address, frame): (CodeAddress, Frame)| profile.place(address, &frame, 2048).unwrap();
    let main = place(frame(Space::User, 0x1_0000_1010, Some("main"), "/bin/evil dir/prog"));
    let read = place(frame(Space::User, 0x1_0000_2020, Some(EVIL), "/bin/evil dir/prog"));
    let unnamed = place(frame(Space::User, 0x7f00_0000_3030, None, "/lib/libc.so.6"));
    let entry = place(frame(Space::Kernel, 0xffff_ffff_8100_4040, Some("do_syscall_64"), "kernel"));
    let work = place(frame(Space::Kernel, 0xffff_ffff_c000_5050, Some("work"), "ext4"));
    let mut thread = |pid, tid, name: &str| {
        let process = String::from("prog");
        profile.threads.number(Thread { pid, tid, name: name.into(), process, started: 1 }).unwrap()
    };
    let (first, second) = (thread(10, 10, "prog"), thread(10, 11, EVIL));
    let deep = profile.stacks.number(vec![work, entry, read, main]).unwrap();
    let shallow = profile.stacks.number(vec![unnamed, main]).unwrap();
    for at in 0..10u64 {
        let key = if at < 7 {
            Key { thread: first, cpu: 0, stack: deep }
        } else {
            Key { thread: second, cpu: 1, stack: shallow }
        };
        profile.count(at * 10_000_000, key);
    }
    profile
}

fn folded(per: Per) -> String {
    let mut out = Vec::new();
    folded::write(&profile(), per, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn endings_tell_the_form() {
    for (name, form) in [
        ("a.svg", Form::Svg),
        ("b/c.folded", Form::Folded),
        ("x.pb.gz", Form::Pprof),
        ("perf.txt", Form::Perf),
    ] {
        assert_eq!(Form::of(Path::new(name)), Ok(form));
    }
    for wrong in ["a", "a.gz", "svg", "a.SVG", ""] {
        assert!(Form::of(Path::new(wrong)).unwrap_err().contains(".pb.gz"), "{wrong}");
    }
}

#[test]
fn folded_lines_have_all_samples_and_no_name_breaks_out() {
    let text = folded(Per::Process);
    let counts: u64 = text.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum();
    assert_eq!(counts, 10);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    let deep = lines.iter().find(|line| line.ends_with(" 7")).unwrap();
    assert_eq!(deep.split(';').count(), 5, "{deep}");
    assert!(deep.starts_with("prog (10);main;") && deep.ends_with("do_syscall_64_[k];work_[k] 7"));
    let shallow = lines.iter().find(|line| line.ends_with(" 3")).unwrap();
    assert_eq!(*shallow, "prog (10);main;[libc.so.6+0x3000] 3");
    assert!(!text.contains('\u{1b}'));
    let threads = folded(Per::Thread);
    assert!(threads.contains("prog (10);prog (10);main") && threads.contains("(11);main"), "{threads}");
    assert!(folded(Per::Cpu).contains("CPU 1;prog (10);main;"));
}

/// The lines of `perf script` as `stackcollapse-perf.pl` reads them: its two expressions for events and frames.
#[test]
fn perf_text_is_read_by_the_rules_of_stackcollapse() {
    let profile = profile();
    let mut out = Vec::new();
    perf::write(&profile, 10_101_010, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let event = Regex::new(r"^(\S.+?)\s+(\d+)/*(\d+)*\s+").unwrap();
    let kind = Regex::new(r":\s*(\d+)*\s+(\S+):\s*$").unwrap();
    let frame = Regex::new(r"^\s*(\w+)\s*(.+) \((\S*)\)$").unwrap();
    let mut stacks: BTreeMap<String, u64> = BTreeMap::new();
    let mut names = Vec::new();
    for line in text.lines() {
        if line.is_empty() {
            let stack: Vec<&str> = names.drain(..).rev().collect();
            *stacks.entry(stack.join(";")).or_default() += 1;
        } else if let Some(found) = frame.captures(line) {
            let function = found.get(2).unwrap().as_str();
            names.push(function.rsplit_once("+0x").map_or(function, |(name, _)| name));
            assert_eq!(
                u64::from_str_radix(&found[1], 16).unwrap() >> 48 & 1,
                u64::from(found[1].len() == 16),
                "{line}"
            );
        } else {
            let found = event.captures(line).unwrap_or_else(|| panic!("neither event nor frame: {line}"));
            assert!(["10", "11"].contains(&&found[3]) && &found[2] == "10", "{line}");
            assert_eq!(&kind.captures(line).unwrap()[2], "cpu-clock");
        }
    }
    assert_eq!(stacks.values().sum::<u64>(), 10);
    assert_eq!(stacks.len(), 2, "{stacks:?}");
    assert_eq!(stacks["main;[unknown]"], 3);
    let (deep, count) = stacks.iter().find(|(stack, _)| stack.ends_with("do_syscall_64;work")).unwrap();
    assert!(deep.starts_with("main;") && *count == 7);
}

#[test]
fn the_flame_graph_is_well_formed_and_its_widths_are_the_shares() {
    let mut out = Vec::new();
    svg::write(&profile(), Per::Process, "a <guest>", "10 samples", &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(!text.contains("<x>") && !text.contains('\u{1b}') && text.contains("a &lt;guest&gt;"));
    // Every element that is opened is closed, in its order.
    let (before, script) = text.split_once("<![CDATA[").unwrap();
    let body = format!("{before}{}", script.split_once("]]>").unwrap().1);
    let tags = Regex::new(r"<(/?)([a-z]+)[^<>]*?(/?)>").unwrap();
    let mut open: Vec<String> = Vec::new();
    for tag in tags.captures_iter(&body) {
        match (&tag[1], &tag[3]) {
            ("/", _) => assert_eq!(open.pop().as_deref(), Some(&tag[2])),
            (_, "/") => {}
            _ => open.push(tag[2].to_owned()),
        }
    }
    assert!(open.is_empty(), "{open:?}");
    let width = |name: &str| -> f64 {
        let title = format!("<title>{name}");
        let (_, rest) = text.split_once(&title).unwrap_or_else(|| panic!("{name} has no box"));
        let (_, width) = rest.split_once(" width=\"").unwrap();
        width.split_once('"').unwrap().0.parse().unwrap()
    };
    for (name, share) in [("all", 1.0), ("main", 1.0), ("do_syscall_64", 0.7), ("[libc.so.6+0x3000]", 0.3)] {
        assert!((width(name) / width("all") - share).abs() < 0.001, "{name}");
    }
}

#[test]
fn pprof_reads_what_is_written() {
    if Command::new("go").arg("version").output().is_err() {
        return crate::skipped::skip("go is not installed: no pprof to read the profile with");
    }
    let dir = std::env::temp_dir().join(format!("vmc-pprof-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("p.pb.gz");
    let times = Times { start: 1_700_000_000_000_000_000, duration: 100_000_000, period: 10_000_000 };
    pprof::write(&profile(), times, &mut std::fs::File::create(&path).unwrap()).unwrap();
    let pprof = |words: &[&str]| {
        let made = Command::new("go")
            .args(["tool", "pprof"])
            .args(words)
            .arg(&path)
            .env("HOME", &dir)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(made.status.success(), "{said}");
        String::from_utf8(made.stdout).unwrap()
    };
    let raw = pprof(&["-raw"]);
    assert!(raw.contains("PeriodType: cpu nanoseconds") && raw.contains("Period: 10000000"), "{raw}");
    assert!(raw.contains("samples/count cpu/nanoseconds"), "{raw}");
    assert!(raw.contains("7   70000000") && raw.contains("3   30000000"), "{raw}");
    assert!(raw.contains("comm:[prog]") && raw.contains("pid:[10]") && raw.contains("cpu:[1]"), "{raw}");
    assert!(raw.contains("[kernel.kallsyms] abababab") && raw.contains("/lib/libc.so.6 abababab"), "{raw}");
    let top = pprof(&["-top", "-sample_index=samples"]);
    let line = |name: &str| {
        top.lines().find(|line| line.trim_end().ends_with(name)).unwrap_or_else(|| panic!("{top}")).to_owned()
    };
    assert!(line("work").split_whitespace().next() == Some("7"), "{top}");
    assert!(line("main").contains("100%"), "{top}");
    std::fs::remove_dir_all(&dir).unwrap();
}
