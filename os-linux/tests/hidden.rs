//! The sample guest with tasks taken off what holds them, one way at a time: each has to be named, with that way and no other, and
//! nothing else.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use std::collections::BTreeSet;
use std::time::Instant;

use common::patched::{Patched, member, named, open, patched, patched_words};
use common::{image, truth};
use vmc::layout::Types;
use vmc::{Limits, VirtAddr, VirtualMemory};
use vmc_linux::{Linux, Survey, Task};

/// The words that `list_del()` writes to take the node at `node` off its list; its own pointers stay.
fn unlinked(linux: &Linux<'_>, node: VirtAddr) -> Vec<(VirtAddr, u64)> {
    let next = linux.space().read_u64(node).unwrap();
    let previous = linux.space().read_u64(node.wrapping_add(8)).unwrap();
    vec![(VirtAddr::new(previous), next), (VirtAddr::new(next).wrapping_add(8), previous)]
}

/// The words that take a task off a list by the member that holds it there.
fn off(linux: &Linux<'_>, task: VirtAddr, link: &str) -> Vec<(VirtAddr, u64)> {
    unlinked(linux, member(linux, "task_struct", link, task))
}

/// The word that takes a task out of its number.
fn out_of_number(linux: &Linux<'_>, task: VirtAddr) -> (VirtAddr, u64) {
    let number = linux.space().read_u64(member(linux, "task_struct", "thread_pid", task)).unwrap();
    (member(linux, "pid", "tasks", VirtAddr::new(number)), 0)
}

/// The word at `at`, with its low half replaced.
fn low_half(linux: &Linux<'_>, at: VirtAddr, value: u32) -> (VirtAddr, u64) {
    (at, linux.space().read_u64(at).unwrap() & !0xffff_ffff | u64::from(value))
}

fn symbol(linux: &Linux<'_>, name: &str) -> VirtAddr {
    VirtAddr::new(linux.symbols().named(name.as_bytes()).next().unwrap().address)
}

/// The slot of the tree of numbers that holds the task's.
fn slot(linux: &Linux<'_>, task: VirtAddr) -> VirtAddr {
    let space = linux.space();
    let pid = space.read_u64(member(linux, "task_struct", "pid", task)).unwrap() & 0xffff_ffff;
    let mut at = member(linux, "pid_namespace", "idr.idr_rt.xa_head", symbol(linux, "init_pid_ns"));
    while space.read_u64(at).unwrap() & 3 == 2 {
        let node = VirtAddr::new(space.read_u64(at).unwrap() - 2);
        let mut shift = [0];
        space.read(member(linux, "xa_node", "shift", node), &mut shift).unwrap();
        at = member(linux, "xa_node", "slots", node).wrapping_add((pid >> shift[0] & 63) * 8);
    }
    at
}

/// What was found of a process, or a thread.
type Mark = (String, u32, Vec<&'static str>);

/// Everything that is marked.
fn marked(survey: &Survey<Task<'_, '_>>) -> Vec<Mark> {
    let hidden = survey.rows.iter().filter(|row| row.ways.is_hidden());
    hidden
        .map(|row| (row.what.name().unwrap(), row.what.tid().unwrap(), row.ways.hidden_from().collect()))
        .collect()
}

/// The numbers of all rows, and how often memory has one of them.
fn numbers(survey: &Survey<Task<'_, '_>>) -> (BTreeSet<u32>, usize) {
    let in_memory = |row: &&vmc_linux::Surveyed<Task<'_, '_>>| {
        row.ways.0.iter().any(|way| way.name == "memory" && way.found)
    };
    let pids = survey.rows.iter().map(|row| row.what.tid().unwrap()).collect();
    (pids, survey.rows.iter().filter(in_memory).count())
}

/// The processes, by the guest's own word.
fn told() -> BTreeSet<u32> {
    let truth = truth();
    truth["processes"].as_array().unwrap().iter().map(|row| row["pid"].as_u64().unwrap() as u32).collect()
}

/// The guest in which `name` is hidden by the words that `find` gives, and what is marked in it.
fn marks(name: &str, find: impl FnOnce(&Linux<'_>, VirtAddr) -> Vec<(VirtAddr, u64)>) -> Vec<Mark> {
    let guest = patched_words(|linux| find(linux, named(linux, name).address()));
    let linux = open(&guest);
    let survey = linux.processes_all_ways().unwrap();
    assert!(survey.errors.is_empty(), "{:?}", survey.errors);
    assert_eq!(numbers(&survey).0, told());
    marked(&survey)
}

fn only(marks: &[Mark], name: &str, ways: &[&str]) {
    assert_eq!(marks.len(), 1, "{marks:?}");
    assert_eq!((marks[0].0.as_str(), marks[0].2.as_slice()), (name, ways));
}

#[test]
fn nothing_is_marked_where_nothing_was_hidden() {
    let image = image();
    let linux = Linux::open(&image, &image).unwrap();
    let survey = linux.processes_all_ways().unwrap();
    assert!(survey.errors.is_empty(), "{:?}", survey.errors);
    assert_eq!(marked(&survey), []);
    let (pids, in_memory) = numbers(&survey);
    assert_eq!((&pids, in_memory), (&told(), pids.len()));
    assert!(linux.modules_all_ways().unwrap().rows.is_empty());
}

#[test]
fn each_way_names_what_was_taken_off_it() {
    only(&marks("deep", |linux, task| off(linux, task, "tasks")), "deep", &["task_list"]);
    only(&marks("deep", |linux, task| off(linux, task, "thread_node")), "deep", &["thread_lists"]);
    only(&marks("deep", |linux, task| off(linux, task, "sibling")), "deep", &["children"]);
    only(&marks("deep", |linux, task| vec![out_of_number(linux, task)]), "deep", &["pid_idr"]);
    only(&marks("deep", |linux, task| vec![(slot(linux, task), 0)]), "deep", &["pid_idr"]);
    // It says that it waits for a CPU, and no CPU knows of it.
    let queued =
        |linux: &Linux<'_>, task| vec![low_half(linux, member(linux, "task_struct", "on_rq", task), 1)];
    only(&marks("deep", queued), "deep", &["run_queues"]);
}

/// Off everything that a tool could list: what is left is its memory.
fn off_everything(linux: &Linux<'_>, task: VirtAddr) -> Vec<(VirtAddr, u64)> {
    let lists = ["tasks", "thread_node", "sibling"];
    let mut words: Vec<_> = lists.iter().flat_map(|link| off(linux, task, link)).collect();
    words.extend([out_of_number(linux, task), (slot(linux, task), 0)]);
    words
}

const EVERYTHING: [&str; 4] = ["task_list", "thread_lists", "pid_idr", "children"];

#[test]
fn what_is_on_nothing_at_all_is_found_in_memory() {
    only(&marks("deep", off_everything), "deep", &EVERYTHING);
    // A process with ten threads, which are on their lists still.
    only(&marks("threads", |linux, task| off(linux, task, "tasks")), "threads", &["task_list"]);
}

#[test]
fn memory_is_searched_whole_where_pages_do_not_tell() {
    let elsewhere = |linux: &Linux<'_>| {
        let cache = symbol(linux, "task_struct_cachep");
        (cache, linux.space().read_u64(cache).unwrap() + 8)
    };
    let guest = patched(elsewhere);
    let linux = open(&guest);
    let begun = Instant::now();
    let survey = linux.processes_all_ways().unwrap();
    assert!(begun.elapsed().as_secs() < 20);
    assert_eq!(marked(&survey), []);
    let (pids, in_memory) = numbers(&survey);
    assert_eq!((&pids, in_memory), (&told(), pids.len()));

    let guest = patched_words(|linux| {
        let mut words = off_everything(linux, named(linux, "deep").address());
        words.push(elsewhere(linux));
        words
    });
    only(&marked(&open(&guest).processes_all_ways().unwrap()), "deep", &EVERYTHING);
}

#[test]
fn a_thread_that_was_hidden_has_a_row_of_its_own() {
    let mut tid = 0;
    let guest = patched_words(|linux| {
        let thread = named(linux, "threads").threads().unwrap().map(Result::unwrap).nth(3).unwrap();
        tid = thread.tid().unwrap();
        assert_ne!(tid, thread.pid().unwrap());
        off(linux, thread.address(), "thread_node")
    });
    let linux = open(&guest);
    let survey = linux.processes_all_ways().unwrap();
    let marks = marked(&survey);
    assert_eq!(
        (marks.len(), marks[0].1, marks[0].2.as_slice()),
        (1, tid, &["thread_lists"][..]),
        "{marks:?}"
    );
}

/// What is gone from all lists because it has ended, or is not on them yet, is not hidden.
#[test]
fn the_ended_and_the_unborn_are_told_apart() {
    type Change = fn(&Linux<'_>, VirtAddr) -> Vec<(VirtAddr, u64)>;
    fn field(linux: &Linux<'_>, task: VirtAddr, path: &str) -> VirtAddr {
        member(linux, "task_struct", path, task)
    }
    let changes: [Change; 3] = [
        // Freed: nobody refers to it.
        |linux, task| vec![low_half(linux, field(linux, task, "usage"), 0)],
        // release_task() is at work: EXIT_DEAD, PF_EXITING.
        |linux, task| {
            let flags = field(linux, task, "flags");
            vec![
                low_half(linux, field(linux, task, "exit_state"), 0x10),
                low_half(linux, flags, linux.space().read_u64(flags).unwrap() as u32 | 4),
            ]
        },
        // fork() is: TASK_NEW.
        |linux, task| vec![low_half(linux, field(linux, task, "__state"), 0x800)],
    ];
    for change in changes {
        let guest = patched_words(|linux| {
            let task = named(linux, "deep").address();
            let mut words = off_everything(linux, task);
            words.extend(change(linux, task));
            words
        });
        let linux = open(&guest);
        let survey = linux.processes_all_ways().unwrap();
        assert_eq!((marked(&survey), survey.ended), (vec![], 1));
        assert_eq!(numbers(&survey).0.len(), told().len() - 1);
    }
}

/// Walks over what was changed, and says what stopped it; it has to end soon, and the rest has to stay.
fn ends(guest: &Patched, limits: Limits) -> Vec<String> {
    let linux = Linux::open_with(guest, &guest.image, limits).unwrap();
    let begun = Instant::now();
    let survey = linux.processes_all_ways().unwrap();
    assert!(begun.elapsed().as_secs() < 20);
    assert!(numbers(&survey).0.len() >= 10);
    survey.errors.messages
}

#[test]
fn damaged_ways_end_and_say_so() {
    let says = |errors: &[String], what: &str| assert!(errors.iter().any(|e| e.contains(what)), "{errors:?}");
    // A child that is its own next one; a tree of numbers that contains itself; a number whose tasks lie nowhere.
    let guest = patched(|linux| {
        let link = member(linux, "task_struct", "sibling", named(linux, "deep").address());
        (link, link.get())
    });
    says(&ends(&guest, Limits::default()), "circle");
    let guest = patched(|linux| {
        let slot = slot(linux, named(linux, "deep").address());
        let head = symbol(linux, "init_pid_ns");
        let root =
            linux.space().read_u64(member(linux, "pid_namespace", "idr.idr_rt.xa_head", head)).unwrap();
        (slot, root)
    });
    says(&ends(&guest, Limits::default()), "its levels do not descend");
    for wild in [0x1000, 0xdead_0000_0000_0100, 0xffff_8000_0000_0000, u64::MAX - 7] {
        let guest = patched(|linux| (out_of_number(linux, named(linux, "deep").address()).0, wild));
        says(&ends(&guest, Limits::default()), "pid_idr");
        let guest = patched(|linux| (slot(linux, named(linux, "deep").address()), wild));
        ends(&guest, Limits::default());
    }
    // More that looks like a task than may be looked at.
    let guest = Patched { image: image(), words: Vec::new() };
    let few = Limits { scan_candidates: 8, ..Limits::default() };
    says(&ends(&guest, few), "more places than the limit");
    let few = Limits { tasks: 20, tree_nodes: 1, namespaces: 1, ..Limits::default() };
    says(&ends(&guest, few), "limit");
}

/// What lies behind a break is not hidden: nobody looked.
#[test]
fn a_way_that_ends_early_promises_nothing() {
    let nothing = |guest: &Patched, limits: Limits, way: &str| {
        let linux = Linux::open_with(guest, &guest.image, limits).unwrap();
        let survey = linux.processes_all_ways().unwrap();
        let messages = &survey.errors.messages;
        assert!(messages.iter().any(|why| why.contains(way)), "{way}: {messages:?}");
        assert_eq!(marked(&survey), [], "{way}");
    };
    let all = Limits::default();
    // Each of a task's lists, torn at it.
    for (link, way) in [("tasks", "task_list"), ("thread_node", "thread_lists"), ("sibling", "children")] {
        for wild in [None, Some(0xdead_0000_0000_0100)] {
            let guest = patched(|linux| {
                let link = member(linux, "task_struct", link, named(linux, "deep").address());
                (link, wild.unwrap_or(link.get()))
            });
            nothing(&guest, all.clone(), way);
        }
    }
    // The tree of numbers, and the tasks of one number.
    let guest = patched(|linux| (slot(linux, linux.process(1).unwrap().address()), 0xdead_0000_0000_0002));
    nothing(&guest, all.clone(), "pid_idr");
    let guest = patched(|linux| (out_of_number(linux, named(linux, "deep").address()).0, 0x1000));
    nothing(&guest, all.clone(), "pid_idr");
    // The queue of the CPU on which a task says that it waits.
    let guest = patched_words(|linux| {
        let task = named(linux, "deep").address();
        let mut cpu = [0; 4];
        let at = linux.types().member("task_struct", "cpu").map(|member| member.offset);
        let at = at.or_else(|_| linux.types().member("task_struct", "thread_info.cpu").map(|m| m.offset));
        linux.space().read(task.wrapping_add(at.unwrap()), &mut cpu).unwrap();
        let offset = symbol(linux, "__per_cpu_offset").wrapping_add(u64::from(u32::from_le_bytes(cpu)) * 8);
        let queue = symbol(linux, "runqueues").wrapping_add(linux.space().read_u64(offset).unwrap());
        vec![
            low_half(linux, member(linux, "task_struct", "on_rq", task), 1),
            (member(linux, "rq", "cfs_tasks", queue), 0xdead_0000_0000_0100),
        ]
    });
    nothing(&guest, all.clone(), "run_queues");
    // Limits that are met.
    let guest = Patched { image: image(), words: Vec::new() };
    nothing(&guest, Limits { tasks: 12, ..all.clone() }, "limit");
    nothing(&guest, Limits { tree_nodes: 1, ..all.clone() }, "pid_idr");
    nothing(&guest, Limits { namespaces: 0, ..all }, "namespaces");
}

#[test]
fn the_types_know_what_is_read() {
    let image = image();
    let linux = Linux::open(&image, &image).unwrap();
    for (structure, path) in
        [("rq", "cfs_tasks"), ("rq", "rt.active.queue"), ("rq", "dl.root.rb_root.rb_node")]
    {
        assert!(linux.types().member(structure, path).is_ok(), "{structure}.{path}");
    }
}
