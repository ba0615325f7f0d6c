//! The sample guest with single words changed: circles, endless lists, wild pointers and lengths. Every walk has to end, with
//! a reason, and what does not depend on the changed word has to stay.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use std::time::Instant;

use common::image;
use common::patched::{Patched, member, named, open, patched};
use vmc::layout::Types;
use vmc::view::Stop;
use vmc::{PhysMemory, VirtAddr, VirtualMemory};
use vmc_linux::{Linux, LinuxError};

/// All processes, and the error at the end of the list.
fn listed(linux: &Linux<'_>) -> (usize, Option<LinuxError>) {
    let mut count = 0;
    for task in linux.processes().unwrap() {
        match task {
            Ok(_) => count += 1,
            Err(why) => return (count, Some(why)),
        }
    }
    (count, None)
}

#[test]
fn a_task_list_that_leads_back_into_itself_ends() {
    let guest = patched(|linux| {
        let deep = member(linux, "task_struct", "tasks", named(linux, "deep").address());
        let second = member(linux, "task_struct", "tasks", named(linux, "kthreadd").address());
        (deep, second.get())
    });
    let (count, error) = listed(&open(&guest));
    assert!(count >= 10, "{count}");
    assert!(error.unwrap().to_string().contains("leads in a circle"));
}

#[test]
fn a_task_that_points_at_itself_ends() {
    let guest = patched(|linux| {
        let deep = member(linux, "task_struct", "tasks", named(linux, "deep").address());
        (deep, deep.get())
    });
    assert!(listed(&open(&guest)).1.unwrap().to_string().contains("leads in a circle"));
}

#[test]
fn a_task_list_with_a_wild_pointer_keeps_what_came_before() {
    for wild in [0, 0xdead_beef, u64::MAX, 0xffff_8000_0000_0000, 0x8000_0000_0000_0000] {
        let guest =
            patched(|linux| (member(linux, "task_struct", "tasks", named(linux, "deep").address()), wild));
        let linux = open(&guest);
        let (count, error) = listed(&linux);
        assert!(count >= 10 && error.is_some(), "{wild:#x}: {count}");
        // Who stands before it is still whole.
        assert!(named(&linux, "init").process_row().errors.is_empty());
    }
}

#[test]
fn a_tree_of_mappings_that_contains_itself_ends() {
    let guest = patched(|linux| {
        let mm = mm_of(linux, "deep");
        let root = linux.space().read_u64(member(linux, "mm_struct", "mm_mt.ma_root", mm)).unwrap();
        let slots = member(linux, "maple_arange_64", "slot", VirtAddr::new(root & !0xff));
        // The first child is the root again, as an inner node.
        (slots, (root & !0xff) | (3 << 3) | 4)
    });
    let linux = open(&guest);
    let begun = Instant::now();
    let rows = named(&linux, "deep").memory().unwrap().mapping_rows();
    assert!(rows.is_err() || rows.is_ok_and(|(_, ended)| ended.is_some()));
    assert!(begun.elapsed().as_secs() < 10);
    // Another process' mappings do not suffer.
    let (rows, ended) = named(&linux, "init").memory().unwrap().mapping_rows().unwrap();
    assert!(rows.len() > 5 && ended.is_none());
}

fn mm_of(linux: &Linux<'_>, name: &str) -> VirtAddr {
    let task = named(linux, name).address();
    VirtAddr::new(linux.space().read_u64(member(linux, "task_struct", "mm", task)).unwrap())
}

/// The dentry of a process' program.
fn program(linux: &Linux<'_>, name: &str) -> VirtAddr {
    let space = linux.space();
    let file = space.read_u64(member(linux, "mm_struct", "exe_file", mm_of(linux, name))).unwrap();
    let dentry = space.read_u64(member(linux, "file", "f_path.dentry", VirtAddr::new(file))).unwrap();
    VirtAddr::new(dentry)
}

#[test]
fn a_kernel_stack_that_lies_anywhere_ends() {
    for wild in [0, 0xdead_beef, u64::MAX, u64::MAX - 48, 0xffff_8000_0000_0000, 0xffff_ffff_8000_0000] {
        let guest = patched(|linux| {
            (member(linux, "task_struct", "thread.sp", named(linux, "deep").address()), wild)
        });
        let linux = open(&guest);
        let stacks = linux.stacks(&[]);
        let stack = stacks.kernel_stack(&named(&linux, "deep"));
        assert!(stack.frames.is_empty() && stack.kernel_stop.is_some() && !stack.errors.is_empty());
        assert_eq!(stacks.kernel_stack(&named(&linux, "kthreadd")).kernel_stop, Some(Stop::End));
    }
}

#[test]
fn a_kernel_stack_that_returns_into_other_code_ends() {
    let guest = patched(|linux| {
        let deep = named(linux, "deep").address();
        let sp = linux.space().read_u64(member(linux, "task_struct", "thread.sp", deep)).unwrap();
        let frame = member(linux, "inactive_task_frame", "ret_addr", VirtAddr::new(sp));
        (frame, linux.identity().stext.get() + 0x1000)
    });
    let linux = open(&guest);
    let stack = linux.stacks(&[]).kernel_stack(&named(&linux, "deep"));
    assert!(!stack.frames.is_empty() && stack.frames.len() <= linux.limits().frames);
    assert!(stack.kernel_stop.is_some());
}

#[test]
fn directories_that_contain_each_other_end() {
    let guest = patched(|linux| {
        let dentry = program(linux, "deep");
        let parent_at = member(linux, "dentry", "d_parent", dentry);
        let parent = VirtAddr::new(linux.space().read_u64(parent_at).unwrap());
        (member(linux, "dentry", "d_parent", parent), dentry.get())
    });
    let linux = open(&guest);
    let row = named(&linux, "deep").process_row();
    assert_eq!(row.exe, None);
    assert!(row.errors.messages.iter().any(|message| message.contains("longer than the limit")), "{row:?}");
    assert!(row.command_line.is_some() && row.uid == Some(0));
}

#[test]
fn a_name_of_four_gigabytes_is_not_read() {
    let guest = patched(|linux| {
        let dentry = program(linux, "deep");
        let at = member(linux, "dentry", "d_name.len", dentry);
        (at, u64::MAX)
    });
    let row = named(&open(&guest), "deep").process_row();
    assert!(row.exe.is_none_or(|path| path.len() <= 4096 * 4));
}

#[test]
fn a_command_line_of_the_whole_address_space_is_refused() {
    let guest =
        patched(|linux| (member(linux, "mm_struct", "arg_end", mm_of(linux, "deep")), 0x7fff_ffff_f000));
    let row = named(&open(&guest), "deep").process_row();
    assert_eq!(row.command_line, None);
    assert!(row.errors.messages.iter().any(|message| message.contains("limit")), "{row:?}");
    assert_eq!(row.exe.as_deref(), Some("/bin/deep"));
}

#[test]
fn a_vmcoreinfo_that_does_not_lead_to_a_kernel_is_not_believed() {
    let image = image();
    let release_at = {
        let linux = Linux::open(&image, &image).unwrap();
        let uts = linux.identity().vmcoreinfo.as_ref().unwrap().symbol("init_uts_ns").unwrap();
        linux.space().translate(uts.wrapping_add(2 * 65)).unwrap().get()
    };
    let mut guest = Patched { image, words: vec![(release_at, 0)] };
    // Its image says by itself what it is: the names that it was made with, and its banners.
    let linux = Linux::open(&guest, &guest.image).unwrap();
    assert!(linux.identity().vmcoreinfo.is_none());
    assert!(linux.process(1).unwrap().name().is_ok_and(|name| name == "init"));
    drop(linux);
    let mut words = Vec::new();
    for region in guest.image.regions() {
        let bytes = guest.image.slice(region.start, region.len as usize).unwrap();
        let banners = memchr::memmem::find_iter(bytes, b"Linux version ");
        words.extend(banners.map(|at| (region.start.get() + at as u64, 0)));
    }
    guest.words.extend(words);
    let why = Linux::open(&guest, &guest.image).unwrap_err().to_string();
    assert!(why.contains("no Linux kernel found") && why.contains("does not hold release"), "{why}");
}

/// A thread that is said to run 32-bit code, in a 64-bit program.
#[test]
fn a_wrong_code_segment_costs_one_stack() {
    let guest = patched(|linux| {
        let task = named(linux, "deep").address();
        let stack = linux.space().read_u64(member(linux, "task_struct", "stack", task)).unwrap();
        let registers = VirtAddr::new(stack + (16 << 10) - linux.types().size_of("pt_regs").unwrap());
        let cs = member(linux, "pt_regs", "cs", registers);
        assert_eq!(linux.space().read_u64(cs).unwrap(), 0x33);
        (cs, 0x23)
    });
    let linux = open(&guest);
    let tasks = [named(&linux, "deep"), named(&linux, "init")];
    let stacks = linux.stacks(&tasks);
    let mut cache = vmc_unwind::Cache::new();
    for guess in [false, true] {
        let [deep, init] = tasks.each_ref().map(|task| stacks.user_stack(task, guess, &mut cache));
        assert!(matches!(deep.stop, Some(Stop::NoUnwindInfo(at)) if at.get() < 1 << 32), "{deep:?}");
        assert_eq!(init.stop, Some(Stop::End));
    }
}
