//! The kernel parts of all stacks against the guest's own `/proc/PID/stack`, and hostile ones.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use common::{image, number, truth};
use serde_json::Value;
use vmc::view::{FoundBy, Space, Stack, Stop};
use vmc_linux::{Linux, Task};
use vmc_unwind::Cache;

fn threads<'k, 'm>(linux: &'k Linux<'m>) -> Vec<Task<'k, 'm>> {
    let processes = linux.processes().unwrap().map(Result::unwrap);
    processes.flat_map(|process| process.threads().unwrap()).map(Result::unwrap).collect()
}

/// What the guest showed of threads that slept: number, and its lines without the functions' sizes.
fn told(truth: &Value) -> Vec<(u32, Vec<String>)> {
    let processes = truth["processes"].as_array().unwrap().iter().filter(|p| p["comm"] != "collect");
    let threads = processes.flat_map(|process| process["threads"].as_array().unwrap());
    let asleep = threads.filter(|thread| thread["running"] != true && thread["state"] != "R");
    let line = |line: &Value| {
        let line = line.as_str().unwrap();
        line.split('/').next().unwrap().to_owned()
    };
    let lines = |thread: &Value| {
        let lines = thread["kstack"].as_array().map(|lines| lines.iter().map(line).collect::<Vec<_>>());
        (number(&thread["tid"]) as u32, lines.unwrap_or_default())
    };
    asleep.map(lines).filter(|(_, lines)| !lines.is_empty()).collect()
}

fn shown(stack: &Stack) -> Vec<String> {
    let frames = stack.frames.iter().filter(|frame| frame.space == Space::Kernel);
    let symbols = frames.filter_map(|frame| frame.symbol.as_ref());
    symbols.map(|symbol| format!("{}+{:#x}", symbol.name, symbol.offset)).collect()
}

#[test]
fn every_sleeping_thread_stands_where_proc_shows_it() {
    let (image, truth) = (image(), truth());
    let linux = Linux::open(&image, &image).unwrap();
    let stacks = linux.stacks(&[]);
    let tasks = threads(&linux);
    let (mut lines, mut missing) = (0, Vec::new());
    for (tid, expected) in told(&truth) {
        let task = tasks.iter().find(|task| task.tid() == Ok(tid)).unwrap();
        let stack = stacks.kernel_stack(task);
        let mut rest = shown(&stack).into_iter();
        for line in expected {
            lines += 1;
            if !rest.by_ref().any(|frame| frame == line) {
                missing.push((tid, line));
            }
        }
    }
    // Threads of the kernel may have gone on between the guest's word and the capture.
    assert!(lines > 50 && missing.len() * 50 <= lines, "{} of {lines}: {missing:?}", missing.len());
}

#[test]
fn every_kernel_part_is_walked_to_its_end() {
    let image = image();
    let linux = Linux::open(&image, &image).unwrap();
    let stacks = linux.stacks(&[]);
    let mut walked = 0;
    for task in threads(&linux).iter().filter(|task| !task.on_cpu() && task.state() != Ok('Z')) {
        let stack = stacks.kernel_stack(task);
        assert_eq!(stack.kernel_stop, Some(Stop::End), "{:?}: {stack:?}", task.name());
        assert!(stack.errors.is_empty() && stack.stop.is_none());
        assert!(stack.frames.windows(2).all(|pair| pair[0].sp < pair[1].sp));
        assert_eq!(stack.frames[0].found_by, FoundBy::Registers);
        assert!(stack.frames.iter().skip(1).all(|frame| frame.found_by == FoundBy::Orc));
        assert!(stack.frames.iter().all(|frame| frame.symbol.is_some() && frame.module.is_some()));
        walked += 1;
    }
    assert!(walked > 20, "{walked}");
}

#[test]
fn both_parts_come_as_one_list() {
    let image = image();
    let linux = Linux::open(&image, &image).unwrap();
    let tasks: Vec<_> = linux.processes().unwrap().map(Result::unwrap).collect();
    let stacks = linux.stacks(&tasks);
    let mut cache = Cache::new();
    let mut joined = 0;
    for task in &tasks {
        let stack = stacks.stack(task, false, &mut cache);
        let kernel = stacks.kernel_stack(task);
        let user = stacks.user_stack(task, false, &mut cache);
        assert_eq!((stack.kernel_stop, stack.stop), (kernel.kernel_stop, user.stop));
        let parts: Vec<_> = kernel.frames.iter().chain(&user.frames).map(|frame| frame.ip).collect();
        assert_eq!(stack.frames.iter().map(|frame| frame.ip).collect::<Vec<_>>(), parts);
        joined += usize::from(!kernel.frames.is_empty() && !user.frames.is_empty());
    }
    assert!(joined >= 5, "{joined}");
}

#[test]
fn cpus_that_idle_stand_in_the_kernel() {
    let image = image();
    let linux = Linux::open(&image, &image).unwrap();
    let stacks = linux.stacks(&[]);
    for task in linux.running() {
        assert!(task.on_cpu());
        let stack = stacks.kernel_stack(&task);
        if task.tid() == Ok(0) {
            assert_eq!(stack.kernel_stop, Some(Stop::End), "{stack:?}");
            let names: Vec<_> = stack.frames.iter().filter_map(|frame| frame.symbol.as_ref()).collect();
            assert!(names.iter().any(|symbol| symbol.name.contains("do_idle")), "{names:?}");
        }
    }
}
