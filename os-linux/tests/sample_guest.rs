//! The sample guest against its own word: what it said of itself while it ran is the oracle.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use std::collections::BTreeMap;

use common::{image, number, truth};
use serde_json::Value;
use vmc::view::{Process, Stop};
use vmc::{ReadExt, VirtAddr};
use vmc_linux::{Linux, Task};

/// The guest's word on its processes, without the collector: that one ran on while it told.
fn told(truth: &Value) -> Vec<&Value> {
    let all = truth["processes"].as_array().unwrap().iter();
    all.filter(|process| process["comm"] != "collect").collect()
}

fn tasks<'k, 'm>(linux: &'k Linux<'m>) -> BTreeMap<u32, Task<'k, 'm>> {
    linux.processes().unwrap().map(|task| task.unwrap()).map(|task| (task.pid().unwrap(), task)).collect()
}

#[test]
fn the_kernel_is_the_one_that_ran() {
    let (image, truth) = (image(), truth());
    let facts = Linux::open(&image, &image).unwrap().facts();
    assert_eq!(facts.release, truth["uname"]["release"]);
    assert_eq!(facts.version.unwrap(), truth["uname"]["version"]);
    assert_eq!(facts.hostname.unwrap(), truth["uname"]["hostname"]);
    assert_eq!(facts.kernel_base.get(), number(&truth["symbols"]["_text"]));
    // /proc/stat's btime is the boot's second; the kernel's clocks are stepped when the real-time clock is read.
    let btime = i128::from(truth["btime"].as_i64().unwrap());
    assert!((facts.boot_time.unwrap() / 1_000_000_000 - btime).abs() <= 1);
}

#[test]
fn symbols_are_where_the_guest_has_them() {
    let (image, truth) = (image(), truth());
    let linux = Linux::open(&image, &image).unwrap();
    let table = linux.symbols();
    assert_eq!(
        table.len() as u64,
        truth["nsyms"].as_u64().unwrap() - module_symbols(&truth, table.len() as u64)
    );
    for (name, address) in truth["symbols"].as_object().unwrap() {
        let found: Vec<u64> = table.named(name.as_bytes()).map(|symbol| symbol.address).collect();
        assert!(found.contains(&number(address)), "{name}: {found:x?}, guest says {address}");
    }
}

/// `/proc/kallsyms` also lists the modules' symbols; how many, the truth does not say.
fn module_symbols(truth: &Value, own: u64) -> u64 {
    let all = truth["nsyms"].as_u64().unwrap();
    assert!(all >= own && all - own < 20_000, "{own} symbols of the kernel, {all} with its modules");
    all - own
}

#[test]
fn processes_are_those_that_the_guest_lists() {
    let (image, truth) = (image(), truth());
    let linux = Linux::open(&image, &image).unwrap();
    let rows: BTreeMap<u32, Process> =
        tasks(&linux).iter().map(|(pid, task)| (*pid, task.process_row())).collect();
    let mut compared = 0;
    for process in told(&truth) {
        let row = &rows[&(number(&process["pid"]) as u32)];
        assert!(row.errors.is_empty(), "{row:?}");
        assert_eq!(u64::from(row.ppid.unwrap()), number(&process["ppid"]), "{row:?}");
        assert_eq!(u64::from(row.uid.unwrap()), number(&process["uid"][0]), "{row:?}");
        assert_eq!(u64::from(row.gid.unwrap()), number(&process["gid"][0]), "{row:?}");
        assert_eq!(row.kernel, process["kernel_thread"].as_bool().unwrap(), "{row:?}");
        assert_eq!(row.threads.unwrap() as usize, process["threads"].as_array().unwrap().len(), "{row:?}");
        // Clock ticks of 10 ms since the boot.
        let ticks = (row.start_time.unwrap() - linux.boot_time().unwrap()) / 10_000_000;
        assert_eq!(ticks, i128::from(number(&process["start_ticks"])), "{row:?}");
        if !row.kernel && process["state"] != "Z" {
            assert_eq!(row.exe.as_deref(), process["exe"].as_str(), "{row:?}");
            let words: Vec<&str> =
                process["cmdline"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
            assert_eq!(row.command_line.as_deref().unwrap(), words);
            compared += 1;
        }
    }
    assert!(compared >= 5, "only {compared} programs");
    let collector = truth["processes"].as_array().unwrap().len() - told(&truth).len();
    assert_eq!(rows.len(), told(&truth).len() + collector);
}

#[test]
fn mappings_are_those_of_proc_maps() {
    let (image, truth) = (image(), truth());
    let linux = Linux::open(&image, &image).unwrap();
    let tasks = tasks(&linux);
    let mut compared = 0;
    for process in told(&truth).into_iter().filter(|process| !process["maps"].as_array().unwrap().is_empty())
    {
        let (rows, ended) =
            tasks[&(number(&process["pid"]) as u32)].memory().unwrap().mapping_rows().unwrap();
        assert_eq!(ended, None);
        let maps = process["maps"].as_array().unwrap();
        assert_eq!(rows.len(), maps.len(), "{}", process["comm"]);
        for (row, map) in rows.iter().zip(maps) {
            assert_eq!((row.start.get(), row.end.get()), (number(&map["start"]), number(&map["end"])));
            assert_eq!(row.permissions.to_string(), map["perms"], "{row:?}");
            assert_eq!(row.offset, number(&map["offset"]), "{row:?}");
            assert_eq!(row.inode, number(&map["inode"]), "{row:?}");
            assert_eq!(format!("{:02x}:{:02x}", row.device.0, row.device.1), map["dev"], "{row:?}");
            assert_eq!(row.path.as_deref(), map["path"].as_str(), "{row:?}");
            compared += 1;
        }
    }
    assert!(compared > 50, "only {compared} mappings");
}

#[test]
fn modules_are_those_of_proc_modules() {
    let (image, truth) = (image(), truth());
    let linux = Linux::open(&image, &image).unwrap();
    let modules: BTreeMap<String, _> = linux
        .modules()
        .unwrap()
        .map(|module| module.unwrap())
        .map(|module| (module.name.clone(), module))
        .collect();
    let told = truth["modules"].as_array().unwrap();
    assert_eq!(modules.len(), told.len());
    for module in told {
        let row = &modules[module["name"].as_str().unwrap()];
        assert_eq!((row.base.get(), row.size), (number(&module["base"]), number(&module["size"])), "{row:?}");
        assert_eq!(row.state.unwrap(), module["state"]);
        assert_eq!(row.build_id.as_ref().unwrap().to_string(), module["build_id"].as_str().unwrap());
    }
}

#[test]
fn stacks_hold_the_return_addresses_that_the_programs_reported() {
    let (image, truth) = (image(), truth());
    let linux = Linux::open(&image, &image).unwrap();
    let leaders: Vec<Task<'_, '_>> = tasks(&linux).into_values().collect();
    let all: Vec<Task<'_, '_>> =
        leaders.iter().flat_map(|task| task.threads().unwrap()).map(Result::unwrap).collect();
    let stacks = linux.stacks(&all);
    let mut cache = vmc_unwind::Cache::new();
    let mut compared = 0;
    for report in truth["workloads"].as_array().unwrap() {
        let tid = number(&report["tid"]) as u32;
        let task = all.iter().find(|task| task.tid() == Ok(tid)).unwrap();
        let stack = stacks.user_stack(task, false, &mut cache);
        let ips: Vec<u64> = stack.frames.iter().map(|frame| frame.ip.get()).collect();
        // The program's own unwinder, run just before it blocked: from its third frame on the stack is unchanged.
        let tail: Vec<u64> = report["bt"]
            .as_array()
            .unwrap()
            .iter()
            .skip(2)
            .map(|frame| number(&frame["ip"]))
            .filter(|ip| *ip != 0)
            .collect();
        assert!(ips.ends_with(&tail), "tid {tid}: {ips:x?} ({:?}), guest says {tail:x?}", stack.stop);
        assert_eq!(stack.stop, Some(Stop::End), "tid {tid}");
        compared += tail.len();
    }
    assert!(compared > 100, "only {compared} frames");
}

#[test]
fn a_guest_without_registers_lacks_only_what_is_on_a_cpu() {
    let image = image();
    let linux = Linux::open(&image, &vmc::vcpu::NoVcpus).unwrap();
    let all: Vec<Task<'_, '_>> = tasks(&linux).into_values().collect();
    let stacks = linux.stacks(&all);
    let mut cache = vmc_unwind::Cache::new();
    let (mut running, mut whole) = (0, 0);
    for task in &all {
        let stack = stacks.user_stack(task, false, &mut cache);
        if task.on_cpu() && !task.is_kernel_thread().unwrap() {
            assert!(stack.frames.is_empty() && !stack.errors.is_empty());
            running += 1;
        } else if !stack.frames.is_empty() {
            whole += 1;
        }
    }
    assert!(running >= 1 && whole >= 5, "{running} running, {whole} with frames");
}

#[test]
fn files_that_no_page_table_maps_come_out_of_the_page_cache() {
    let (image, truth) = (image(), truth());
    let linux = Linux::open(&image, &image).unwrap();
    let tasks = tasks(&linux);
    let mut read = 0;
    for process in told(&truth).into_iter().filter(|process| !process["maps"].as_array().unwrap().is_empty())
    {
        let memory = tasks[&(number(&process["pid"]) as u32)].memory().unwrap();
        for map in process["maps"].as_array().unwrap() {
            let (start, end) = (number(&map["start"]), number(&map["end"]));
            if map["path"].as_str().is_some_and(|path| path.starts_with('/')) {
                // The sample's files live in memory: every page of each has to be there.
                let len = end - start;
                let bytes = memory.read_vec(VirtAddr::new(start), len, 16 << 20).unwrap();
                if number(&map["offset"]) == 0 {
                    assert_eq!(bytes[..4], *b"\x7fELF", "{map}");
                }
                read += 1;
            }
        }
    }
    assert!(read > 20, "only {read} mappings");
}
