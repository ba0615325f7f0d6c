//! A real aarch64 guest with single words changed: every walk has to end, with a reason, and what does not depend on the changed
//! word has to stay. The guest lies in `shared/` beside the repository (`VMC_SHARED` names another place).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use std::path::PathBuf;

use common::patched::{Patched, member, named, open};
use common::skip;
use vmc::layout::Types;
use vmc::view::Stop;
use vmc::{Architecture, PhysAddr, PhysMemory, VirtAddr, VirtualMemory};
use vmc_dump::{Image, OpenOptions};
use vmc_linux::{Linux, ram_base};

const WILD: [u64; 6] =
    [0, 0xdead_beef, u64::MAX, 0xffff_8000_0000_0000, 0x8000_0000_0000_0000, 0xffff_ffff_ffff_fff0];

fn image() -> Option<Image> {
    let top = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let shared = std::env::var_os("VMC_SHARED").map_or_else(|| top.join("shared"), PathBuf::from);
    let path = shared.join("guests/arm64-6.1/mem.elf.zst");
    if !path.exists() {
        skip(&format!("the guest arm64-6.1 is not in {}", shared.display()));
        return None;
    }
    let cache_dir = Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    Some(Image::open_with(path, &mut OpenOptions { cache_dir, ..OpenOptions::default() }).unwrap())
}

/// The guest with words changed.
fn patched(find: impl FnOnce(&Linux<'_>) -> Vec<(VirtAddr, u64)>) -> Option<Patched> {
    let image = image()?;
    let words = {
        let linux = Linux::open(&image, &image).unwrap();
        let physical = |at| linux.space().translate(at).unwrap().get();
        find(&linux).into_iter().map(|(at, word)| (physical(at), word)).collect()
    };
    Some(Patched { image, words })
}

fn word(linux: &Linux<'_>, at: VirtAddr) -> u64 {
    linux.space().read_u64(at).unwrap()
}

#[test]
fn registers_that_were_switched_out_may_be_anything() {
    for register in ["fp", "sp", "pc"] {
        for wild in WILD {
            let path = format!("thread.cpu_context.{register}");
            let Some(guest) = patched(|linux| {
                vec![(member(linux, "task_struct", &path, named(linux, "deep").address()), wild)]
            }) else {
                return;
            };
            let linux = open(&guest);
            let stacks = linux.stacks(&[]);
            let stack = stacks.kernel_stack(&named(&linux, "deep"));
            assert!(
                stack.kernel_stop.is_some() && stack.frames.len() < 64,
                "{register} {wild:#x}: {stack:?}"
            );
            assert_eq!(stacks.kernel_stack(&named(&linux, "kthreadd")).kernel_stop, Some(Stop::End));
        }
    }
}

#[test]
fn frame_records_that_lead_back_end() {
    let Some(guest) = patched(|linux| {
        let deep = named(linux, "deep").address();
        let first = word(linux, member(linux, "task_struct", "thread.cpu_context.fp", deep));
        let second = word(linux, VirtAddr::new(first));
        vec![(VirtAddr::new(second), first)]
    }) else {
        return;
    };
    let linux = open(&guest);
    let stack = linux.stacks(&[]).kernel_stack(&named(&linux, "deep"));
    assert!(matches!(stack.kernel_stop, Some(Stop::BadFrame(_))) && stack.frames.len() < 8, "{stack:?}");
}

#[test]
fn a_program_of_32_bits_gets_a_clear_stop() {
    let Some(guest) = patched(|linux| {
        let task = named(linux, "deep").address();
        let stack = word(linux, member(linux, "task_struct", "stack", task));
        // Pages of 4 KiB: four of them (`arch/arm64/include/asm/memory.h`).
        let registers = VirtAddr::new(stack + (16 << 10) - linux.types().size_of("pt_regs").unwrap());
        vec![(member(linux, "pt_regs", "pstate", registers), 0x10)]
    }) else {
        return;
    };
    let linux = open(&guest);
    let tasks = [named(&linux, "deep"), named(&linux, "init")];
    let stacks = linux.stacks(&tasks);
    let mut cache = vmc_unwind::Cache::new();
    let [deep, init] = tasks.each_ref().map(|task| stacks.user_stack(task, true, &mut cache));
    assert!(deep.frames.is_empty() && matches!(deep.stop, Some(Stop::NoUnwindInfo(_))), "{deep:?}");
    assert!(deep.errors.messages[0].contains("32 bits"), "{deep:?}");
    assert!(init.stop == Some(Stop::End) && init.errors.is_empty(), "{init:?}");
}

#[test]
fn a_first_task_that_does_not_point_at_itself_is_none() {
    let Some(guest) = patched(|linux| {
        let kthreadd = named(linux, "kthreadd").address();
        let first = VirtAddr::new(word(linux, member(linux, "task_struct", "real_parent", kthreadd)));
        vec![(member(linux, "task_struct", "group_leader", first), kthreadd.get())]
    }) else {
        return;
    };
    let linux = open(&guest);
    let why = linux.processes().err().unwrap().to_string();
    assert_eq!(why, "the kernel has no symbol init_task");
}

#[test]
fn run_queues_that_lead_anywhere_cost_no_thread() {
    for wild in WILD {
        let Some(guest) = patched(|linux| {
            let spinner = named(linux, "spinner").address();
            let queue = VirtAddr::new(word(linux, member(linux, "task_struct", "se.cfs_rq", spinner)));
            let queue = VirtAddr::new(word(linux, member(linux, "cfs_rq", "rq", queue)));
            vec![(member(linux, "rq", "curr", queue), wild), (member(linux, "rq", "idle", queue), wild)]
        }) else {
            return;
        };
        let linux = open(&guest);
        let spinner = named(&linux, "spinner");
        assert!(spinner.thread_row().on_cpu);
        assert!(
            linux.processes().unwrap().all(|task| task.is_ok_and(|task| task.thread_row().errors.is_empty()))
        );
        // Its registers are not known any more, and that is said.
        let stack = linux.stacks(&[spinner]).stack(&spinner, false, &mut vmc_unwind::Cache::new());
        assert!(stack.frames.is_empty() && !stack.errors.is_empty(), "{wild:#x}: {stack:?}");
    }
}

#[test]
fn a_list_of_modules_that_ends_nowhere_is_told() {
    for wild in WILD {
        let Some(guest) = patched(|linux| {
            let second = linux.modules().unwrap().nth(1).unwrap().unwrap().object;
            vec![(member(linux, "module", "list", second), wild)]
        }) else {
            return;
        };
        let linux = open(&guest);
        let rows: Vec<_> = linux.modules().unwrap().collect();
        // What the pointer leads to may still be a row, with errors.
        assert!((3..=4).contains(&rows.len()) && rows[1].is_ok(), "{wild:#x}: {}", rows.len());
        assert!(rows.last().unwrap().is_err(), "{wild:#x}");
    }
}

#[test]
fn types_whose_header_lies_are_none() {
    // Some MiB of types begin with their magic; the length of their strings is the header's last word.
    let Some(image) = image() else { return };
    let (region, finder) = (image.regions()[0], b"\x9f\xeb\x01\x00\x18\x00\x00\x00");
    let bytes = image.slice(region.start, region.len as usize).unwrap();
    let headers = bytes.windows(8).enumerate().step_by(4).filter(|(_, window)| window == finder);
    let words = headers.map(|(at, _)| (region.start.get() + at as u64 + 16, u64::MAX)).collect();
    let guest = Patched { image, words };
    let why = Linux::open(&guest, &guest.image).unwrap_err().to_string();
    assert!(why.contains("has no type information in memory"), "{why}");
}

#[test]
fn a_kernel_that_its_own_word_does_not_lead_to_is_not_believed() {
    let Some(image) = image() else { return };
    let (region, line) = (image.regions()[0], b"NUMBER(kimage_voffset)=0x");
    let bytes = image.slice(region.start, region.len as usize).unwrap();
    let places = bytes.windows(line.len()).enumerate().filter(|(_, window)| window == line);
    let words = places
        .map(|(at, _)| (region.start.get() + (at + line.len()) as u64, u64::from_le_bytes(*b"01234567")));
    let words: Vec<_> = words.collect();
    assert!(!words.is_empty());
    let guest = Patched { image, words };
    let why = Linux::open(&guest, &guest.image).unwrap_err().to_string();
    assert!(
        why.contains("no Linux kernel found") && why.contains("its page table maps _stext nowhere"),
        "{why}"
    );
}

#[test]
fn where_a_raw_images_memory_begins_is_found_out() {
    let Some(image) = image() else { return };
    let region = image.regions()[0];
    let bytes = image.slice(region.start, region.len as usize).unwrap();
    let raw = vmc::FlatMemory::new(PhysAddr::new(0), bytes);
    assert_eq!(ram_base(&raw), Some(region.start));
    // Nothing where there is no such kernel.
    let none = vmc::FlatMemory::new(PhysAddr::new(0), &bytes[..1 << 20]);
    assert_eq!(ram_base(&none), None);
    let placed = vmc::FlatMemory::new(region.start, bytes);
    let linux = Linux::open(&placed, &vmc::vcpu::NoVcpus).unwrap();
    assert_eq!(linux.facts().architecture, Architecture::Aarch64);
    assert!(linux.processes().unwrap().count() > 20);
}
